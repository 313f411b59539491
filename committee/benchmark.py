"""Speed of training compared with a plain torch loop on the same hardware in the same run.

The plain loop is a first attempt: float32 weights, the closed-form gradient of a minibatch by
two matrix products, one machine after another. Both train the same algorithm on i.i.d. patterns,
with stopping rules that are never met. The package's time is a call of ``train``, including data
transfer, after the kernels are compiled and the processes have started.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from committee.algorithms import PUBLISHED, SGD, EntropySGD, MinibatchAlgorithm, ReplicatedSGD
from committee.patterns import PatternSet, load_patterns
from committee.training import train, train_restart
from message_passing.tools.files import write_table
from message_passing.tools.hardware import describe_hardware, peak_memory, product_speed, timed
from message_passing.tools.parallel import run_tasks, usable_cores
from message_passing.tools.tables import to_markdown
from message_passing.tools.validation import check_least

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

BASE = {"K": 9, "N": 784, "P": 500, "replicas": 10, "restarts": 1}
GRID = {
    "K": (3, 9, 21),
    "N": (196, 784, 3136),
    "P": (100, 500, 2000),
    "replicas": (1, 3, 10, 30),
    "restarts": (1, 2, 4, 8),
}
FIGURE_RESTARTS = 50

Row = dict[str, Any]


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measure the speed of training, compared with a plain torch loop."""

    epochs: int = 1500
    """Epochs of each restart with this package."""
    plain_epochs: int = 40
    """Epochs with the plain loop. Its cost per epoch is constant."""
    repeats: int = 3
    """Measurements of each number. The table shows the median and the range."""
    workers: int | None = None
    """Processes. Default: one on each core."""
    scaling: bool = True
    """Also measure how the cost grows with K, N, P, replicas and restarts."""
    whole: bool = False
    """Also train one restart per worker and algorithm until it stops, and extrapolate to 50."""
    data_dir: Path | None = None
    """Folder with the files of Fashion-MNIST, for `whole`."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE.csv")] = None
    """CSV file for the numbers. The growth is drawn in .pdf and .png files of the same name."""

    def __post_init__(self) -> None:
        check_least(self, epochs=1, plain_epochs=1, repeats=1, workers=1)


def run(config: BenchmarkConfig) -> pd.DataFrame:
    """Measure, print, write, and return one row per number."""
    import pandas as pd

    workers = config.workers or usable_cores()
    whole = load_patterns(directory=config.data_dir) if config.whole else None
    for key, value in describe_hardware().items():
        print(f"{key:18s} {value}")
    peak = product_speed(np.float32, 2048, config.repeats + 1)
    print(f"{'sgemm, one thread':18s} {peak / 1e9:.0f} GFLOP/s", flush=True)
    rows, problem = [], random_problem(500, 784)
    for name in ("sgd-fast", "rsgd-slow", "esgd"):
        mebibytes = measure_memory(problem, endless(PUBLISHED[name]), 9, workers, 4)
        rows.append(_row(f"peak MiB {name}", mebibytes, workers=workers))
    _print("peak memory, this process and the workers", rows)
    speeds = [measure_speed(name, config, workers, peak) for name in PUBLISHED]
    title = f"restart-epochs per second, K=9, N=784, P=500, minibatches of 100, {workers} workers"
    _print(title, speeds)
    rows += speeds
    if config.scaling:
        rows += measure_scaling(max(2, config.epochs // 10), workers)
    if whole is not None:
        runs = measure_whole_runs(whole, workers)
        _print(f"whole restarts to their stopping rule, one per worker: {whole.description}", runs)
        rows += runs
    table = pd.DataFrame(rows)
    if config.out is not None:
        write_table(config.out, table)
    return table


def _row(quantity: str, package: float, **others: object) -> Row:
    """One row of the table: a quantity, its sizes, its value."""
    row: Row = {
        "quantity": quantity, "growing": "", **BASE, "replicas": 1, "workers": 1,
        "plain_loop": np.nan, "package": package, "ratio": np.nan, "ratio_range": "",
        "share_of_peak": np.nan, "epochs": "",
    }  # fmt: skip
    return {**row, **others}


def _print(title: str, rows: list[Row]) -> None:
    import pandas as pd

    table = pd.DataFrame(rows).replace("", np.nan).dropna(axis="columns", how="all")
    fixed = ["K", "N", "P", "replicas", "restarts", "workers"]
    print(f"\n{title}\n{to_markdown(table.drop(columns=fixed))}", flush=True)


def measure_memory(
    patterns: PatternSet, algorithm: MinibatchAlgorithm, K: int, workers: int, epochs: int
) -> float:
    """Sum of the peak resident memory in MiB of this process and of ``workers`` that train.

    Each term is the largest value of a process so far. Shared libraries are counted once per
    process, so the sum is an upper bound.
    """
    seeds = np.random.SeedSequence(0).spawn(2 * workers)
    common = (patterns, replace(algorithm, max_epochs=epochs), K)
    peaks: dict[int, float] = {}
    for _, (process, peak) in run_tasks(_train_and_weigh, seeds, common=common, workers=workers):
        peaks[process] = max(peak, peaks.get(process, 0.0))
    peaks[os.getpid()] = peak_memory()
    return sum(peaks.values())


def _train_and_weigh(
    patterns: PatternSet, algorithm: MinibatchAlgorithm, K: int, seed: np.random.SeedSequence
) -> tuple[int, float]:
    train_restart(patterns, algorithm, K, seed)
    return os.getpid(), peak_memory()


def measure_speed(name: str, config: BenchmarkConfig, workers: int, peak: float) -> Row:
    """Restart-epochs per second of one algorithm, for the plain loop and for the package."""
    patterns, algorithm = random_problem(500, 784), endless(PUBLISHED[name])
    epochs = max(1, config.epochs // (10 if isinstance(algorithm, EntropySGD) else 1))
    plain, ours = [], []
    for repeat in range(config.repeats):
        # Compile and start the processes with other patterns, so that rotation is timed below.
        other = random_problem(500, 784, seed=1 + repeat)
        measure_package(other, algorithm, 9, workers, 4)
        plain.append(measure_plain(patterns, algorithm, 9, config.plain_epochs))
        ours.append(measure_package(patterns, algorithm, 9, workers, epochs))
    ratios = sorted(o / p for o, p in zip(ours, plain, strict=True))
    flop = 4 * 100 * 9 * 250 * machine_steps(algorithm, 500)
    return _row(
        f"restart-epochs/s {name}", median(ours), plain_loop=median(plain),
        replicas=getattr(algorithm, "replicas", 1), restarts=2 * workers, workers=workers,
        ratio=median(ratios), ratio_range=f"{ratios[0]:.1f} to {ratios[-1]:.1f}",
        share_of_peak=median(ours) * flop / (peak * workers),
    )  # fmt: skip


def measure_scaling(epochs: int, workers: int) -> list[Row]:
    """Milliseconds per epoch of rsgd-fast against K, N, P, replicas and restarts.

    There is one restart on one core, but the growth with the restarts uses ``workers`` cores.
    """
    rows: list[Row] = []
    for name, values in GRID.items():
        cores = workers if name == "restarts" else 1
        print(f"\nmilliseconds per epoch of rsgd-fast against {name}, {cores} worker(s)")
        for value in values:
            size = {**BASE, name: value}
            algorithm = endless(PUBLISHED["rsgd-fast"])
            algorithm = replace(algorithm, replicas=size["replicas"])  # type: ignore[call-arg]
            patterns = random_problem(size["P"], size["N"])
            sizes = size["K"], epochs, size["restarts"], cores
            ms = 1e3 * cost_per_epoch(patterns, algorithm, *sizes)
            print(f"  {name} = {value:5d}: {ms:8.3f}", flush=True)
            rows.append(_row("ms per epoch rsgd-fast", ms, growing=name, workers=cores, **size))
        before, last = (row["package"] for row in rows[-2:])
        if before > 0 and last > 0:  # a short measurement can be zero within its noise
            power = np.log(last / before) / np.log(values[-1] / values[-2])
            print(f"  from {name} = {values[-2]} to {values[-1]} as {name}^{power:.2f}")
    return rows


def cost_per_epoch(
    patterns: PatternSet,
    algorithm: MinibatchAlgorithm,
    K: int,
    epochs: int,
    restarts: int,
    workers: int,
) -> float:
    """Seconds per epoch of all restarts, without the initial costs (rotation, processes)."""

    def seconds(length: int) -> float:
        options: dict[str, Any] = {"hidden_units": K, "max_epochs": length, "workers": workers}
        return timed(lambda: train(patterns, algorithm, restarts, **options))

    seconds(1)  # compile and start the processes
    once = min(seconds(1) for _ in range(2))
    return max(seconds(1 + epochs) - once, 0.0) / epochs


def measure_whole_runs(patterns: PatternSet, workers: int) -> list[Row]:
    """Seconds of one restart per worker to its stopping rule, for every algorithm.

    Prints an estimate of the time for all restarts of a figure. It extrapolates from a few runs
    with different numbers of epochs.
    """
    rows, total = [], 0.0
    for name, algorithm in PUBLISHED.items():
        train(patterns, algorithm, workers, 9, max_epochs=1, workers=workers)
        start = time.perf_counter()
        machines = train(patterns, algorithm, workers, 9, workers=workers)
        seconds = time.perf_counter() - start
        total += seconds * FIGURE_RESTARTS / workers / 60
        rows.append(
            _row(
                f"s to the stopping rule {name}", seconds,
                P=len(patterns.train_labels), N=patterns.train_patterns.shape[1],
                replicas=getattr(algorithm, "replicas", 1), restarts=workers, workers=workers,
                epochs=" ".join(map(str, machines.epochs)),
            )
        )  # fmt: skip
    print(f"\n{len(PUBLISHED)} × {FIGURE_RESTARTS} whole restarts: {total:.0f} minutes")
    return rows


def endless(algorithm: MinibatchAlgorithm) -> MinibatchAlgorithm:
    """The algorithm with a stopping rule that is never met."""
    if isinstance(algorithm, SGD):
        return replace(algorithm, stop_at="cross-entropy", threshold=0.0)
    assert isinstance(algorithm, ReplicatedSGD | EntropySGD)
    return replace(algorithm, distance_threshold=0.0)


def random_problem(P: int, N: int, seed: int = 0) -> PatternSet:
    """I.i.d. patterns and labels."""
    rng = np.random.default_rng(seed)
    X = rng.choice((-1.0, 1.0), (P + 10, N))
    y = rng.choice((-1.0, 1.0), P + 10)
    return PatternSet(X[:P], y[:P], X[P:], y[P:], "random", "i.i.d. patterns and labels")


def machine_steps(algorithm: MinibatchAlgorithm, P: int) -> int:
    """Minibatch gradients of one restart in one epoch."""
    steps = -(-P // algorithm.batch_size)
    if isinstance(algorithm, ReplicatedSGD):
        return steps * algorithm.replicas
    return steps * (algorithm.inner_steps if isinstance(algorithm, EntropySGD) else 1)


def measure_package(
    patterns: PatternSet, algorithm: MinibatchAlgorithm, K: int, workers: int, epochs: int
) -> float:
    """Restart-epochs per second of ``train`` with two restarts per worker."""
    options: dict[str, Any] = {"restarts": 2 * workers, "hidden_units": K, "max_epochs": epochs}
    seconds = timed(lambda: train(patterns, algorithm, workers=workers, **options))
    return 2 * workers * epochs / seconds


def measure_plain(
    patterns: PatternSet, algorithm: MinibatchAlgorithm, K: int, epochs: int
) -> float:
    """Restart-epochs per second of the plain loop, on one thread or on all, the faster one."""
    import torch  # here, because this import takes two seconds

    threads = torch.get_num_threads()
    best = 0.0
    try:
        for count in sorted({1, usable_cores()}):
            torch.set_num_threads(count)
            plain_loop(patterns, algorithm, K, 1)
            seconds = timed(lambda: plain_loop(patterns, algorithm, K, epochs))
            best = max(best, epochs / seconds)
    finally:
        torch.set_num_threads(threads)
    return best


def plain_loop(
    patterns: PatternSet, algorithm: MinibatchAlgorithm, K: int, epochs: int
) -> NDArray[np.float32]:
    """Train one machine in the obvious way. Returns the weights (replicas, K, N)."""
    import torch

    torch.manual_seed(0)
    X = torch.tensor(patterns.train_patterns, dtype=torch.float32)
    y = torch.tensor(patterns.train_labels, dtype=torch.float32)
    P, N = X.shape

    def gradient(w: Tensor, batch: Tensor, beta: float, omega: float) -> Tensor:
        x, label = X[batch], y[batch]
        hidden = torch.tanh(beta * (x @ w.T))
        output = hidden.sum(dim=1) / K**0.5
        slope = -label * torch.sigmoid(-2 * omega * label * output)
        return ((slope * beta / K**0.5)[:, None] * (1 - hidden * hidden)).T @ x

    def unit(w: Tensor) -> Tensor:
        return w / w.norm(dim=1, keepdim=True)

    y_replicas = algorithm.replicas if isinstance(algorithm, ReplicatedSGD) else 1
    machines = [unit(torch.rand(K, N) * 2 - 1) for _ in range(y_replicas)]
    for epoch in range(epochs):
        beta, omega = float(algorithm.beta(epoch)), float(algorithm.omega(epoch))
        if isinstance(algorithm, EntropySGD):
            gamma = algorithm.elastic_scale * float(algorithm.gamma(epoch))
            w, L, lr = machines[0], algorithm.inner_steps, algorithm.inner_lr
            batches = [b for _ in range(L) for b in torch.randperm(P).split(algorithm.batch_size)]
            for first in range(0, len(batches), L):
                inner, mu = w.clone(), w.clone()
                for batch in batches[first : first + L]:
                    step = gradient(inner, batch, beta, omega) + gamma * (inner - w)
                    noise = lr**0.5 * algorithm.noise * torch.randn(K, N)
                    inner = unit(inner - lr * step + noise)
                    mu = algorithm.averaging * mu + (1 - algorithm.averaging) * inner
                w = unit(w - algorithm.lr * (w - mu))
            machines[0] = w
            continue
        orders = [torch.randperm(P).split(algorithm.batch_size) for _ in machines]
        for step_batches in zip(*orders, strict=True):
            coupling, centre = 0.0, machines[0]
            if isinstance(algorithm, ReplicatedSGD):
                coupling = algorithm.elastic_scale * float(algorithm.gamma(epoch))
                centre = torch.stack(machines).mean(dim=0)
            for a, batch in enumerate(step_batches):
                w = machines[a]
                step = gradient(w, batch, beta, omega)
                if coupling:
                    step = step + coupling * (w - centre)
                machines[a] = unit(w - algorithm.lr * step)
    return torch.stack(machines).numpy()
