"""Crop, flip and normalisation of a batch of uint8 images, on their device, per image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Preprocessing:
    """The "standard preprocessing" of [P21] App. C, for training and evaluation.

    ``mean`` and ``std`` (C,) are those of the training set, in units of pixels in [0, 1]. In
    training an image is padded with ``padding`` black pixels on each side, cropped to its size
    at a random place and, with ``flip``, mirrored with probability ½, each image on its own.
    """

    mean: Tensor
    std: Tensor
    padding: int = 4
    flip: bool = True

    def evaluate(self, images: Tensor) -> Tensor:
        """Normalised float images (B, C, H, W) of uint8 images of that shape."""
        shape = (1, -1, 1, 1)
        scaled = images.float() / 255
        return (scaled - self.mean.view(shape)) / self.std.view(shape)

    def train(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The same after a random crop and flip drawn from ``generator`` (on their device)."""
        count, channels, height, width = images.shape
        device = images.device

        def draw(high: int) -> Tensor:
            return torch.randint(0, high, (count, 1), generator=generator, device=device)

        rows = draw(2 * self.padding + 1) + torch.arange(height, device=device)
        columns = draw(2 * self.padding + 1) + torch.arange(width, device=device)
        if self.flip:
            columns = torch.where(draw(2) == 1, columns.flip(1), columns)
        padded = functional.pad(images, (self.padding,) * 4)
        moved = padded[
            torch.arange(count, device=device)[:, None, None, None],
            torch.arange(channels, device=device)[None, :, None, None],
            rows[:, None, :, None],
            columns[:, None, None, :],
        ]
        return self.evaluate(moved)
