"""Results of an experiment on disk: one file per unit of work, read back as arrays.

::

    results/figure1/
        config.json                         settings, data, versions, hardware, git revision
        patterns.npz                        the training and test patterns
        machines/sgd-fast/000.npz           weights, errors, epochs, local energy
        curves/sgd-fast/000.bp.npz          local entropy by one engine
        summary.csv, ...                    made from the above
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
from committee.training import MEASURED, TrainedMachine
from message_passing.local_entropy import LocalEntropyCurve
from message_passing.tools.files import AGAIN, content_hash, from_arrays, read_npz, write_npz
from message_passing.tools.run_folder import RunFolder

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SIGMAS = (0.5, 1.0)
DISTANCES = (0.1, 0.3)
PROFILE = ("sigma", "local_energy")
PATTERNS = ("train_patterns", "train_labels", "test_patterns", "test_labels")
_TRUST = {"mc": 0, "ep": 1, "bp": 2}


@dataclass(frozen=True, repr=False)
class AlgorithmResults:
    """All finished restarts of one algorithm.

    Attributes
    ----------
    name : str
    restarts : (R,) int
        Numbers of the restarts.
    weights : (R, K, N)
    epochs, train_error, test_error, loss, converged, collapsed : (R,)
        As in ``TrainedEnsemble``.
    profile : LocalEnergyProfile
        ``local_energy`` (R, S).
    curves : dict of dict
        ``curves[engine][restart]`` is a ``LocalEntropyCurve``.
    """

    name: str
    restarts: NDArray[np.int64]
    weights: NDArray[np.float64]
    epochs: NDArray[np.int64]
    train_error: NDArray[np.float64]
    test_error: NDArray[np.float64]
    loss: NDArray[np.float64]
    converged: NDArray[np.bool_]
    collapsed: NDArray[np.bool_]
    profile: LocalEnergyProfile
    curves: Mapping[str, Mapping[int, LocalEntropyCurve]]

    def local_entropy(self, engine: str, distances: NDArray[np.float64]) -> NDArray[np.float64]:
        """Φ_LE (R, len(distances)) by one engine.

        NaN where a restart has no curve, where its curve does not reach, or lies between points
        that did not converge.
        """
        found = np.full((len(self.restarts), len(distances)), np.nan)
        for row, restart in enumerate(self.restarts):
            curve = self.curves.get(engine, {}).get(int(restart))
            if curve is not None:
                inside = distances <= _reliable_distance(curve)
                found[row, inside] = curve.at(distances[inside])
        return found

    def to_frame(self, engines: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per run: errors, δE(σ) as ``local_energy_σ``, Φ_LE as ``local_entropy_ENGINE_d``.

        NaN where a run has no local entropy that converged as far as d.
        """
        import pandas as pd

        columns: dict[str, Any] = {"algorithm": self.name, "restart": self.restarts}
        columns |= {name: getattr(self, name) for name in MEASURED}
        energies = self.profile.at(np.array(SIGMAS))
        columns |= {f"local_energy_{s:g}": e for s, e in zip(SIGMAS, energies.T, strict=True)}
        for engine in self.curves if engines is None else engines:
            values = self.local_entropy(engine, np.array(DISTANCES)).T
            names = [f"local_entropy_{engine}_{d:g}" for d in DISTANCES]
            columns |= dict(zip(names, values, strict=True))
        return pd.DataFrame(columns)

    def __repr__(self) -> str:
        engines = ", ".join(self.curves) or "none"
        return f"AlgorithmResults({self.name}, {len(self.restarts)} machines, curves: {engines})"


