"""What training costs: time against every size, peak memory, whole runs to their stopping rule."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from committee.patterns import PatternSet
from committee.protocols import PROTOCOLS, SGD, EntropySGD, Protocol, ReplicatedSGD
from committee.training import train, train_restart
from message_passing.tools.hardware import peak_memory
from message_passing.tools.parallel import run_tasks

BASE = {"K": 9, "N": 784, "P": 500, "replicas": 10, "restarts": 1}
GRID = {
    "K": (3, 9, 21),
    "N": (196, 784, 3136),
    "P": (100, 500, 2000),
    "replicas": (1, 3, 10, 30),
    "restarts": (1, 2, 4, 8),
}

Row = dict[str, object]


def cost_row(quantity: str, package: float, **others: object) -> Row:
    """One line of the benchmark's table: what, at which sizes, how much."""
    row: Row = {
        "quantity": quantity, "growing": "", **BASE, "replicas": 1, "workers": 1,
        "plain_loop": "", "package": package, "ratio": "", "share_of_peak": "",
    }  # fmt: skip
    if unknown := others.keys() - row.keys():
        raise ValueError(f"others has {sorted(unknown)}; some of {', '.join(row)} were expected.")
    return {**row, **others}


def measure_scaling(epochs: int, workers: int) -> list[Row]:
    """Milliseconds per epoch of rsgd-fast against K, N, P, replicas and restarts.

    One restart on one core, but for the growth with the restarts, which fill ``workers`` cores.
    """
    rows: list[Row] = []
    for name, values in GRID.items():
        cores = workers if name == "restarts" else 1
        print(f"\nmilliseconds per epoch of rsgd-fast against {name}, {cores} worker(s)")
        for value in values:
            size = {**BASE, name: value}
            protocol = endless(PROTOCOLS["rsgd-fast"])
            protocol = replace(protocol, replicas=size["replicas"])  # type: ignore[call-arg]
            patterns = random_problem(size["P"], size["N"])
            restarts, K = size["restarts"], size["K"]
            milliseconds = 1e3 * cost_per_epoch(patterns, protocol, K, epochs, restarts, cores)
            print(f"  {name} = {value:5d}: {milliseconds:8.3f}", flush=True)
            quantity = "ms per epoch rsgd-fast"
            rows.append(cost_row(quantity, milliseconds, growing=name, workers=cores, **size))
        before, last = (float(row["package"]) for row in rows[-2:])  # type: ignore[arg-type]
        if before > 0 and last > 0:  # not lost in the noise of a short measurement
            power = np.log(last / before) / np.log(values[-1] / values[-2])
            print(f"  from {name} = {values[-2]} to {values[-1]} as {name}^{power:.2f}")
    return rows


def cost_per_epoch(
    patterns: PatternSet,
    protocol: Protocol,
    K: int,
    epochs: int,
    restarts: int = 1,
    workers: int = 1,
) -> float:
    """Seconds per epoch of all restarts, without what is done once (rotation, processes)."""

    def seconds(length: int) -> float:
        return timed(
            lambda: train(patterns, protocol, restarts, K, max_epochs=length, workers=workers)
        )

    seconds(1)  # compiles, starts the processes
    once = min(seconds(1) for _ in range(2))
    return max(seconds(1 + epochs) - once, 0.0) / epochs


def measure_memory(
    patterns: PatternSet, protocol: Protocol, K: int, workers: int, epochs: int
) -> float:
    """Peak resident memory in MiB of this process and of ``workers`` that train, summed.

    Every process counts with its own largest value so far; what they share (libraries) is
    counted once for each, so that this is an upper bound.
    """
    seeds = np.random.SeedSequence(0).spawn(2 * workers)
    common = (patterns, replace(protocol, max_epochs=epochs), K)
    peaks: dict[int, float] = {}
    for _, (process, peak) in run_tasks(_train_and_weigh, seeds, common=common, workers=workers):
        peaks[process] = max(peak, peaks.get(process, 0.0))
    peaks[os.getpid()] = peak_memory()
    return sum(peaks.values())


def _train_and_weigh(
    patterns: PatternSet,
    protocol: SGD | ReplicatedSGD | EntropySGD,
    K: int,
    seed: np.random.SeedSequence,
) -> tuple[int, float]:
    train_restart(patterns, protocol, K, seed)
    return os.getpid(), peak_memory()


def measure_whole_runs(patterns: PatternSet, workers: int, restarts: int = 50) -> list[Row]:
    """Seconds of one restart per worker to its stopping rule, for every protocol.

    Prints what ``restarts`` of each would take: an extrapolation from a few, whose numbers of
    epochs vary.
    """
    print(f"\nwhole restarts to their stopping rule, one per worker: {patterns.description}")
    rows, total = [], 0.0
    for name, protocol in PROTOCOLS.items():
        train(patterns, protocol, workers, 9, max_epochs=1, workers=workers)
        start = time.perf_counter()
        machines = train(patterns, protocol, workers, 9, workers=workers)
        seconds = time.perf_counter() - start
        minutes = seconds * restarts / workers / 60
        total += minutes
        epochs = ", ".join(map(str, machines.epochs))
        print(
            f"  {name:10s} {seconds:8.1f} s ({epochs} epochs);"
            f" {restarts} restarts: {minutes:.1f} minutes",
            flush=True,
        )
        rows.append(
            cost_row(
                f"s to the stopping rule {name}", seconds,
                P=len(patterns.train_labels), N=patterns.train_patterns.shape[1],
                replicas=getattr(protocol, "replicas", 1), restarts=workers, workers=workers,
            )
        )  # fmt: skip
    print(f"  {'all':10s} {len(PROTOCOLS)} × {restarts} restarts: {total:.0f} minutes")
    return rows


def endless(protocol: Protocol) -> Protocol:
    """The protocol with a stopping rule that is never met."""
    if isinstance(protocol, SGD):
        return replace(protocol, stop_at="cross-entropy", threshold=1e-300)
    assert isinstance(protocol, ReplicatedSGD | EntropySGD)
    return replace(protocol, distance_threshold=0.0)


def random_problem(P: int, N: int, seed: int = 0) -> PatternSet:
    """I.i.d. patterns and labels."""
    rng = np.random.default_rng(seed)
    X = rng.choice((-1.0, 1.0), (P + 10, N))
    y = rng.choice((-1.0, 1.0), P + 10)
    return PatternSet(X[:P], y[:P], X[P:], y[P:], "random", "i.i.d. patterns and labels")


def timed(function: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
