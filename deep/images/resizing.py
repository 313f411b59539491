"""Bilinear resizing of uint8 images on their device, the same on every device."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

PRECISION = 22  # bits after the point of Pillow's weights


def resized(images: Tensor, size: int) -> Tensor:
    """Images (B, C, size, size) in uint8 of images (B, C, H, W): Pillow's ``BILINEAR``.

    With antialiasing where they become smaller: the triangle is as wide as a new pixel. First
    along rows, rounded, then along columns, with weights rounded to 22 bits. These are whole
    numbers, whose sums are exact in double precision: the result is the same everywhere (torch's
    ``interpolate`` breaks the many ties of simple ratios by rounding errors, otherwise on a GPU
    than on a CPU). Of images that are not square Pillow may take the columns first, which changes
    the result by one here and there.
    """
    if images.shape[2:] == (size, size):
        return images
    across = _weights(images.shape[3], size, images.device)
    down = _weights(images.shape[2], size, images.device)
    rows = _rounded(images.double() @ across.T)
    return _rounded(down @ rows).to(torch.uint8)


def _rounded(sums: Tensor) -> Tensor:
    return torch.floor((sums + 2.0 ** (PRECISION - 1)) / 2.0**PRECISION).clamp(0, 255)


@lru_cache(maxsize=16)
def _weights(old: int, new: int, device: torch.device) -> Tensor:
    """Whole numbers (new, old), each row about 2²² in sum."""
    scale = old / new
    width = max(scale, 1.0)
    centres = (torch.arange(new, dtype=torch.float64) + 0.5).view(-1, 1) * scale
    pixels = torch.arange(old, dtype=torch.float64)
    triangle = (1 - ((pixels + 0.5 - centres) / width).abs()).clamp(min=0)
    weights = triangle / triangle.sum(1, keepdim=True)
    return torch.floor(weights * 2.0**PRECISION + 0.5).to(device)
