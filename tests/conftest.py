"""Shared fixtures: a Dask cluster and the folder of the official Fashion-MNIST files."""

from __future__ import annotations

import os

# Each core runs one test process, so more threads would only compete. Libraries read these
# variables at their first import.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# ruff: noqa: E402
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster

FASHION_MNIST_FOLDERS = (Path(__file__).parents[2] / "shared" / "data" / "fashion-mnist",)


@pytest.fixture(scope="session")
def fashion_mnist_directory() -> Path:
    """Folder of the four official files. The test is skipped if there is none."""
    candidates = [*FASHION_MNIST_FOLDERS]
    if folder := os.environ.get("WIDE_FLAT_MINIMA_DATA"):
        candidates += [Path(folder), Path(folder) / "fashion-mnist"]
    for candidate in candidates:
        if (candidate / "train-images-idx3-ubyte.gz").exists():
            return candidate
    pytest.skip(
        "the official Fashion-MNIST files are not here; set WIDE_FLAT_MINIMA_DATA to their folder"
    )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler and two worker processes. The test is skipped if Dask is not installed."""
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.stop()
