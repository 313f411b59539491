"""Training committee machines: restarts, stopping rules, results.

Every restart, and every replica in it, has its own random stream, spawned from the seed.
Restart i gives the same machine for any number of restarts or workers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from committee.algorithms import (
    ALGORITHMS,
    PUBLISHED,
    SGD,
    Algorithm,
    EntropyAscent,
    EntropySGD,
    MinibatchAlgorithm,
    ReplicatedSGD,
    WeightNoise,
)
from committee.machine import loss_per_pattern, predict, unit_rows
from committee.patterns import PatternSet
from committee.rotated_patterns import RotatedPatterns, run_esgd, run_rsgd, run_sgd
from committee.solution_space.entropy_ascent import ascend
from committee.solution_space.weight_noise import noise_loss, run_weight_noise
from message_passing.tools.parallel import run_tasks

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class TrainedMachine:
    """Result of one restart: ``weights`` (K, N) with unit rows, epochs, errors and loss.

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
        Weights with unit rows. For Replicated-SGD they are the centre of the replicas.
    epochs : (R,) int
    train_error, test_error : (R,)
        Fractions of wrongly classified patterns. ``test_error`` is NaN without test patterns.
    loss : (R,)
        Mean training loss at the β and ω, or the σ, of the last epoch. For entropy-ascent it is
        −φ at the last Δ.
    converged : (R,) bool
        Whether training met the algorithm's stopping rule within ``max_epochs``.
    collapsed : (R,) bool
        Whether the machine gives the same answer to all training patterns, or to all test
        patterns, although both labels occur there.
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
        Training uses the training patterns only. The test error is measured at the end.
    algorithm : str or Algorithm
        A name of ``ALGORITHMS`` or an algorithm of your own. "entropy-ascent" starts from the
        machine of the algorithm ``start`` with the same seed.
    restarts, hidden_units : int
        Number of machines, and the odd number K.
    seed : int
        Seed of the initial weights, the minibatches and the noise. The same seed gives the same
        machines for any number of workers. Restart i does not depend on the number of restarts.
    max_epochs : int, optional
        Replaces the algorithm's ``max_epochs``.
    workers : int, optional
        Processes, by default one per core.
    scheduler : str, optional
        Address of a Dask scheduler. Its workers replace local processes.
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
    check_hidden_units(hidden_units)
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
    """Combine restarts of one algorithm into an ensemble."""
    columns = {
        field.name: np.array([getattr(machine, field.name) for machine in machines])
        for field in fields(TrainedMachine)
    }
    return TrainedEnsemble(**columns, algorithm=algorithm)


def resolve_algorithm(algorithm: str | Algorithm, max_epochs: int | None = None) -> Algorithm:
    """The algorithm with this name, or the given one, with ``max_epochs`` replaced if given."""
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
    X, y = patterns.train_patterns, patterns.train_labels
    if isinstance(algorithm, WeightNoise):
        weights, epochs, converged = run_weight_noise(
            patterns, algorithm, hidden_units, seed_sequence
        )
        loss, _ = noise_loss(weights, X, y, float(algorithm.sigma(epochs - 1)))
    elif isinstance(algorithm, EntropyAscent):
        first = train_restart(patterns, PUBLISHED[algorithm.start], hidden_units, seed_sequence)
        path = ascend(first.weights, X, y, algorithm)
        weights, epochs = path.weights[-1], path.steps
        converged = path.converged and path.training_errors[-1] == 0
        loss = -path.free_entropy[-1][-1]
    elif isinstance(algorithm, MinibatchAlgorithm):
        weights, epochs, converged = _run_minibatches(
            patterns, algorithm, hidden_units, seed_sequence
        )
        beta, omega = (float(s(max(epochs - 1, 0))) for s in (algorithm.beta, algorithm.omega))
        loss = float(loss_per_pattern(weights, X, y, beta, omega).mean())
    else:
        raise ValueError(f"algorithm is {algorithm!r}; one of a known kind was expected.")
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
        loss=float(loss),
        converged=bool(converged),
        collapsed=collapsed,
    )


def _run_minibatches(
    patterns: PatternSet,
    algorithm: MinibatchAlgorithm,
    hidden_units: int,
    seed_sequence: np.random.SeedSequence,
) -> tuple[NDArray[np.float64], int, bool]:
    inputs = RotatedPatterns(patterns, algorithm)
    if isinstance(algorithm, ReplicatedSGD):
        weights, epochs, converged = run_rsgd(inputs, algorithm, hidden_units, seed_sequence)
    elif isinstance(algorithm, EntropySGD):
        weights, epochs, converged = run_esgd(inputs, algorithm, hidden_units, seed_sequence)
    elif isinstance(algorithm, SGD):
        weights, epochs, converged = run_sgd(inputs, algorithm, hidden_units, seed_sequence)
    else:
        raise ValueError(f"algorithm is {algorithm!r}; SGD, ReplicatedSGD or EntropySGD expected.")
    return unit_rows(weights @ inputs.rotation.T), epochs, converged


def _is_constant(answers: NDArray[np.float64], labels: NDArray[np.float64]) -> bool:
    """Whether all answers are equal although both labels occur."""
    return bool(np.all(answers == answers[0]) and np.any(labels != labels[0]))


def check_hidden_units(hidden_units: int) -> None:
    """Raise ``ValueError`` unless the number is odd and positive."""
    if hidden_units < 1 or hidden_units % 2 == 0:
        raise ValueError(f"hidden_units is {hidden_units}; an odd positive number was expected.")
