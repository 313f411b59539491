"""Results of an experiment on disk: one file per machine or curve, read back as arrays.

::

    results/figure1/
        config.json                             settings, data, versions, hardware, git revision
        draws/00/patterns.npz                   the training and test patterns of a draw
        draws/00/machines/sgd-fast/000.npz      weights, errors, epochs, local energy
        draws/00/curves/sgd-fast/000.bp.npz     local entropy by one engine
        summary.csv, ...                        tables made from the files above
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from committee.flatness import LocalEnergyProfile
from committee.patterns import PatternSet
from committee.training import MEASURED
from message_passing.local_entropy import LocalEntropyCurve
from message_passing.tools.files import AGAIN, content_hash, from_arrays, read_npz
from message_passing.tools.run_folder import RunFolder

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MACHINE = "machine"
SIGMAS = (0.5, 1.0)
DISTANCES = (0.1, 0.3)
PROFILE = ("sigma", "local_energy")
PATTERNS = ("train_patterns", "train_labels", "test_patterns", "test_labels")
_TRUST = {"mc": 0, "ep": 1, "bp": 2}


@dataclass(frozen=True, repr=False)
class AlgorithmResults:
    """All finished runs of one algorithm: restarts on draws of the patterns.

    Attributes
    ----------
    name : str
    weights : (R, K, N)
    runs : DataFrame
        R rows with the numbers ``draw`` and ``restart``, and the epochs, errors, loss,
        ``converged`` and ``collapsed`` of ``TrainedEnsemble``.
    profile : LocalEnergyProfile
        ``local_energy`` (R, S).
    curves : dict of dict
        ``curves[engine][draw, restart]`` is a ``LocalEntropyCurve``.
    """

    name: str
    weights: NDArray[np.float64]
    runs: pd.DataFrame
    profile: LocalEnergyProfile
    curves: Mapping[str, Mapping[tuple[int, int], LocalEntropyCurve]]

    def local_entropy(
        self, engine: str, distances: NDArray[np.float64], error: bool = False
    ) -> NDArray[np.float64]:
        """Φ_LE (R, len(distances)) by one engine, or its standard ``error``.

        NaN if a run has no curve, or beyond the last distance up to which all points of its curve
        have converged.
        """
        found = np.full((len(self.runs), len(distances)), np.nan)
        for row, run in enumerate(zip(self.runs["draw"], self.runs["restart"], strict=True)):
            curve = self.curves.get(engine, {}).get(run)
            if curve is not None:
                inside = distances <= _reliable_distance(curve)
                values = curve.standard_error_at if error else curve.at
                found[row, inside] = values(distances[inside])
        return found

    def to_frame(self, engines: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per run: errors, δE(σ) as ``local_energy_σ``, Φ_LE as ``local_entropy_ENGINE_d``.

        NaN if the curve of a run has not converged up to d.
        """
        table = self.runs.copy()
        table.insert(0, "algorithm", self.name)
        table[[f"local_energy_{sigma:g}" for sigma in SIGMAS]] = self.profile.at(SIGMAS)
        for engine in self.curves if engines is None else engines:
            names = [f"local_entropy_{engine}_{d:g}" for d in DISTANCES]
            table[names] = self.local_entropy(engine, np.array(DISTANCES))
        return table

    def __repr__(self) -> str:
        engines = ", ".join(self.curves) or "none"
        return f"AlgorithmResults({self.name}, {len(self.runs)} machines, curves: {engines})"


