"""Replicated-SGD over several processes (gloo) equals the run in one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.deep.distributed_worker import train

ROOT = Path(__file__).parents[2]


def torchrun(folder, processes, *arguments):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
        str(processes), "-m", "tests.deep.distributed_worker", str(folder), *map(str, arguments),
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=120)


@pytest.fixture(autouse=True)
def one_thread():
    """One thread, as in torchrun's processes, so that sums round alike."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("processes", "replicas", "coupling"), [(2, 2, "explicit"), (2, 4, "implicit")]
)
def test_equals_the_run_in_one_process(tmp_path, processes, replicas, coupling):
    result = torchrun(tmp_path, processes, replicas, 12, coupling)
    assert result.returncode == 0, result.stderr.decode()[-2000:]
    models, optimizer, centre = train(range(replicas), coupling, 12)
    # The order of a sum over more than two replicas changes its last bits.
    tolerance = {"rtol": 0, "atol": 0} if replicas == 2 else {"rtol": 1e-5, "atol": 1e-6}

    def load(name):
        return torch.load(tmp_path / name, weights_only=True)

    for index, model in enumerate(models):
        stored = load(f"replica-{index}.pt")
        for key, value in model.state_dict().items():
            torch.testing.assert_close(stored[key], value, **tolerance)
    for rank in range(processes):
        stored = load(f"centre-{rank}.pt")
        for key, value in centre.state_dict().items():
            torch.testing.assert_close(stored[key], value, **tolerance)
        assert load(f"gamma0-{rank}.pt").item() == pytest.approx(optimizer.gamma0, rel=1e-6)


def test_a_lost_process_is_reported_by_the_others(tmp_path):
    result = torchrun(tmp_path, 2, 2, 60, "explicit", 10)
    assert result.returncode != 0
    lost = tmp_path / "lost-0.txt"
    assert lost.exists(), result.stderr.decode()[-3000:]
    assert "resumes from the last checkpoint" in lost.read_text()
