"""Local entropy of your own network: from files to curves on disk. Interrupted runs resume.

::

    results/local_entropy/
        config.json                 settings, hashes of the input, versions, hardware
        curves/000.ep.npz, ...      one curve of one machine by one engine
        curves.csv                  all points of all curves
        figure.pdf, figure.png
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro
from numpy.typing import NDArray
from scipy.stats import sem

from message_passing.local_entropy import (
    ENGINES,
    LocalEntropyCurve,
    check_ladder,
    local_entropy_curve,
    resolve_engine,
)
from message_passing.networks import Network, load_network
from message_passing.problem import PatternGeometry, ReferenceProblem
from message_passing.tools.files import arrays_of, content_hash, from_arrays, read_npz, write_npz
from message_passing.tools.run_folder import RunFolder, as_json, make_missing
from message_passing.tools.tables import to_markdown
from message_passing.tools.validation import check_least

if TYPE_CHECKING:
    import pandas as pd

EngineName = Literal["ep", "bp", "mc", "all"]
Curves = dict[str, dict[int, LocalEntropyCurve]]  # by engine and machine
SHOWN_POINTS = 4


@dataclass(frozen=True)
class CurveConfig:
    """Local entropy Φ_LE(d) of your own network: a curve, a CSV file and a plot."""

    weights: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="WEIGHTS.npz")]
    """File of the first-layer weights: an array `weights`, or a single array. Its shape is (K, N),
    or (R, K, N) for R machines. K is odd. The norms of the rows do not matter."""
    patterns: Annotated[Path | None, tyro.conf.arg(metavar="PATTERNS.npz")] = None
    """File of the training patterns: arrays `patterns` (P, N) and `labels` (P,) in ±1, or
    `train_patterns` and `train_labels`. Default: the file of the weights."""
    engine: EngineName = "ep"
    """ep: expectation propagation, a quick look. bp: belief propagation as published; it
    overstates the entropy loss on correlated inputs. mc: Monte Carlo, the reference, with error
    bars. all: the three of them."""
    out: Path = Path("results/local_entropy")
    """Folder of the results. Running again with the same folder resumes."""
    variances: tuple[float, ...] | None = None
    """Increasing variances Δ of the Gaussian around the weights. The distance is about Δ/2.
    Default: sixteen variances, for distances from 0.0005 to 0.3."""
    distances: tuple[float, ...] | None = None
    """Increasing distances d of the points, instead of the variances."""
    seed: int = 0
    """Seed of Monte Carlo."""
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
        check_least(self, seed=0, workers=1)

    @property
    def engines(self) -> tuple[str, ...]:
        """Names of the engines, the cheapest first."""
        return tuple(ENGINES) if self.engine == "all" else (self.engine,)


@dataclass(frozen=True)
class CurveRun:
    """A prepared run: the input is read and checked, and the folder has its config.json.

    Attributes
    ----------
    config : CurveConfig
    network : Network
    training_errors : (R,) int
        Number of training errors of each machine.
    folder : RunFolder
    """

    config: CurveConfig
    network: Network
    training_errors: NDArray[np.int64]
    folder: RunFolder = field(repr=False)

    @classmethod
    def prepare(cls, config: CurveConfig) -> CurveRun:
        """Read the files and open the folder, before any long work.

        Raises ``ValueError`` if a file cannot be used, or if the folder holds results of other
        input or settings.
        """
        network = load_network(config.weights, config.patterns)
        geometry = PatternGeometry(network.patterns)
        errors = [
            ReferenceProblem.from_arrays(w, geometry, network.labels).training_errors
            for w in network.weights
        ]
        folder = RunFolder(config.out, extensible=("engines",), units=("curves",))
        settings = _settings(config, network)
        folder.store_config("Local entropy", settings, network=network.size)
        return cls(config, network, np.array(errors), folder)

    def run(self, progress: bool = False) -> tuple[Curves, list[str]]:
        """Compute the missing curves.

        Returns
        -------
        curves : dict of dict
            ``curves[engine][machine]``, including the curves that were stored before.
        refused : list of str
            A sentence for each curve that an engine refused to make.

        Raises ``ValueError`` if there is no curve at all.
        """
        alone, refused = len(self.network.weights) == 1, []

        def store(path: Path, result: dict[str, np.ndarray] | str) -> None:
            if isinstance(result, dict):
                write_npz(path, **result)
                return
            machine, engine, _ = path.name.split(".")
            refused.append(f"Machine {int(machine)} has no curve by {engine}: {result}")

        c, data = self.config, (self.network.patterns, self.network.labels)
        for engine in c.engines:
            make_missing(
                measure,
                {
                    self._path(i, engine): (weights, engine, _machine_seed(c.seed, i))
                    for i, weights in enumerate(self.network.weights)
                },
                store,
                progress and not alone,
                common=(*data, c.variances, c.distances, progress and alone),
                workers=c.workers,
                description=f"local entropy by {engine}",
            )
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
            raise ValueError(f"there is no curve. {' '.join(sorted(refused))}")
        return curves, sorted(refused)

    def _path(self, machine: int, engine: str) -> Path:
        return self.folder.path / "curves" / f"{machine:03d}.{engine}.npz"


def measure(
    patterns: NDArray[np.float64],
    labels: NDArray[np.float64],
    variances: tuple[float, ...] | None,
    distances: tuple[float, ...] | None,
    progress: bool,
    task: tuple[NDArray[np.float64], str, int],
) -> dict[str, np.ndarray] | str:
    """Unit of work: the curve of one machine by one engine, as arrays to be stored.

    If the engine refuses the machine, the result is the reason. The others still get their curves.
    """
    weights, engine, seed = task
    try:
        return curve_arrays(weights, patterns, labels, engine, seed, variances, distances, progress)
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
    progress: bool = False,
) -> dict[str, np.ndarray]:
    """The curve of one machine by the engine of that name, as arrays to be stored.

    Points that did not converge are marked in the arrays, without a warning.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*did not converge", category=UserWarning)
        curve = local_entropy_curve(
            weights,
            patterns,
            labels,
            engine=resolve_engine(engine, seed),
            variances=variances,
            distances=distances,
            progress=progress,
        )
    return arrays_of(replace(curve, engine=engine))