@dataclass(frozen=True, repr=False)
class ExperimentResults:
    """All results of an experiment, from which its figure and tables are made.

    The machines have ``hidden_units``. Those of draw j were trained on ``patterns[j]``.
    ``algorithms`` maps names of algorithms to their results, in the order of the figure.
    """

    title: str
    hidden_units: int
    patterns: Mapping[int, PatternSet]
    algorithms: Mapping[str, AlgorithmResults]

    @property
    def engines(self) -> list[str]:
        """Engines with at least one curve, the most trustworthy first."""
        found = {engine for results in self.algorithms.values() for engine in results.curves}
        return sorted(found, key=lambda engine: (_TRUST.get(engine, len(_TRUST)), engine))

    def to_frame(self) -> pd.DataFrame:
        """One row per run of each algorithm (see ``AlgorithmResults.to_frame``)."""
        import pandas as pd

        runs = [results.to_frame(self.engines) for results in self.algorithms.values()]
        return pd.concat(runs, ignore_index=True)

    def plot(self) -> Figure:
        """The three panels of Figures 1 and 6 of [P21]."""
        from committee.figures import plot_results

        return plot_results(self)

    def __repr__(self) -> str:
        counts = ", ".join(f"{name}: {len(own.runs)}" for name, own in self.algorithms.items())
        first = next(iter(self.patterns.values()))
        draws = f"{len(self.patterns)} draws, K={self.hidden_units}"
        return f"ExperimentResults({first!r}, {draws}, runs {counts})"


@dataclass(frozen=True)
class ExperimentFolder(RunFolder):
    """Folder of an experiment, whose files all belong to the same settings."""

    extensible: Sequence[str] = ("algorithms", "engines")
    units: Sequence[str] = ("draws",)

    def patterns(self, draw: int) -> Path:
        return self.path / "draws" / f"{draw:02d}" / "patterns.npz"

    def file(self, draw: int, algorithm: str, restart: int, kind: str) -> Path:
        """Path of one machine, or of its curve by the engine ``kind``."""
        if kind == MACHINE:
            return self._unit(draw, "machines", algorithm) / f"{restart:03d}.npz"
        return self._unit(draw, "curves", algorithm) / f"{restart:03d}.{kind}.npz"

    def _unit(self, draw: int, kind: str, algorithm: str) -> Path:
        return self.patterns(draw).parent / kind / algorithm.replace(" ", "-")

    def load_machine(self, draw: int, algorithm: str, restart: int) -> dict[str, np.ndarray]:
        """Arrays of one machine. Raises ``ValueError`` if the file is damaged."""
        return _complete(
            self.file(draw, algorithm, restart, MACHINE), {"weights", *MEASURED, *PROFILE}
        )

    def load_curves(
        self, algorithm: str, runs: Sequence[tuple[int, int]]
    ) -> dict[str, dict[tuple[int, int], LocalEntropyCurve]]:
        """``curves[engine][(draw, restart)]`` of these runs."""
        names = {field.name for field in fields(LocalEntropyCurve)}
        curves: dict[str, dict[tuple[int, int], LocalEntropyCurve]] = {}
        for draw, restart in runs:
            for path in sorted(self._unit(draw, "curves", algorithm).glob(f"{restart:03d}.*.npz")):
                curve = from_arrays(LocalEntropyCurve, _complete(path, names))
                curves.setdefault(path.name.split(".")[1], {})[draw, restart] = curve
        return curves

    def load_patterns(self, draw: int) -> PatternSet | None:
        """The stored patterns of a draw, or None if they or ``config.json`` are missing."""
        path = self.patterns(draw)
        if self.config() is None or not path.exists():
            return None
        about = {key: self.entry("patterns", f"{draw}", key) for key in ("name", "description")}
        return PatternSet(**{**_complete(path, {*PATTERNS}), **about})

    def entry(self, *keys: str) -> Any:
        """An entry of ``config.json``. Raises ``ValueError`` if it is missing."""
        found: Any = self.config()
        for key in keys:
            if not isinstance(found, dict) or key not in found:
                raise ValueError(
                    f"{self.path / 'config.json'} lacks {'.'.join(keys)}; the config.json of an "
                    "experiment was expected. Give another folder."
                )
            found = found[key]
        return found

    def about_patterns(self, patterns: Mapping[int, PatternSet]) -> dict[str, dict[str, str]]:
        """The entry of ``config.json`` on the patterns, for these draws and the stored ones.

        Raises ``ValueError`` if a draw's patterns differ from the patterns of its stored machines.
        """
        stored = (self.config() or {}).get("patterns", {})
        about = {}
        for draw, own in patterns.items():
            content = content_hash(*(getattr(own, name) for name in PATTERNS))
            if stored.get(f"{draw}", {}).get("content", content) != content:
                raise ValueError(
                    f"{self.path} holds results on other patterns than these: {own.description}. "
                    "Give another folder, or the same data."
                )
            entry = {"name": own.name, "description": own.description, "content": content}
            about[f"{draw}"] = entry
        return {**stored, **about}


