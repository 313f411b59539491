"""The image operations against Pillow, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deep.images.operations import CODES, OPERATIONS, operate
from tests.reference.image_operations import operate_with_pillow

FACTORS = (0.0, 0.1, 0.28, 0.5, 0.946, 1.0, 1.18, 1.54, 1.9)
FRACTIONS = (-0.45, -9 / 32, -0.2, -1 / 64, 0.0, 0.07, 0.25, 0.31, 0.45)
MAGNITUDES = {
    "Identity": (0.0,),
    "Invert": (0.0,),
    "AutoContrast": (0.0,),
    "Equalize": (0.0,),
    "Solarize": (0.0, 1.0, 51.2, 128.0, 200.7, 255.0, 256.0),
    "Posterize": (1.0, 2.0, 4.0, 5.9, 7.0, 8.0),
    "Brightness": FACTORS,
    "Contrast": FACTORS,
    "Color": FACTORS,
    "Sharpness": FACTORS,
    "ShearX": (-0.3, -0.21, 0.0, 0.03, 0.1234, 0.3),
    "ShearY": (-0.3, -0.21, 0.0, 0.03, 0.1234, 0.3),
    "TranslateX": FRACTIONS,
    "TranslateY": FRACTIONS,
    "Rotate": (-30.0, -17.3, -6.0, 0.0, 1.0, 9.0, 12.34, 30.0),
    "Cutout": (0.0, 0.05, 0.1, 0.163, 0.2),
}


def pictures(height: int, width: int) -> np.ndarray:
    """Hard cases for tables: noise, a dim gradient, few values, one value, black and white."""
    rng = np.random.default_rng(0)
    shape = (3, height, width)
    rows, columns = np.mgrid[:height, :width]
    return np.stack(
        [
            rng.integers(256, size=shape),
            60 + rows + 2 * columns + rng.integers(9, size=shape),
            rng.choice([3, 90, 91, 200], size=shape, p=[0.7, 0.1, 0.1, 0.1]),
            np.broadcast_to(np.array([17, 200, 255])[:, None, None], shape),
            255 * rng.integers(2, size=shape),
        ]
    ).astype(np.uint8)


def applied(images: np.ndarray, operation: str, magnitude: float, **options) -> np.ndarray:
    count = len(images)
    result = operate(
        torch.from_numpy(images),
        torch.full((count,), CODES[operation]),
        torch.full((count,), magnitude, dtype=torch.float64),
        **options,
    )
    return result.numpy()


@pytest.mark.parametrize("shape", [(32, 32), (20, 33), (64, 64), (5, 2)])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_equal_pillow(operation, shape):
    images = pictures(*shape)
    for magnitude in MAGNITUDES[operation]:
        expected = np.stack([operate_with_pillow(i, operation, magnitude) for i in images])
        np.testing.assert_array_equal(applied(images, operation, magnitude), expected)


def test_random_magnitudes_equal_pillow():
    """Every image of a batch has its own operation, magnitude and place, in one call."""
    rng = np.random.default_rng(1)
    images = rng.integers(256, size=(600, 3, 32, 32), dtype=np.uint8)
    names = rng.choice(list(MAGNITUDES), size=len(images))
    ends = np.array([(min(MAGNITUDES[n]), max(MAGNITUDES[n])) for n in names])
    magnitudes = rng.uniform(ends[:, 0], ends[:, 1])
    places = rng.random((len(images), 2)).astype(np.float32)
    result = operate(
        torch.from_numpy(images),
        torch.tensor([CODES[n] for n in names]),
        torch.from_numpy(magnitudes),
        torch.from_numpy(places),
    ).numpy()
    for image, name, magnitude, place, own in zip(
        images, names, magnitudes, places, result, strict=True
    ):
        expected = operate_with_pillow(image, name, magnitude, tuple(place.astype(float)))
        np.testing.assert_array_equal(own, expected, err_msg=f"{name} {magnitude} {place}")


def test_bad_images():
    codes, magnitudes = torch.zeros(2, dtype=torch.int64), torch.zeros(2).double()
    with pytest.raises(ValueError, match=r"images has shape \(2, 3, 8, 8\) and type torch.float32"):
        operate(torch.zeros(2, 3, 8, 8), codes, magnitudes)
    with pytest.raises(ValueError, match=r"images has shape \(2, 1, 8, 8\)"):
        operate(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), codes, magnitudes)