def curve_table(curves: Curves) -> pd.DataFrame:
    """One row per point of each curve."""
    import pandas as pd

    tables = []
    for machines in curves.values():
        for machine, curve in machines.items():
            table = curve.to_frame()
            table.insert(0, "machine", machine)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def closing_table(curves: Curves) -> str:
    """Φ_LE at a few points of the ladder and the number of points not converged, in Markdown.

    For one machine ± is the engine's standard error, for several the standard error over machines.
    Only computed points are shown, never an interpolation.
    """
    import pandas as pd

    rows = []
    for engine, machines in curves.items():
        group = list(machines.values())
        row: dict[str, Any] = {"engine": engine, "machines": len(group)}
        last = len(group[0].distance) - 1
        for point in sorted({round(i * last / (SHOWN_POINTS - 1)) for i in range(SHOWN_POINTS)}):
            values = np.array([curve.local_entropy[point] for curve in group])
            distance = np.mean([curve.distance[point] for curve in group])
            alone = len(group) == 1
            error = group[0].standard_error[point] if alone else sem(values)
            row[f"point {point + 1}"] = (
                f"{1e3 * values.mean():.4g}"
                + (f" ± {1e3 * error:.2g}" if error else "")
                + f" at d = {distance:.3g}"
            )
        missed = sum(int(np.sum(~curve.converged)) for curve in group)
        row["not converged"] = f"{missed} of {sum(len(curve.converged) for curve in group)}"
        rows.append(row)
    return f"Φ_LE × 10³ per weight\n\n{to_markdown(pd.DataFrame(rows))}"


def _settings(config: CurveConfig, network: Network) -> dict[str, Any]:
    """Everything that decides the numbers. Arrays are represented by their hashes."""
    return {
        "weights_hash": content_hash(network.weights),
        "patterns_hash": content_hash(network.patterns, network.labels),
        "variances": None if config.variances is None else list(config.variances),
        "distances": None if config.distances is None else list(config.distances),
        "engines": {name: as_json(resolve_engine(name, config.seed)) for name in config.engines},
    }


def _machine_seed(seed: int, machine: int) -> int:
    return int(np.random.SeedSequence(seed, spawn_key=(machine,)).generate_state(1)[0])