def small_arrays(patterns: PatternSet) -> dict[str, np.ndarray]:
    """Patterns and labels by name, as int8 if that is exact."""
    return {name: _smallest(getattr(patterns, name)) for name in PATTERNS}


def load_results(
    path: str | Path,
    draws: int | None = None,
    restarts: int | None = None,
    algorithms: Sequence[str] | None = None,
) -> ExperimentResults:
    """Read the results of an experiment, finished or not.

    Parameters
    ----------
    path : folder
    draws, restarts : int, optional
        Read only the first draws of the patterns, and the first restarts on each.
    algorithms : names, optional
        Read only these algorithms, in this order.

    Raises
    ------
    ValueError
        A folder without results, an algorithm that it does not hold, or a damaged file.
    """
    folder = ExperimentFolder(Path(path))
    if folder.config() is None:
        raise ValueError(f"path is {str(path)!r}; a folder with a config.json was expected.")
    patterns = {}
    for draw in sorted(map(int, folder.entry("patterns")))[:draws]:
        if (own := folder.load_patterns(draw)) is None:
            raise ValueError(
                f"{folder.patterns(draw)} is missing: no patterns.npz. Run the command again: it "
                "makes it anew."
            )
        patterns[draw] = own
    stored = list(folder.entry("settings", "algorithms"))
    for name in algorithms or ():
        if name not in stored:
            raise ValueError(f"algorithms contains {name!r}; {path} holds {', '.join(stored)}.")
    found = {
        name: _load_algorithm(folder, name, [*patterns], restarts) for name in algorithms or stored
    }
    return ExperimentResults(
        title=folder.entry("title"),
        hidden_units=folder.entry("settings", "hidden_units"),
        patterns=patterns,
        algorithms={name: results for name, results in found.items() if results is not None},
    )


def _load_algorithm(
    folder: ExperimentFolder, name: str, draws: Sequence[int], restarts: int | None
) -> AlgorithmResults | None:
    import pandas as pd

    runs = [
        (draw, int(path.stem))
        for draw in draws
        for path in sorted(folder.file(draw, name, 0, MACHINE).parent.glob("[0-9]*.npz"))
        if restarts is None or int(path.stem) < restarts
    ]
    if not runs:
        return None
    machines = [folder.load_machine(draw, name, restart) for draw, restart in runs]
    columns = {key: np.array([machine[key] for machine in machines]) for key in machines[0]}
    energy, errors = columns["local_energy"], columns["train_error"]
    table = pd.DataFrame(runs, columns=["draw", "restart"])
    return AlgorithmResults(
        name=name,
        weights=columns["weights"],
        runs=table.assign(**{key: columns[key] for key in MEASURED}),
        profile=LocalEnergyProfile(columns["sigma"][0], energy, np.zeros_like(energy), errors, 0),
        curves=folder.load_curves(name, runs),
    )


def _complete(path: Path, names: set[str]) -> dict[str, np.ndarray]:
    """The arrays with these names in a file. Raises ``ValueError`` if one is missing."""
    arrays = read_npz(path)
    if missing := sorted(names - arrays.keys()):
        raise ValueError(f"{path} lacks {', '.join(missing)}. {AGAIN}")
    return {name: array for name, array in arrays.items() if name in names}


def _reliable_distance(curve: LocalEntropyCurve) -> float:
    """The largest distance up to which every point of the curve has converged."""
    failed = np.flatnonzero(~curve.converged)
    if failed.size == 0:
        return float(curve.distance[-1])
    return float(curve.distance[failed[0] - 1]) if failed[0] > 0 else 0.0


def _smallest(array: NDArray[np.float64]) -> np.ndarray:
    """The array as int8 if that is exact. Patterns and labels are mostly ±1."""
    small = array.astype(np.int8)
    return small if np.array_equal(small, array) else array
