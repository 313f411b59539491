"""Speed of training, measured beside a plain torch loop on the same machine in the same run.

The plain loop is what one writes first: float32 weights, the closed-form gradient of a
minibatch by two matrix products, one machine after another. Both sides train the same protocol
on i.i.d. patterns, with stopping rules that are never met. The package's time includes
everything between ``train`` being called and its result, processes and data transfer too; its
kernels are compiled and the processes started before the clock runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from committee.costs import (
    Row,
    cost_row,
    endless,
    measure_memory,
    measure_scaling,
    measure_whole_runs,
    random_problem,
    timed,
)
from committee.datasets import load_patterns
from committee.patterns import PatternSet
from committee.protocols import PROTOCOLS, EntropySGD, Protocol, ReplicatedSGD
from committee.training import train
from message_passing.tools.files import write_csv
from message_passing.tools.hardware import describe_hardware
from message_passing.tools.parallel import usable_cores

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measure the speed of training beside a plain torch loop."""

    epochs: int = 1500
    """Epochs of each restart with this package."""
    plain_epochs: int = 40
    """Epochs with the plain loop, whose cost per epoch is constant."""
    repeats: int = 3
    """Measurements of each number; the median is printed, with the range."""
    workers: int | None = None
    """Processes; all cores by default."""
    scaling: bool = True
    """Also measure how the cost grows with K, N, P, replicas and restarts."""
    whole: bool = False
    """Also train one restart per worker and protocol until it stops, and extrapolate to 50."""
    data_dir: Path | None = None
    """Folder with the files of Fashion-MNIST, for the whole runs (else looked for as always)."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE.csv")] = None
    """Write the numbers to this CSV file, and the growth as .pdf and .png beside it."""


def run(config: BenchmarkConfig) -> list[Row]:
    """Measure, print, and return one row per number."""
    workers = config.workers or usable_cores()
    for key, value in describe_hardware().items():
        print(f"{key:18s} {value}")
    peak = measure_peak(config.repeats)
    print(f"{'sgemm, one thread':18s} {peak / 1e9:.0f} GFLOP/s\n")
    rows: list[Row] = []
    patterns = random_problem(500, 784)
    print("peak memory, this process and the workers")
    for name in ("sgd-fast", "rsgd-slow", "esgd"):
        mebibytes = measure_memory(patterns, endless(PROTOCOLS[name]), 9, workers, 4)
        print(f"  {name:10s} {mebibytes:6.0f} MiB")
        rows.append(cost_row(f"peak MiB {name}", mebibytes, workers=workers))
    print(f"\nrestart-epochs per second, K=9, N=784, P=500, minibatches of 100, {workers} workers")
    header = ("protocol", "plain loop", "package", "ratio", "median (range) of ratios", "of peak")
    print("{:10s} {:>12s} {:>12s} {:>8s} {:>26s} {:>8s}".format(*header))
    for name in PROTOCOLS:
        protocol = endless(PROTOCOLS[name])
        epochs = max(1, config.epochs // (10 if isinstance(protocol, EntropySGD) else 1))
        plain, ours = [], []
        for repeat in range(config.repeats):
            # Compile and start the processes, with other patterns: rotating them is on the clock.
            other = random_problem(500, 784, seed=1 + repeat)
            measure_package(other, protocol, 9, workers, 4)
            plain.append(measure_plain(patterns, protocol, 9, config.plain_epochs))
            ours.append(measure_package(patterns, protocol, 9, workers, epochs))
        ratios = sorted(o / p for o, p in zip(ours, plain, strict=True))
        flop = 4 * 100 * 9 * 250 * machine_steps(protocol, 500)
        share = median(ours) * flop / (peak * workers)
        spread = f"({ratios[0]:.1f} to {ratios[-1]:.1f})"
        print(
            f"{name:10s} {median(plain):12.1f} {median(ours):12.1f} {median(ratios):8.1f}"
            f" {spread:>26s} {share:8.1%}"
        )
        rows.append(
            cost_row(
                f"restart-epochs/s {name}", median(ours), plain_loop=median(plain),
                replicas=getattr(protocol, "replicas", 1), restarts=2 * workers, workers=workers,
                ratio=median(ratios), share_of_peak=share,
            )
        )  # fmt: skip
    if config.scaling:
        rows += measure_scaling(max(2, config.epochs // 10), workers)
    if config.whole:
        rows += measure_whole_runs(load_patterns(directory=config.data_dir), workers)
    if config.out is not None:
        write_csv(config.out, rows)
    return rows


def machine_steps(protocol: Protocol, P: int) -> int:
    """Minibatch gradients of one restart in one epoch."""
    steps = -(-P // protocol.batch_size)
    if isinstance(protocol, ReplicatedSGD):
        return steps * protocol.replicas
    return steps * (protocol.inner_steps if isinstance(protocol, EntropySGD) else 1)


def measure_peak(repeats: int, size: int = 2048) -> float:
    """FLOP/s of a large float32 matrix product on one thread."""
    a = np.random.default_rng(0).random((size, size), dtype=np.float32)
    with threadpool_limits(limits=1):
        return max(2 * size**3 / timed(lambda: a @ a) for _ in range(repeats + 1))


def measure_package(
    patterns: PatternSet, protocol: Protocol, K: int, workers: int, epochs: int
) -> float:
    """Restart-epochs per second of ``train`` with two restarts per worker."""
    restarts = 2 * workers
    seconds = timed(
        lambda: train(patterns, protocol, restarts, K, max_epochs=epochs, workers=workers)
    )
    return restarts * epochs / seconds


def measure_plain(patterns: PatternSet, protocol: Protocol, K: int, epochs: int) -> float:
    """Restart-epochs per second of the plain loop, with the better of one and all threads."""
    import torch  # two seconds that the other commands need not wait

    threads = torch.get_num_threads()
    best = 0.0
    try:
        for count in sorted({1, usable_cores()}):
            torch.set_num_threads(count)
            plain_loop(patterns, protocol, K, 1)
            seconds = timed(lambda: plain_loop(patterns, protocol, K, epochs))
            best = max(best, epochs / seconds)
    finally:
        torch.set_num_threads(threads)
    return best


def plain_loop(
    patterns: PatternSet, protocol: Protocol, K: int, epochs: int
) -> NDArray[np.float32]:
    """Train one machine as one would write it first; returns the weights (replicas, K, N)."""
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

    y_replicas = protocol.replicas if isinstance(protocol, ReplicatedSGD) else 1
    machines = [unit(torch.rand(K, N) * 2 - 1) for _ in range(y_replicas)]
    for epoch in range(epochs):
        beta, omega = float(protocol.beta(epoch)), float(protocol.omega(epoch))
        if isinstance(protocol, EntropySGD):
            gamma = protocol.elastic_scale * float(protocol.gamma(epoch))
            w, L, lr = machines[0], protocol.inner_steps, protocol.inner_lr
            batches = [b for _ in range(L) for b in torch.randperm(P).split(protocol.batch_size)]
            for first in range(0, len(batches), L):
                inner, mu = w.clone(), w.clone()
                for batch in batches[first : first + L]:
                    step = gradient(inner, batch, beta, omega) + gamma * (inner - w)
                    inner = inner - lr * step + lr**0.5 * protocol.noise * torch.randn(K, N)
                    inner = unit(inner)
                    mu = protocol.averaging * mu + (1 - protocol.averaging) * inner
                w = unit(w - protocol.lr * (w - mu))
            machines[0] = w
            continue
        orders = [torch.randperm(P).split(protocol.batch_size) for _ in machines]
        for step_batches in zip(*orders, strict=True):
            coupling, centre = 0.0, machines[0]
            if isinstance(protocol, ReplicatedSGD):
                coupling = protocol.elastic_scale * float(protocol.gamma(epoch))
                centre = torch.stack(machines).mean(dim=0)
            for a, batch in enumerate(step_batches):
                w = machines[a]
                step = gradient(w, batch, beta, omega)
                if coupling:
                    step = step + coupling * (w - centre)
                machines[a] = unit(w - protocol.lr * step)
    return torch.stack(machines).numpy()
