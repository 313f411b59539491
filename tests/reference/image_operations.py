"""The operations of AutoAugment with Pillow, one image at a time."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from deep.images.operations import CUTOUT_COLOUR


def operate_with_pillow(
    pixels: np.ndarray, operation: str, magnitude: float, place: tuple[float, float] = (0.5, 0.5)
) -> np.ndarray:
    """An image (3, H, W) in uint8 after one operation; see ``deep.images.operations.operate``."""
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    result = _operate(image, operation, magnitude, place)
    return np.asarray(result).transpose(2, 0, 1)


def _operate(
    image: Image.Image, operation: str, magnitude: float, place: tuple[float, float]
) -> Image.Image:
    width, height = image.size

    def affine(*matrix: float) -> Image.Image:
        return image.transform(image.size, Image.Transform.AFFINE, matrix)

    match operation:
        case "Identity":
            return image
        case "Invert":
            return ImageOps.invert(image)
        case "AutoContrast":
            return ImageOps.autocontrast(image)
        case "Equalize":
            return ImageOps.equalize(image)
        case "Solarize":
            return ImageOps.solarize(image, magnitude)  # type: ignore[arg-type]
        case "Posterize":
            return ImageOps.posterize(image, int(magnitude))
        case "Brightness" | "Contrast" | "Color" | "Sharpness":
            return getattr(ImageEnhance, operation)(image).enhance(magnitude)
        case "ShearX":
            return affine(1, magnitude, 0, 0, 1, 0)
        case "ShearY":
            return affine(1, 0, 0, magnitude, 1, 0)
        case "TranslateX":
            return affine(1, 0, magnitude * width, 0, 1, 0)
        case "TranslateY":
            return affine(1, 0, 0, 0, 1, magnitude * height)
        case "Rotate":
            return image.rotate(magnitude)
        case "Cutout":
            side = magnitude * width
            if side <= 0:
                return image
            x = int(max(0.0, place[1] * width - side / 2))
            y = int(max(0.0, place[0] * height - side / 2))
            corners = (x, y, min(width, x + side), min(height, y + side))
            image = image.copy()
            ImageDraw.Draw(image).rectangle(corners, CUTOUT_COLOUR)
            return image
    raise ValueError(operation)
