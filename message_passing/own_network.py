"""Local entropy of somebody's own network: from files to curves on disk, resumed if interrupted.

::

    results/local_entropy/
        config.json                 settings, fingerprints of the input, versions, machine
        curves/000.ep.npz, ...      one curve of one machine by one engine
        curves.csv                  all points of all curves
        figure.pdf, figure.png
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from numpy.typing import NDArray

from message_passing.local_entropy import (
    ENGINES,
    Engine,
    LocalEntropyCurve,
    check_ladder,
    local_entropy_curve,
    resolve_engine,
)
from message_passing.network_files import Network, load_network
from message_passing.problem import PatternGeometry, ReferenceProblem
from message_passing.tools.files import arrays_of, from_arrays, read_npz, write_csv, write_npz
from message_passing.tools.parallel import run_tasks
from message_passing.tools.run_folder import RunFolder, as_json

EngineName = Literal["ep", "bp", "mc", "all"]
Curves = dict[str, dict[int, LocalEntropyCurve]]


@dataclass(frozen=True)
class CurveConfig:
    """Local entropy Φ_LE(d) of your own network: a curve, a CSV file and a plot."""

    weights: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="WEIGHTS.npz")]
    """First-layer weights: an array `weights` (or the only one), of shape (K, N), or (R, K, N)
    for R machines. K is odd; the rows' norms do not matter."""
    patterns: Annotated[Path | None, tyro.conf.arg(metavar="PATTERNS.npz")] = None
    """Training patterns: arrays `patterns` (P, N) and `labels` (P,) in ±1, or `train_patterns`
    and `train_labels`. Default: the file of the weights."""
    engine: EngineName = "ep"
    """ep, expectation propagation: a quick look; bp, belief propagation as published, which
    overstates the entropy loss on correlated inputs; mc, Monte Carlo: the reference, with error
    bars; or all of them."""
    out: Path = Path("results/local_entropy")
    """Folder of the results. Running again with the same folder resumes."""
    variances: tuple[float, ...] | None = None
    """Variances Δ of the Gaussian around the weights, increasing; the distance is about Δ/2.
    Default: twelve, for distances from 0.005 to 0.3."""
    distances: tuple[float, ...] | None = None
    """Distances d of the points, increasing, in place of the variances."""
    seed: int = 0
    """Of Monte Carlo."""
    workers: int | None = None
    """Processes. Default: one on each core."""

    def __post_init__(self) -> None:
        for name in self.engines:
            resolve_engine(name)
        if self.variances is not None and self.distances is not None:
            raise ValueError("variances and distances are both given; one of them was expected.")
        for name in ("variances", "distances"):
            if (ladder := getattr(self, name)) is not None:
                check_ladder(ladder, name)
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; an integer ≥ 0 was expected.")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers is {self.workers}; a positive integer was expected.")

    @property
    def engines(self) -> tuple[str, ...]:
        """Names of the engines, the cheapest first."""
        return tuple(ENGINES) if self.engine == "all" else (self.engine,)


@dataclass(frozen=True)
class CurveRun:
    """A prepared run: input read and checked, folder open.

    Attributes
    ----------
    config : CurveConfig
    network : Network
    training_errors : (R,) int
        An engine may refuse machines that make any; Monte Carlo takes them.
    folder : RunFolder
    """

    config: CurveConfig
    network: Network
    training_errors: NDArray[np.int64]
    folder: RunFolder = field(repr=False)

    @classmethod
    def prepare(cls, config: CurveConfig) -> CurveRun:
        """Read the files and open the folder, before any long work.

        Raises ``ValueError`` for files that cannot be used, or if the folder holds results of
        other input or settings.
        """
        network = load_network(config.weights, config.patterns)
        geometry = PatternGeometry(network.patterns)
        errors = [
            ReferenceProblem.from_arrays(w, geometry, network.labels).training_errors
            for w in network.weights
        ]
        folder = RunFolder(config.out, extensible=("engines",), units=("curves",))
        settings = _settings(config, network)
        folder.check(settings)
        folder.store_config("Local entropy", settings, network=network.size)
        return cls(config, network, np.array(errors), folder)

    def run(self, progress: bool = False) -> tuple[Curves, list[str]]:
        """Compute the curves that are missing.

        Returns
        -------
        curves : dict of dict
            ``curves[engine][machine]``, those that were stored before too.
        refused : list of str
            A sentence for each curve that an engine refused to make.

        Raises ``ValueError`` if there is no curve at all.
        """
        refused: list[str] = []
        for engine in self.config.engines:
            self._measure(engine, progress, refused)
        curves = {
            engine: {
                machine: from_arrays(LocalEntropyCurve, read_npz(path))
                for machine in range(len(self.network.weights))
                if (path := self._path(machine, engine)).exists()
            }
            for engine in self.config.engines
        }
        curves = {engine: found for engine, found in curves.items() if found}
        if not curves:
            raise ValueError(f"there is no curve. {' '.join(refused)}")
        return curves, refused

    def _measure(self, engine: str, progress: bool, refused: list[str]) -> None:
        machines = range(len(self.network.weights))
        missing = [i for i in machines if not self._path(i, engine).exists()]
        tasks = [
            (self.network.weights[i], engine, _machine_seed(self.config.seed, i)) for i in missing
        ]
        completed = run_tasks(
            measure,
            tasks,
            common=(
                self.network.patterns,
                self.network.labels,
                self.config.variances,
                self.config.distances,
            ),
            workers=self.config.workers,
            progress=progress and bool(tasks),
            description=f"local entropy by {engine}",
        )
        for index, result in completed:
            if isinstance(result, str):
                refused.append(f"Machine {missing[index]} has no curve by {engine}: {result}")
            else:
                write_npz(self._path(missing[index], engine), **result)
        refused.sort()

    def _path(self, machine: int, engine: str) -> Path:
        return self.folder.path / "curves" / f"{machine:03d}.{engine}.npz"


