"""Fixtures of the committee tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.committee.cluster import Cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler and two worker processes; skipped where Dask is not installed."""
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.stop()
