"""Description of the hardware and software behind a result: processor, memory, versions."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike
from threadpoolctl import threadpool_limits

PACKAGES = ("wide-flat-minima", "numpy", "numba", "scipy", "torch")


@cache
def _processor() -> str:
    import cpuinfo

    return str(cpuinfo.get_cpu_info().get("brand_raw") or platform.processor() or "unknown")


def describe_hardware() -> dict[str, str]:
    """Processor, usable cores, memory, operating system and the versions that matter."""
    import joblib
    import psutil

    description = {
        "processor": _processor(),
        "cores": str(joblib.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            description[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            description[package] = "not installed"
    return description


def git_revision(folder: Path) -> str | None:
    """Git revision of ``folder`` (with ``+`` if changed), or None outside a checkout."""
    try:
        revision = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return revision.stdout.strip()


def peak_memory() -> float:
    """Largest resident memory of this process so far, in MiB."""
    import resource  # not on Windows

    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def timed(function: Callable[[], object]) -> float:
    """Wall time of a call in seconds."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def product_speed(dtype: DTypeLike, size: int, repeats: int) -> float:
    """FLOP/s of a product of two square matrices on one thread: the best of ``repeats``."""
    a = np.random.default_rng(0).random((size, size)).astype(dtype)
    with threadpool_limits(limits=1):
        return max(2 * size**3 / timed(lambda: a @ a) for _ in range(repeats))