def measure(
    patterns: NDArray[np.float64],
    labels: NDArray[np.float64],
    variances: tuple[float, ...] | None,
    distances: tuple[float, ...] | None,
    task: tuple[NDArray[np.float64], str, int],
) -> dict[str, np.ndarray] | str:
    """Unit of work: the curve of one machine by one engine, as arrays to be stored.

    The reason, if the engine refuses the machine: the others still get their curves.
    """
    weights, engine, seed = task
    try:
        return curve_arrays(weights, patterns, labels, engine, seed, variances, distances)
    except ValueError as error:
        return str(error)


def curve_arrays(
    weights: NDArray[np.float64],
    patterns: NDArray[np.float64] | PatternGeometry,
    labels: NDArray[np.float64],
    engine: str,
    seed: int,
    variances: tuple[float, ...] | None = None,
    distances: tuple[float, ...] | None = None,
) -> dict[str, np.ndarray]:
    """The curve of one machine by the engine of that name, as arrays to be stored.

    Does not warn of points that did not converge: they are marked in the arrays.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*did not converge", category=UserWarning)
        curve = local_entropy_curve(
            weights,
            patterns,
            labels,
            engine=seeded_engine(engine, seed),
            variances=variances,
            distances=distances,
        )
    return arrays_of(replace(curve, engine=engine))


def seeded_engine(name: str, seed: int) -> Engine:
    """The engine of that name in its default configuration; one that samples takes the seed."""
    engine: Any = resolve_engine(name)
    if is_dataclass(engine) and any(option.name == "seed" for option in fields(engine)):
        engine = replace(engine, seed=seed)  # type: ignore[type-var]
    chosen: Engine = engine
    return chosen


def write_curves_csv(curves: Mapping[str, Mapping[int, LocalEntropyCurve]], path: Path) -> Path:
    """All points of all curves, one a row."""
    rows: list[dict[str, Any]] = []
    for engine, machines in curves.items():
        for machine, curve in machines.items():
            columns = {
                "distance": curve.distance,
                "variance": curve.variance,
                "local_entropy": curve.local_entropy,
                "standard_error": curve.standard_error,
                "distance_error": curve.distance_error,
                "free_entropy": curve.free_entropy,
                "displacement": curve.displacement,
                "converged": curve.converged,
                "iterations": curve.iterations,
                "residual": curve.residual,
            }
            rows += [
                {"machine": machine, "engine": engine}
                | {name: values[i] for name, values in columns.items()}
                for i in range(len(curve.distance))
            ]
    return write_csv(path, rows)


def closing_table(curves: Mapping[str, Mapping[int, LocalEntropyCurve]]) -> str:
    """Φ_LE at a few distances: for one machine with the engine's error, else over machines."""
    distances = (0.05, 0.15, 0.3)
    header = "".join(f"{f'Φ_LE(d={d:g})':>24s}" for d in distances)
    lines = [f"{'engine':8s}{'machines':>9s}{header}   points not converged"]
    for engine, machines in curves.items():
        group = list(machines.values())
        cells = "".join(f"{_value(group, d):>24s}" for d in distances)
        missed = sum(int(np.sum(~curve.converged)) for curve in group)
        total = sum(len(curve.converged) for curve in group)
        lines.append(f"{engine:8s}{len(group):9d}{cells}   {missed} of {total}")
    return "\n".join(lines)


def _value(group: list[LocalEntropyCurve], distance: float) -> str:
    if min(curve.distance.max() for curve in group) < distance:
        return "not reached"
    if len(group) == 1:
        value, error = group[0].at(distance), group[0].standard_error_at(distance)
    else:
        values = np.array([curve.at(distance) for curve in group])
        value, error = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
    return f"{value:.3e} ± {error:.1e}" if error else f"{value:.3e}"


def _settings(config: CurveConfig, network: Network) -> dict[str, Any]:
    """Everything that decides the numbers; arrays by their fingerprints."""
    return {
        "weights_fingerprint": _fingerprint(network.weights),
        "patterns_fingerprint": _fingerprint(network.patterns, network.labels),
        "variances": None if config.variances is None else list(config.variances),
        "distances": None if config.distances is None else list(config.distances),
        "engines": {name: as_json(seeded_engine(name, config.seed)) for name in config.engines},
    }


def _fingerprint(*arrays: NDArray[np.float64]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _machine_seed(seed: int, machine: int) -> int:
    return int(np.random.SeedSequence(seed, spawn_key=(machine,)).generate_state(1)[0])