@dataclass(frozen=True, repr=False)
class ExperimentResults:
    """What a figure is drawn from.

    ``size`` is (K, N, P); ``data_name`` and ``data_description`` say what the machines have
    learnt; ``constant_test_error`` is the test error of the constant answer; ``algorithms`` maps
    the names of the algorithms to their results, in the order of the figure.
    """

    title: str
    size: tuple[int, int, int]
    data_name: str
    data_description: str
    constant_test_error: float
    algorithms: Mapping[str, AlgorithmResults]

    @property
    def engines(self) -> list[str]:
        """Engines with at least one curve, the most trustworthy first."""
        found = {engine for results in self.algorithms.values() for engine in results.curves}
        return sorted(found, key=lambda engine: (_TRUST.get(engine, len(_TRUST)), engine))

    def to_frame(self) -> pd.DataFrame:
        """All runs, one a row (see ``AlgorithmResults.to_frame``)."""
        import pandas as pd

        runs = [results.to_frame(self.engines) for results in self.algorithms.values()]
        return pd.concat(runs, ignore_index=True)

    def plot(self) -> Figure:
        """The three panels of Figures 1 and 6 of [P21]."""
        from committee.figures import plot_results

        return plot_results(self)

    def __repr__(self) -> str:
        counts = ", ".join(f"{name}: {len(a.restarts)}" for name, a in self.algorithms.items())
        return f"ExperimentResults({self.data_name}, (K, N, P) = {self.size}, runs {counts})"


@dataclass(frozen=True)
class ExperimentFolder(RunFolder):
    """Where the files of an experiment are, and that they belong to the same settings."""

    extensible: Sequence[str] = ("algorithms", "engines")
    units: Sequence[str] = ("machines", "curves")

    def machine(self, algorithm: str, restart: int) -> Path:
        return self.path / "machines" / _file_name(algorithm) / f"{restart:03d}.npz"

    def curve(self, algorithm: str, restart: int, engine: str) -> Path:
        return self.path / "curves" / _file_name(algorithm) / f"{restart:03d}.{engine}.npz"

    def engines(self, algorithm: str) -> list[str]:
        folder = self.path / "curves" / _file_name(algorithm)
        return sorted({path.name.split(".")[1] for path in folder.glob("[0-9]*.*.npz")})

    def load_machine(self, algorithm: str, restart: int) -> dict[str, np.ndarray]:
        """Arrays of one machine. Raises ``ValueError`` if the file is damaged."""
        names = {field.name for field in fields(TrainedMachine)} | {*PROFILE}
        return _complete(self.machine(algorithm, restart), names)

    def load_curve(self, path: Path) -> LocalEntropyCurve:
        names = {field.name for field in fields(LocalEntropyCurve)}
        curve: LocalEntropyCurve = from_arrays(LocalEntropyCurve, _complete(path, names))
        return curve

    def load_patterns(self) -> PatternSet | None:
        """The stored patterns; None where there are none, or no ``config.json``."""
        config, path = self.config(), self.path / "patterns.npz"
        if config is None or not path.exists():
            return None
        about: dict[str, Any] = {name: self.entry("patterns", name) for name in _ABOUT}
        return PatternSet(**{**_complete(path, {*PATTERNS}), **about})

    def entry(self, *keys: str) -> Any:
        """An entry of ``config.json``. Raises ``ValueError`` where it is missing."""
        found: Any = self.config()
        for key in keys:
            if not isinstance(found, dict) or key not in found:
                raise ValueError(
                    f"{self.path / 'config.json'} lacks {'.'.join(keys)}; the config.json of an "
                    "experiment was expected. Give another folder."
                )
            found = found[key]
        return found

    def check_patterns(self, patterns: PatternSet) -> None:
        """Refuse patterns other than those that the stored machines have learnt."""
        stored = (self.config() or {}).get("patterns", {}).get("content")
        if stored not in (None, fingerprint(patterns)):
            raise ValueError(
                f"{self.path} holds results on other patterns than these: {patterns.description}. "
                "Give another folder, or the same data."
            )

    def store_patterns(self, patterns: PatternSet) -> None:
        arrays = {name: _smallest(getattr(patterns, name)) for name in PATTERNS}
        write_npz(self.path / "patterns.npz", **arrays)


