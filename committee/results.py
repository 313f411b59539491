"""Results of an experiment on disk: one file per unit of work, read back as arrays.

::

    results/figure1/
        config.json                         settings, data, versions, machine, git revision
        patterns.npz                        the training and test patterns
        machines/sgd-fast/000.npz           weights, errors, epochs, local energy
        curves/sgd-fast/000.bp.npz          local entropy by one engine
        summary.csv, ...                    made from the above
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from committee.flatness import LocalEnergyProfile
from committee.patterns import PatternSet
from message_passing.local_entropy import LocalEntropyCurve
from message_passing.tools.files import from_arrays, read_npz, write_npz
from message_passing.tools.run_folder import RunFolder


@dataclass(frozen=True)
class VariantResults:
    """All finished restarts of one algorithm.

    Attributes
    ----------
    name : str
    restarts : (R,) int
        Numbers of the restarts.
    weights : (R, K, N)
    epochs, train_error, test_error, loss, stopped : (R,)
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
    stopped: NDArray[np.bool_]
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


@dataclass(frozen=True)
class ExperimentResults:
    """What a figure is drawn from.

    ``size`` is (K, N, P); ``data_name`` and ``data_description`` say what the machines have
    learnt; ``constant_test_error`` is the test error of the constant answer; ``variants`` maps
    the names of the algorithms to their results, in the order of the figure.
    """

    title: str
    size: tuple[int, int, int]
    data_name: str
    data_description: str
    constant_test_error: float
    variants: Mapping[str, VariantResults]

    @property
    def engines(self) -> list[str]:
        """Engines with at least one curve, the most trustworthy first."""
        found = {e for variant in self.variants.values() for e in variant.curves}
        return sorted(found, key=lambda engine: (_TRUST.get(engine, len(_TRUST)), engine))


# Settings that a later run in the same folder may add to.
_TRUST = {"mc": 0, "ep": 1, "bp": 2}


@dataclass(frozen=True)
class ExperimentFolder(RunFolder):
    """Where the files of an experiment are, and that they belong to the same settings."""

    extensible: Sequence[str] = ("variants", "engines")
    units: Sequence[str] = ("machines", "curves")

    def machine(self, variant: str, restart: int) -> Path:
        return self.path / "machines" / _file_name(variant) / f"{restart:03d}.npz"

    def curve(self, variant: str, restart: int, engine: str) -> Path:
        return self.path / "curves" / _file_name(variant) / f"{restart:03d}.{engine}.npz"

    def engines(self, variant: str) -> list[str]:
        folder = self.path / "curves" / _file_name(variant)
        return sorted({path.name.split(".")[1] for path in folder.glob("[0-9]*.*.npz")})

    def load(self, path: Path) -> dict[str, np.ndarray]:
        """Arrays of a file. Raises ``ValueError`` if it is damaged."""
        return read_npz(path)

    def store(self, path: Path, arrays: dict[str, np.ndarray]) -> None:
        write_npz(path, **arrays)

    def load_patterns(self) -> PatternSet | None:
        """The stored patterns; None in a folder that is new."""
        config = self.config()
        if config is None:
            return None
        arrays: dict[str, Any] = self.load(self.path / "patterns.npz")
        return PatternSet(**arrays, **config["patterns"])

    def store_patterns(self, patterns: PatternSet) -> None:
        small = {
            field: _smallest(getattr(patterns, field))
            for field in ("train_patterns", "train_labels", "test_patterns", "test_labels")
        }
        self.store(self.path / "patterns.npz", small)


def load_results(
    path: str | Path, restarts: int | None = None, variants: Sequence[str] | None = None
) -> ExperimentResults:
    """Read the results of an experiment, finished or not.

    Parameters
    ----------
    path : folder
    restarts : int, optional
        Only the first so many restarts of each algorithm.
    variants : names, optional
        Only these algorithms, in this order.

    Raises
    ------
    ValueError
        No results there, or a damaged file.
    """
    folder = ExperimentFolder(Path(path))
    config, patterns = folder.config(), folder.load_patterns()
    if config is None or patterns is None:
        raise ValueError(f"path is {str(path)!r}; a folder with a config.json was expected.")
    stored = list(config["settings"]["variants"])
    for name in variants or ():
        if name not in stored:
            raise ValueError(f"variants contains {name!r}; {path} holds {', '.join(stored)}.")
    found = {name: _load_variant(folder, name, restarts) for name in variants or stored}
    return ExperimentResults(
        title=config["title"],
        size=(config["settings"]["hidden_units"], *patterns.train_patterns.shape[::-1]),
        data_name=patterns.name,
        data_description=patterns.description,
        constant_test_error=patterns.constant_test_error,
        variants={name: variant for name, variant in found.items() if variant is not None},
    )


def _load_variant(
    folder: ExperimentFolder, name: str, restarts: int | None
) -> VariantResults | None:
    paths = sorted(folder.machine(name, 0).parent.glob("[0-9]*.npz"))
    numbers = [n for n in sorted(int(p.stem) for p in paths) if restarts is None or n < restarts]
    if not numbers:
        return None
    machines = [folder.load(folder.machine(name, number)) for number in numbers]
    columns = {key: np.array([machine[key] for machine in machines]) for key in machines[0]}
    sigma, energy = columns.pop("sigma"), columns.pop("local_energy")
    return VariantResults(
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
                number: from_arrays(LocalEntropyCurve, folder.load(path))
                for number in numbers
                if (path := folder.curve(name, number, engine)).exists()
            }
            for engine in folder.engines(name)
        },
    )


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


def _file_name(variant: str) -> str:
    return variant.replace(" ", "-")
