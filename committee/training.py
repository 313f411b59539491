"""Training committee machines: restarts, stopping rules, results.

Every restart, and every replica in it, has its own random stream, spawned from the seed.
Restart i is the same machine for any number of restarts or workers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from committee.algorithms import ALGORITHMS, SGD, Algorithm, EntropySGD, ReplicatedSGD
from committee.machine import loss_per_pattern, predict, unit_rows
from committee.patterns import PatternSet
from committee.rotated_patterns import RotatedPatterns, run_esgd, run_rsgd, run_sgd
from message_passing.tools.parallel import run_tasks

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class TrainedMachine:
    """One restart: ``weights`` (K, N) with unit rows, and how training went.

    ``TrainedEnsemble`` explains the attributes.
    """

    weights: NDArray[np.float64]
    epochs: int
    train_error: float
    test_error: float
    loss: float
    converged: bool
    collapsed: bool


@dataclass(frozen=True, repr=False)
class TrainedEnsemble:
    """Independent restarts of one algorithm.

    Attributes
    ----------
    weights : (R, K, N)
        Unit rows. For Replicated-SGD the centre of the replicas.
    epochs : (R,) int
    train_error, test_error : (R,)
        Fractions of wrongly classified patterns; NaN without test patterns.
    loss : (R,)
        Mean training loss at the β and ω of the last epoch.
    converged : (R,) bool
        Training met the algorithm's stopping rule within ``max_epochs``.
    collapsed : (R,) bool
        The machine gives all training patterns, or all test patterns, the same answer, although
        both labels occur there.
    algorithm : Algorithm
    """

    weights: NDArray[np.float64]
    epochs: NDArray[np.int64]
    train_error: NDArray[np.float64]
    test_error: NDArray[np.float64]
    loss: NDArray[np.float64]
    converged: NDArray[np.bool_]
    collapsed: NDArray[np.bool_]
    algorithm: Algorithm

    def __len__(self) -> int:
        return len(self.epochs)

    def to_frame(self) -> pd.DataFrame:
        """One row per restart: everything but the weights."""
        import pandas as pd

        columns = {name: getattr(self, name) for name in MEASURED}
        restarts = range(len(self))
        return pd.DataFrame({"algorithm": self.algorithm.name, "restart": restarts, **columns})

    def plot(self, ax: Axes | None = None) -> Axes:
        """Distribution of the test error."""
        from committee.figures import plot_test_errors

        return plot_test_errors({self.algorithm.name: self}, ax=ax)

    def __repr__(self) -> str:
        _, K, N = self.weights.shape
        collapsed = f", {self.collapsed.sum()} collapsed" if self.collapsed.any() else ""
        return (
            f"TrainedEnsemble({self.algorithm.name}, {len(self)} machines, K={K}, N={N}, "
            f"{self.converged.sum()} converged, {np.sum(self.train_error == 0)} without training "
            f"errors{collapsed}, mean test error {100 * self.test_error.mean():.2f} %)"
        )


MEASURED = tuple(field.name for field in fields(TrainedMachine) if field.name != "weights")


def train(
    patterns: PatternSet,
    algorithm: str | Algorithm = "sgd-fast",
    restarts: int = 50,
    hidden_units: int = 9,
    seed: int = 0,
    max_epochs: int | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: bool = False,
) -> TrainedEnsemble:
    """Train ``restarts`` independent committee machines ([P21] Sec. 5, App. B.1).

    Parameters
    ----------
    patterns : PatternSet
        Training learns the training part only. The test part is scored at the end.
    algorithm : str or Algorithm
        A name of ``ALGORITHMS`` or an algorithm of your own.
    restarts, hidden_units : int
        Number of machines; K, odd.
    seed : int
        The same seed gives the same machines, for any number of workers. Restart i does not
        depend on the number of restarts.
    max_epochs : int, optional
        Replaces the algorithm's ``max_epochs``.
    workers : int, optional
        Processes; all cores by default.
    scheduler : str, optional
        Address of a Dask scheduler. Its workers train then.
    progress : bool
        Show a bar with the time left.

    Raises
    ------
    ValueError
        Something other than a ``PatternSet``, an unknown algorithm, an even number of hidden
        units.
    """
    if not isinstance(patterns, PatternSet):
        raise ValueError(
            f"patterns is of type {type(patterns).__name__}; a PatternSet was expected. Make one "
            "of your arrays: committee.PatternSet.from_arrays(X, y)."
        )
    algorithm = resolve_algorithm(algorithm, max_epochs)
    if restarts < 1:
        raise ValueError(f"restarts is {restarts}; a positive integer was expected.")
    _check_hidden_units(hidden_units)
    machines: dict[int, TrainedMachine] = dict(
        run_tasks(
            train_restart,
            np.random.SeedSequence(seed).spawn(restarts),
            common=(patterns, algorithm, hidden_units),
            workers=workers,
            scheduler=scheduler,
            progress=progress,
            description=f"training {algorithm.name}",
        )
    )
    return collect([machines[restart] for restart in range(restarts)], algorithm)


def collect(machines: list[TrainedMachine], algorithm: Algorithm) -> TrainedEnsemble:
    """Put restarts of one algorithm together."""
    columns = {
        field.name: np.array([getattr(machine, field.name) for machine in machines])
        for field in fields(TrainedMachine)
    }
    return TrainedEnsemble(**columns, algorithm=algorithm)


def resolve_algorithm(algorithm: str | Algorithm, max_epochs: int | None = None) -> Algorithm:
    """The algorithm of that name, or the one given; ``max_epochs`` is replaced if given."""
    if isinstance(algorithm, str) and algorithm in ALGORITHMS:
        algorithm = ALGORITHMS[algorithm]
    if not isinstance(algorithm, Algorithm):
        known = ", ".join(ALGORITHMS)
        raise ValueError(f"algorithm is {algorithm!r}; one of {known} was expected.")
    return algorithm if max_epochs is None else replace(algorithm, max_epochs=max_epochs)


def train_restart(
    patterns: PatternSet,
    algorithm: Algorithm,
    hidden_units: int,
    seed_sequence: np.random.SeedSequence,
) -> TrainedMachine:
    """Train one machine. All its random numbers come from ``seed_sequence``."""
    _check_hidden_units(hidden_units)
    inputs = RotatedPatterns(patterns, algorithm)
    if isinstance(algorithm, ReplicatedSGD):
        weights, epochs, converged = run_rsgd(inputs, algorithm, hidden_units, seed_sequence)
    elif isinstance(algorithm, EntropySGD):
        weights, epochs, converged = run_esgd(inputs, algorithm, hidden_units, seed_sequence)
    elif isinstance(algorithm, SGD):
        weights, epochs, converged = run_sgd(inputs, algorithm, hidden_units, seed_sequence)
    else:
        raise ValueError(f"algorithm is {algorithm!r}; SGD, ReplicatedSGD or EntropySGD expected.")
    weights = unit_rows(weights @ inputs.rotation.T)
    last = max(epochs - 1, 0)
    X, y = patterns.train_patterns, patterns.train_labels
    beta, omega = float(algorithm.beta(last)), float(algorithm.omega(last))
    answers = predict(weights, X)
    collapsed, test_error = _is_constant(answers, y), float("nan")
    if len(patterns.test_labels):
        test_answers = predict(weights, patterns.test_patterns)
        test_error = float(np.mean(test_answers != patterns.test_labels))
        collapsed = collapsed or _is_constant(test_answers, patterns.test_labels)
    return TrainedMachine(
        weights=weights,
        epochs=epochs,
        train_error=float(np.mean(answers != y)),
        test_error=test_error,
        loss=float(loss_per_pattern(weights, X, y, beta, omega).mean()),
        converged=converged,
        collapsed=collapsed,
    )


def _is_constant(answers: NDArray[np.float64], labels: NDArray[np.float64]) -> bool:
    """Whether there is one answer only, where both labels occur."""
    return bool(np.all(answers == answers[0]) and np.any(labels != labels[0]))


def _check_hidden_units(hidden_units: int) -> None:
    if hidden_units < 1 or hidden_units % 2 == 0:
        raise ValueError(f"hidden_units is {hidden_units}; an odd positive number was expected.")