_ABOUT = ("name", "description")


def about_patterns(patterns: PatternSet) -> dict[str, str]:
    """What ``config.json`` says about the patterns."""
    about = {name: getattr(patterns, name) for name in _ABOUT}
    return {**about, "content": fingerprint(patterns)}


def fingerprint(patterns: PatternSet) -> str:
    """Hash of the patterns and labels."""
    return content_hash(*(getattr(patterns, name) for name in PATTERNS))


def load_results(
    path: str | Path, restarts: int | None = None, algorithms: Sequence[str] | None = None
) -> ExperimentResults:
    """Read the results of an experiment, finished or not.

    Parameters
    ----------
    path : folder
    restarts : int, optional
        Only this number of restarts of each algorithm, from the first.
    algorithms : names, optional
        Only these algorithms, in this order.

    Raises
    ------
    ValueError
        No results there, or a damaged file.
    """
    folder = ExperimentFolder(Path(path))
    if folder.config() is None:
        raise ValueError(f"path is {str(path)!r}; a folder with a config.json was expected.")
    patterns = folder.load_patterns()
    if patterns is None:
        raise ValueError(f"{path} holds no patterns.npz. Run the command again: it makes it anew.")
    stored = list(folder.entry("settings", "algorithms"))
    for name in algorithms or ():
        if name not in stored:
            raise ValueError(f"algorithms contains {name!r}; {path} holds {', '.join(stored)}.")
    found = {name: _load_algorithm(folder, name, restarts) for name in algorithms or stored}
    return ExperimentResults(
        title=folder.entry("title"),
        size=(folder.entry("settings", "hidden_units"), *patterns.train_patterns.shape[::-1]),
        data_name=patterns.name,
        data_description=patterns.description,
        constant_test_error=patterns.constant_test_error,
        algorithms={name: results for name, results in found.items() if results is not None},
    )


def _load_algorithm(
    folder: ExperimentFolder, name: str, restarts: int | None
) -> AlgorithmResults | None:
    paths = sorted(folder.machine(name, 0).parent.glob("[0-9]*.npz"))
    numbers = [n for n in sorted(int(p.stem) for p in paths) if restarts is None or n < restarts]
    if not numbers:
        return None
    machines = [folder.load_machine(name, number) for number in numbers]
    columns = {key: np.array([machine[key] for machine in machines]) for key in machines[0]}
    sigma, energy = columns.pop("sigma"), columns.pop("local_energy")
    return AlgorithmResults(
        name=name,
        restarts=np.array(numbers),
        **columns,
        profile=LocalEnergyProfile(
            sigma=sigma[0],
            local_energy=energy,
            standard_error=np.zeros_like(energy),
            reference_error=columns["train_error"],
            samples=0,
        ),
        curves={
            engine: {
                number: folder.load_curve(path)
                for number in numbers
                if (path := folder.curve(name, number, engine)).exists()
            }
            for engine in folder.engines(name)
        },
    )


def _complete(path: Path, names: set[str]) -> dict[str, np.ndarray]:
    """Arrays of a file that must have these names."""
    arrays = read_npz(path)
    if missing := sorted(names - arrays.keys()):
        raise ValueError(f"{path} lacks {', '.join(missing)}. {AGAIN}")
    return {name: array for name, array in arrays.items() if name in names}


def _reliable_distance(curve: LocalEntropyCurve) -> float:
    """The last distance up to which every point of the curve has converged."""
    failed = np.flatnonzero(~curve.converged)
    if failed.size == 0:
        return float(curve.distance[-1])
    return float(curve.distance[failed[0] - 1]) if failed[0] > 0 else 0.0


def _smallest(array: NDArray[np.float64]) -> np.ndarray:
    """As int8 where that is exact: patterns and labels are ±1."""
    small = array.astype(np.int8)
    return small if np.array_equal(small, array) else array


def _file_name(algorithm: str) -> str:
    return algorithm.replace(" ", "-")
