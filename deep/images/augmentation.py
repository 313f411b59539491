"""Resize, augment and normalise batches of uint8 images on their device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from deep.images.policies import PolicyOnDevice


@dataclass(frozen=True)
class Preprocessing:
    """Resizing and normalisation, and the augmentation of [P21] App. C in training.

    Training resizes, applies ``policy``, crops and flips ("standard preprocessing"), normalises and
    cuts out. The policy sees whole images, before the crop, as in AutoAugment.

    Attributes
    ----------
    mean, std
        (C,), over the training set, for pixels in [0, 1].
    padding
        Black pixels on each side; the image is then cropped to its size at a random place.
    flip
        Mirror with probability ½.
    size
        Side of the images that the network gets; 0 keeps the original size.
    policy
        Operations drawn for each image (``deep.images.policies``).
    cutout
        Side of a square of zeros around a random pixel, after normalisation. Parts of it may lie
        outside (DeVries & Taylor, 2017).
    """

    mean: Tensor
    std: Tensor
    padding: int = 4
    flip: bool = True
    size: int = 0
    policy: PolicyOnDevice | None = None
    cutout: int = 0

    def evaluate(self, images: Tensor) -> Tensor:
        """Normalised float images (B, C, H, W) from uint8 images."""
        return self._normalised(self._resized(images))

    def train(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Normalised images after augmentation, drawn from ``generator`` on their device."""
        images = self._resized(images)
        if self.policy is not None:
            images = self.policy(images, generator)
        images = self._normalised(self._cropped(images, generator))
        return images if self.cutout == 0 else images * self._kept(images, generator)

    def _resized(self, images: Tensor) -> Tensor:
        size = (self.size, self.size)
        return resized(images, size) if self.size > 0 and images.shape[2:] != size else images

    def _normalised(self, images: Tensor) -> Tensor:
        shape = (1, -1, 1, 1)
        scaled = images.float() / 255
        return (scaled - self.mean.view(shape)) / self.std.view(shape)

    def _cropped(self, images: Tensor, generator: torch.Generator) -> Tensor:
        count, channels, height, width = images.shape
        device = images.device

        def draw(high: int) -> Tensor:
            return torch.randint(0, high, (count, 1), generator=generator, device=device)

        rows = draw(2 * self.padding + 1) + torch.arange(height, device=device)
        columns = draw(2 * self.padding + 1) + torch.arange(width, device=device)
        if self.flip:
            columns = torch.where(draw(2) == 1, columns.flip(1), columns)
        padded = functional.pad(images, (self.padding,) * 4)
        return padded[
            torch.arange(count, device=device)[:, None, None, None],
            torch.arange(channels, device=device)[None, :, None, None],
            rows[:, None, :, None],
            columns[:, None, None, :],
        ]

    def _kept(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Mask (B, 1, H, W), False in a square of each image."""
        count, _, *shape = images.shape
        inside = []
        for length in shape:
            centre = torch.randint(length, (count, 1), generator=generator, device=images.device)
            pixel = torch.arange(length, device=images.device)
            start = centre - self.cutout // 2
            inside.append((pixel >= start) & (pixel < start + self.cutout))
        return ~(inside[0].unsqueeze(2) & inside[1].unsqueeze(1)).unsqueeze(1)


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize uint8 images (B, C, H, W) to (B, C, *size) by bilinear interpolation.

    Downscaling is antialiased by a triangle as wide as a new pixel. 32×32 to 224×224 equals
    Pillow's ``BILINEAR`` in every pixel, on every device. Other sizes differ from it by up to two
    grey levels, since torch rounds the weights to 16 bits and Pillow to 22.
    """
    if images.device.type == "cpu":
        return _interpolated(images, size)
    # Other devices interpolate floating-point images only. Pillow rounds after each axis.
    rows = _interpolated(images.float(), (images.shape[2], size[1])).round()
    return _interpolated(rows, size).round().to(torch.uint8)


def _interpolated(images: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(images, size, mode="bilinear", antialias=True)
