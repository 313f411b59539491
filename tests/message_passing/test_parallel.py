"""Tasks give the same results in this process, in worker processes and on a cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from message_passing.tools.parallel import run_tasks
from tests.cluster import Cluster


def draw(offset: float, seed: np.random.SeedSequence) -> tuple[float, int]:
    return offset + np.random.default_rng(seed).normal(), os.getpid()


def slow_draw(offset: float, seed: np.random.SeedSequence) -> tuple[float, int]:
    time.sleep(0.25)
    return draw(offset, seed)


def blas_threads(_: int) -> int:
    np.ones((4, 4)) @ np.ones((4, 4))
    return max(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")


def fail_on_three(task: int) -> int:
    if task == 3:
        raise ArithmeticError("task three")
    return task


def values(pairs: Iterator) -> list[float]:
    return [result[0] for _, result in sorted(pairs)]


def test_one_and_two_workers_give_the_same() -> None:
    seeds = np.random.SeedSequence(3).spawn(7)
    alone = values(run_tasks(draw, seeds, common=(1.0,), workers=1))
    together = list(run_tasks(slow_draw, seeds, common=(1.0,), workers=2))
    assert alone == values(iter(together))
    processes = {process for _, (_, process) in together}
    assert len(processes) == 2
    assert os.getpid() not in processes


@pytest.mark.parametrize("workers", [1, 2])
def test_linear_algebra_has_one_thread(workers: int) -> None:
    assert [n for _, n in run_tasks(blas_threads, [0, 1, 2], workers=workers)] == [1, 1, 1]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_reaches_the_caller(workers: int) -> None:
    seen = []
    with pytest.raises(ArithmeticError, match="task three"):
        for _, result in run_tasks(fail_on_three, [0, 1, 2, 3, 4], workers=workers):
            seen.append(result)
    assert set(seen) <= {0, 1, 2, 4}


def test_no_tasks() -> None:
    assert list(run_tasks(draw, [])) == []


def test_progress_bar_shows_time_left(capsys: pytest.CaptureFixture) -> None:
    list(run_tasks(abs, [1, 2], workers=1, progress=True, description="counting"))
    assert "counting: 100%" in capsys.readouterr().err
    list(run_tasks(abs, [1, 2], workers=1))
    assert capsys.readouterr().err == ""


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"workers is 0; a positive number"):
        run_tasks(abs, [1], workers=0)


def test_no_scheduler_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    monkeypatch.setattr("message_passing.tools.parallel.CONNECTION_TIMEOUT", 1)
    with pytest.raises(OSError, match=r"No Dask scheduler answers at .*tcp://127.0.0.1:9"):
        list(run_tasks(abs, [1], scheduler="tcp://127.0.0.1:9"))


def test_nothing_is_lost_when_a_cluster_worker_is_killed(cluster: Cluster) -> None:
    seeds = np.random.SeedSequence(3).spawn(40)
    completed = []
    victim = None
    for pair in run_tasks(slow_draw, seeds, common=(1.0,), scheduler=cluster.address):
        completed.append(pair)
        workers = {process for _, (_, process) in completed}
        if victim is None and len(workers) == 2:  # both have taken part
            victim = cluster.kill_a_worker()
    assert victim in workers
    assert sorted(index for index, _ in completed) == list(range(40))
    assert values(iter(completed)) == values(run_tasks(draw, seeds, common=(1.0,), workers=1))
