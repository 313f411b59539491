"""Speed and memory of the engines on one core.

Every number is measured in a fresh process, on one thread, after the kernels are compiled. The
time includes everything from the arrays to the curve (Gram matrix and factorisations too). Memory
is the peak of the whole process. A column has the peak before the first curve.
"""

from __future__ import annotations

import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from message_passing.example_machines import flat_machine, image_like_patterns, sharp_machine
from message_passing.local_entropy import ENGINES, local_entropy_curve, resolve_engine
from message_passing.networks import load_network
from message_passing.problem import ReferenceProblem
from message_passing.tools.files import write_table
from message_passing.tools.hardware import describe_hardware, peak_memory, product_speed
from message_passing.tools.tables import to_markdown
from message_passing.tools.validation import check_least

if TYPE_CHECKING:
    import pandas as pd

BASE = {"K": 9, "N": 784, "P": 500}
GRID = {"P": (125, 250, 500, 1000, 2000), "N": (196, 784, 3136), "K": (3, 9, 21)}
DISTANCE = 0.3
#: Columns that are printed.
SHOWN = [
    "machine", "engine", "K", "N", "P", "seconds", "seconds_min", "seconds_max", "iterations",
    "distance", "local_entropy", "relative_error", "not_converged", "peak_memory_mib",
]  # fmt: skip
MAKERS = {"sharp": sharp_machine, "flat": flat_machine}

Row = dict[str, Any]


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measure time and memory of the engines on one core."""

    engines: tuple[str, ...] = tuple(ENGINES)
    """Engines to measure."""
    weights: Annotated[Path | None, tyro.conf.arg(metavar="WEIGHTS.npz")] = None
    """File of weights (see `curve`). Its first machine without training errors is measured.
    Default: a sharp and a flat machine made from the seed, K=9, N=784, P=500."""
    patterns: Annotated[Path | None, tyro.conf.arg(metavar="PATTERNS.npz")] = None
    """File of the machine's patterns. Default: the file of the weights."""
    repeats: int = 3
    """Measurements of each number. The table shows the median and the range."""
    scaling: bool = True
    """Also measure how time and memory grow with P, N and K (the sharp machine, one curve
    each)."""
    scaling_engines: tuple[str, ...] | None = None
    """Engines whose growth is measured. Default: all of `engines`."""
    seed: int = 0
    """Seed of the machines and of Monte Carlo. Its repeats take the next seeds."""
    out: Path | None = None
    """Folder for benchmark.csv with the numbers, and benchmark.pdf and .png with the growth."""

    def __post_init__(self) -> None:
        for name in (*self.engines, *(self.scaling_engines or ())):
            resolve_engine(name)
        check_least(self, repeats=1, seed=0)


@dataclass(frozen=True)
class Machine:
    """Machine to measure: a name of ``MAKERS`` with sizes and seed, or arrays from a file."""

    name: str
    size: dict[str, int]
    seed: int = 0
    arrays: tuple[NDArray[np.float64], ...] | None = None

    def problem(self) -> tuple[NDArray[np.float64], ...]:
        """Weights (K, N), patterns (P, N), labels (P,)."""
        if self.arrays is not None:
            return self.arrays
        X, y = image_like_patterns(self.size["P"], self.size["N"], self.seed)
        return MAKERS[self.name](X, y, self.size["K"], self.seed), X, y


def run(config: BenchmarkConfig) -> pd.DataFrame:
    """Measure, print, write. Returns one row per engine, machine and size."""
    import pandas as pd

    machines = _machines(config)
    for key, value in describe_hardware().items():
        print(f"{key:18s} {value}")
    print(f"{'dgemm, one thread':18s} {product_speed(np.float64, 1024, 5) / 1e9:.0f} GFLOP/s\n")
    sizes = ", ".join(f"{name}={value}" for name, value in machines[0].size.items())
    print(f"One core, one local entropy curve (sixteen points), {sizes}.")
    if config.weights is None:
        print(
            "Patterns: hidden manifold, as correlated and unbalanced as the reduced "
            f"Fashion-MNIST, seed {config.seed}.\nMachines by the perceptron rule: sharp (about "
            "the local entropy of fast SGD on images), flat (of Replicated-SGD)."
        )
    print(f"Median (range) of {config.repeats}. MiB: peak memory of the whole process.\n")
    rows = [
        measure_alone(machine, engine, config.repeats, config.seed)
        for machine in machines
        for engine in config.engines
    ]
    _print(rows)
    print(f"Before its first curve a process has needed {rows[0]['idle_memory_mib']:.0f} MiB.")
    if config.scaling:
        rows += _measure_scaling(config)
    table = pd.DataFrame(rows)
    if config.out is not None:
        write_table(config.out / "benchmark.csv", table)
    return table


