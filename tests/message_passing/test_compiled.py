"""If numba cannot write a cache, kernels still compile and one warning says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import ROOT

PROGRAM = """
import numpy as np
import committee, message_passing
from committee._float32 import tanh
print(round(float(tanh(np.float32(0.5))), 3))
"""


@pytest.mark.compiled
def test_packages_that_cannot_write_a_cache(tmp_path: Path) -> None:
    """A file with the name of each cache folder blocks the cache, even for root."""
    for package in ("committee", "message_passing"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    for module in list(tmp_path.rglob("*.py")):
        (module.parent / "__pycache__").touch()
    nowhere = tmp_path / "nowhere"
    nowhere.touch()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    environment |= {"HOME": str(nowhere), "XDG_CACHE_HOME": str(nowhere)}
    environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and done.stdout == "0.462\n", done.stderr
    assert done.stderr.count("Set NUMBA_CACHE_DIR") == 1
