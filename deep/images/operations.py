"""AutoAugment's image operations on whole batches in pure torch, with the results of Pillow.

Every image of a batch has its own operation and magnitude. Sorting a batch by operation would make
a GPU wait for the CPU. So all images go through three stages: a table of 256 values for each
channel, a move of pixels, a blend with another image. A stage does not change images of other
operations.

================================  ==========================================  ======
operation                         magnitude                                   stage
================================  ==========================================  ======
``Identity``                                                                  none
``Invert``                                                                    table
``AutoContrast``, ``Equalize``                                                table
``Solarize``                      values from this one on are inverted        table
``Posterize``                     bits that are kept                          table
``Brightness``                    factor: 0 is black, 1 the image             table
``Contrast``                      factor: 0 is the mean grey, 1 the image     table
``ShearX``, ``ShearY``            pixels of shift per pixel                   move
``TranslateX``, ``TranslateY``    fraction of the image's width, height       move
``Rotate``                        degrees, counter-clockwise                  move
``Color``                         factor: 0 is grey, 1 the image              blend
``Sharpness``                     factor: 0 is smoothed, 1 the image          blend
``Cutout``                        side of a square, fraction of the width     blend
================================  ==========================================  ======

Pixels from outside the image are black. All results equal Pillow's: nearest neighbour in its
16.16 fixed-point arithmetic, tables in double precision, blends in single precision
(tests/deep/test_image_operations.py).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

OPERATIONS = (
    "Identity", "Invert", "AutoContrast", "Equalize", "Solarize", "Posterize", "Brightness",
    "Contrast", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Color", "Sharpness",
    "Cutout",
)  # fmt: skip
CODES = {name: code for code, name in enumerate(OPERATIONS)}

# Fill colour of Cutout in the published policies (the mean of ImageNet).
CUTOUT_COLOUR = (125, 123, 114)


def operate(
    images: Tensor, codes: Tensor, magnitudes: Tensor, places: Tensor | None = None
) -> Tensor:
    """Apply to each image its operation.

    Parameters
    ----------
    images
        Colour images (B, 3, H, W) in uint8.
    codes
        Indices in ``OPERATIONS``, integers (B,).
    magnitudes
        (B,) in float64; units as in the table above.
    places
        Centres (B, 2) of the squares of Cutout, fractions of height and width. Default: the
        middle.

    Raises ``ValueError`` for images that are not a batch of colour images in uint8.
    """
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3:
        raise ValueError(
            f"images has shape {tuple(images.shape)} and type {images.dtype}; "
            "(B, 3, H, W) in torch.uint8 was expected."
        )
    if places is None:
        places = torch.full((len(images), 2), 0.5, device=images.device)
    images = _through_tables(images, codes, magnitudes)
    images = _moved(images, codes, magnitudes)
    return _blended(images, codes, magnitudes, places)


def _through_tables(images: Tensor, codes: Tensor, magnitudes: Tensor) -> Tensor:
    count, channels, height, width = images.shape
    flat = images.reshape(count, channels, -1).long()
    histogram = torch.zeros((count, channels, 256), dtype=torch.int64, device=images.device)
    histogram.scatter_add_(2, flat, torch.ones_like(flat))
    grey = _grey(images).reshape(count, -1)
    # ImageStat's mean, rounded as ImageEnhance.Contrast does.
    mean = (grey.sum(1).double() / (height * width) + 0.5).floor()
    magnitude = magnitudes.view(-1, 1, 1)
    value = torch.arange(256, device=images.device).view(1, 1, -1)
    bits = magnitude.trunc().long().clamp(0, 8)
    tables = {
        "Identity": value,
        "Invert": 255 - value,
        "AutoContrast": _autocontrast_table(histogram),
        "Equalize": _equalize_table(histogram),
        "Solarize": torch.where(value < magnitude, value, 255 - value),
        "Posterize": value & -(1 << (8 - bits)),
        "Brightness": _blend(torch.zeros_like(value), value, magnitude),
        "Contrast": _blend(mean.view(-1, 1, 1), value, magnitude),
    }
    table = value.expand(count, channels, -1).to(torch.uint8)
    for name, candidate in tables.items():
        table = torch.where(codes.view(-1, 1, 1) == CODES[name], candidate.to(torch.uint8), table)
    return table.gather(2, flat).view_as(images)


def _autocontrast_table(histogram: Tensor) -> Tensor:
    """The darkest value becomes 0, the brightest 255. A single value is unchanged."""
    value = torch.arange(256, device=histogram.device)
    present = histogram > 0
    low = torch.where(present, value, 256).amin(2, keepdim=True)
    high = torch.where(present, value, -1).amax(2, keepdim=True)
    span = (high - low).clamp(min=1).double()
    scale = torch.full_like(span, 255.0) / span  # 255 / span would multiply by the reciprocal
    stretched = (value * scale + -low * scale).trunc().clamp(0, 255).long()
    return torch.where(high > low, stretched, value)


def _equalize_table(histogram: Tensor) -> Tensor:
    """The cumulative histogram, in Pillow's integer arithmetic."""
    value = torch.arange(256, device=histogram.device)
    last = torch.where(histogram > 0, value, -1).amax(2, keepdim=True)
    total = histogram.sum(2, keepdim=True)
    step = (total - histogram.gather(2, last)) // 255
    before = histogram.cumsum(2) - histogram
    safe = step.clamp(min=1)
    equalized = ((before + safe // 2) // safe).clamp(max=255)
    # The step is zero also if the image has a single value.
    return torch.where(step > 0, equalized, value)


def _blend(start: Tensor, end: Tensor, factor: Tensor) -> Tensor:
    """start + factor (end − start) in single precision, truncated to an integer in 0…255."""
    start, end = start.float(), end.float()
    return (start + factor.float() * (end - start)).clamp(0, 255).trunc()


def _grey(images: Tensor) -> Tensor:
    """ITU-R 601-2 luma (B, H, W) in Pillow's fixed-point arithmetic."""
    red, green, blue = images.int().unbind(1)
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


def _moved(images: Tensor, codes: Tensor, magnitudes: Tensor) -> Tensor:
    """Nearest neighbour of (a x + b y + c, d x + e y + f) for pixels with centres (x, y)."""
    count, _, height, width = images.shape
    device = images.device

    def only(name: str, otherwise: float = 0.0) -> Tensor:
        return torch.where(codes == CODES[name], magnitudes, otherwise)

    # Pillow rounds the rotation's sine and cosine to 15 digits.
    angle = -torch.deg2rad(only("Rotate"))
    cosine, sine = (torch.round(f(angle), decimals=15) for f in (torch.cos, torch.sin))
    half_width, half_height = width / 2, height / 2
    a, b = cosine, sine + only("ShearX")
    d, e = -sine + only("ShearY"), cosine
    rotated_x = -half_width * cosine + -half_height * sine + half_width
    rotated_y = -half_width * -sine + -half_height * cosine + half_height
    # The first pixel's centre is at ½, ½; a translation moves by whole pixels.
    c = rotated_x + torch.floor(only("TranslateX") * width + 0.5) + 0.5 * a + 0.5 * b
    f = rotated_y + torch.floor(only("TranslateY") * height + 0.5) + 0.5 * d + 0.5 * e

    def fixed(number: Tensor) -> Tensor:
        return torch.floor(number * 65536.0 + 0.5).long().view(-1, 1, 1)

    x = torch.arange(width, device=device)
    y = torch.arange(height, device=device).view(-1, 1)
    column = (fixed(a) * x + fixed(b) * y + fixed(c)) >> 16
    row = (fixed(d) * x + fixed(e) * y + fixed(f)) >> 16
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    source = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    flat = images.reshape(count, 3, -1)
    moved = flat.gather(2, source.view(count, 1, -1).expand(-1, 3, -1)).view_as(images)
    return moved * inside.unsqueeze(1)


def _blended(images: Tensor, codes: Tensor, magnitudes: Tensor, places: Tensor) -> Tensor:
    def chosen(name: str) -> Tensor:
        return (codes == CODES[name]).view(-1, 1, 1, 1)

    other = torch.where(chosen("Color"), _grey(images).unsqueeze(1).to(torch.uint8), images)
    other = torch.where(chosen("Sharpness"), _smoothed(images), other)
    result = _blend(other, images, magnitudes.view(-1, 1, 1, 1)).to(torch.uint8)
    result = torch.where(chosen("Color") | chosen("Sharpness"), result, images)
    square = _squares(images.shape, magnitudes, places) & chosen("Cutout")
    return torch.where(square, _cutout_colour(images.device), result)


@lru_cache(maxsize=16)
def _cutout_colour(device: torch.device) -> Tensor:
    """(1, 3, 1, 1), cached: a copy for each batch would make the device wait."""
    return torch.tensor(CUTOUT_COLOUR, dtype=torch.uint8).view(1, 3, 1, 1).to(device)


def _smoothed(images: Tensor) -> Tensor:
    """ImageFilter.SMOOTH: weights 1/13, in the middle 5/13. The border is unchanged."""
    if min(images.shape[2:]) < 3:
        return images
    pixels = images.float()
    # Sums of at most 13 · 255 are exact in single precision; n/13 is never halfway.
    inner = 9 * functional.avg_pool2d(pixels, 3, 1) + 4 * pixels[:, :, 1:-1, 1:-1]
    smooth = images.clone()
    smooth[:, :, 1:-1, 1:-1] = torch.div(2 * inner.round() + 13, 26, rounding_mode="floor").to(
        torch.uint8
    )
    return smooth


def _squares(shape: torch.Size, magnitudes: Tensor, places: Tensor) -> Tensor:
    """Whether a pixel is in Cutout's square, (B, 1, H, W). ImageDraw includes both borders."""
    _, _, height, width = shape
    side = magnitudes.view(-1, 1) * width
    masks = []
    for axis, length in enumerate((height, width)):
        pixel = torch.arange(length, device=places.device)
        start = (places[:, axis : axis + 1].double() * length - side / 2).clamp(min=0).trunc()
        end = (start + side).clamp(max=length).trunc()
        masks.append((pixel >= start) & (pixel <= end) & (side > 0))
    return (masks[0].unsqueeze(2) & masks[1].unsqueeze(1)).unsqueeze(1)