def measure_alone(machine: Machine, engine: str, repeats: int, seed: int) -> Row:
    """``measure_engine`` in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure_engine, machine, engine, repeats, seed).result()


def measure_engine(machine: Machine, engine: str, repeats: int, seed: int) -> Row:
    """One row: seconds, memory and result of ``repeats`` curves by one engine."""
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*did not converge", category=UserWarning)
        small = Machine("sharp", {"K": machine.size["K"], "N": 31, "P": 7}).problem()
        local_entropy_curve(*small, engine=resolve_engine(engine, 0), variances=[0.01, 0.02])
        weights, patterns, labels = machine.problem()
        before = peak_memory()
        seconds, curves = [], []
        for repeat in range(repeats):
            solver = resolve_engine(engine, seed + repeat)
            start = time.perf_counter()
            curves.append(local_entropy_curve(weights, patterns, labels, engine=solver))
            seconds.append(time.perf_counter() - start)
        peak = peak_memory()
    # The ladder of a hard problem can end before d = 0.3.
    d = min(DISTANCE, *(float(curve.distance.max()) for curve in curves))
    values = [float(curve.at(d)) for curve in curves]
    errors = [float(c.standard_error_at(d)) / abs(float(c.at(d))) for c in curves]
    points = len(curves[0].distance)
    return {
        "machine": machine.name,
        "engine": engine,
        **machine.size,
        "points": points,
        "seconds": median(seconds),
        "seconds_min": min(seconds),
        "seconds_max": max(seconds),
        "seconds_per_point": median(seconds) / points,
        "iterations": int(curves[0].iterations.sum()),
        "distance": d,
        "local_entropy": median(values),
        "relative_error": median(errors),
        "relative_error_min": min(errors),
        "relative_error_max": max(errors),
        "not_converged": int(sum(np.sum(~curve.converged) for curve in curves)),
        "peak_memory_mib": peak,
        "idle_memory_mib": before,
    }


def _machines(config: BenchmarkConfig) -> list[Machine]:
    if config.weights is None:
        return [Machine(name, BASE, config.seed) for name in MAKERS]
    network = load_network(config.weights, config.patterns)
    X, y = network.patterns, network.labels
    for w in network.weights:
        if ReferenceProblem.from_arrays(w, X, y).training_errors == 0:
            size = {"K": w.shape[0], "N": w.shape[1], "P": len(y)}
            return [Machine(config.weights.stem, size, arrays=(w, X, y))]
    raise ValueError(
        f"{config.weights}: every machine makes training errors; one without was expected."
    )


def _measure_scaling(config: BenchmarkConfig) -> list[Row]:
    print("\nGrowth with one size at a time, sharp machine, one curve each")
    rows = []
    for name, values in GRID.items():
        for engine in config.scaling_engines or config.engines:
            for value in values:
                machine = Machine("sharp", {**BASE, name: value}, config.seed)
                row = measure_alone(machine, engine, 1, config.seed)
                rows.append({**row, "machine": f"sharp, growing {name}"})
            _print(rows[-len(values) :])
            print(f"   {engine}: {growth(rows, engine, name)}")
    return rows


def growth(rows: list[Row], engine: str, name: str) -> str:
    """A sentence with the exponents of the time between the last two sizes."""
    last = [r for r in rows if r["engine"] == engine and r["machine"].endswith(f" {name}")][-2:]
    ratio = np.log(last[1][name] / last[0][name])
    time_power = np.log(last[1]["seconds"] / last[0]["seconds"]) / ratio
    sweep_power = time_power - np.log(last[1]["iterations"] / last[0]["iterations"]) / ratio
    return (
        f"from {name} = {last[0][name]} to {last[1][name]}, time grows as {name}^{time_power:.1f}"
        f" (per iteration as {name}^{sweep_power:.1f})"
    )


def _print(rows: list[Row]) -> None:
    """Print the columns ``SHOWN`` of some rows in Markdown."""
    import pandas as pd

    print(to_markdown(pd.DataFrame(rows)[SHOWN]), flush=True)
