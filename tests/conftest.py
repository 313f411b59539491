"""Shared fixtures: where the official Fashion-MNIST files are, if anywhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FASHION_MNIST_FOLDERS = (Path(__file__).parents[2] / "shared" / "data" / "fashion-mnist",)


@pytest.fixture(scope="session")
def fashion_mnist_directory() -> Path:
    """Folder with the four official files; the test is skipped where it is nowhere."""
    candidates = [*FASHION_MNIST_FOLDERS]
    if folder := os.environ.get("WIDE_FLAT_MINIMA_DATA"):
        candidates += [Path(folder), Path(folder) / "fashion-mnist"]
    for candidate in candidates:
        if (candidate / "train-images-idx3-ubyte.gz").exists():
            return candidate
    pytest.skip(
        "the official Fashion-MNIST files are not here; set WIDE_FLAT_MINIMA_DATA to their folder"
    )
