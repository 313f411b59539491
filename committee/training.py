"""Training committee machines: restarts, stopping rules, results.

Every restart, and every replica in it, has its own random stream, spawned from the seed:
restart i is the same machine whatever the number of restarts or of workers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from committee.algorithms import RotatedPatterns, run_esgd, run_rsgd, run_sgd
from committee.machine import error_rate, loss_per_pattern, unit_rows
from committee.patterns import PatternSet
from committee.protocols import PROTOCOLS, SGD, EntropySGD, Protocol, ReplicatedSGD
from message_passing.tools.parallel import run_tasks


@dataclass(frozen=True)
class TrainedMachine:
    """One restart: ``weights`` (K, N) with unit rows, and how it got there.

    ``loss`` is the mean training loss at the β and ω of the last epoch; ``stopped`` says
    whether the protocol's stopping rule was met within ``epochs``.
    """

    weights: NDArray[np.float64]
    epochs: int
    train_error: float
    test_error: float
    loss: float
    stopped: bool


@dataclass(frozen=True)
class TrainedEnsemble:
    """Independent restarts of one protocol.

    Attributes
    ----------
    weights : (R, K, N)
        Unit rows. For Replicated-SGD the centre of the replicas.
    epochs : (R,) int
    train_error, test_error : (R,)
        Fractions of wrongly classified patterns.
    loss : (R,)
        Mean training loss at the β and ω of the last epoch.
    stopped : (R,) bool
        The protocol's stopping rule was met.
    protocol : Protocol
    """

    weights: NDArray[np.float64]
    epochs: NDArray[np.int64]
    train_error: NDArray[np.float64]
    test_error: NDArray[np.float64]
    loss: NDArray[np.float64]
    stopped: NDArray[np.bool_]
    protocol: Protocol

    def __len__(self) -> int:
        return len(self.epochs)


def train(
    patterns: PatternSet,
    protocol: str | Protocol = "sgd-fast",
    restarts: int = 50,
    hidden_units: int = 9,
    seed: int = 0,
    max_epochs: int | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    dropout: float = 0.0,
    progress: bool = False,
) -> TrainedEnsemble:
    """Train ``restarts`` independent committee machines ([P21] Sec. 5, App. B.1).

    Parameters
    ----------
    patterns : PatternSet
        Only the training part is learnt; the test part is scored at the end.
    protocol : str or Protocol
        A name of ``PROTOCOLS`` or a protocol of your own.
    restarts, hidden_units : int
        Number of machines; K, odd.
    seed : int
        The same seed gives the same machines, for any number of workers, and restart i does
        not depend on the number of restarts.
    max_epochs : int, optional
        Replaces the protocol's ``max_epochs``.
    workers : int, optional
        Processes; all cores by default.
    scheduler : str, optional
        Address of a Dask scheduler whose workers train instead.
    dropout : float
        Probability that an input is set to zero in a training step (the others are divided by
        1 − dropout). Plain SGD only.
    progress : bool
        Show a bar with the time left.

    Raises
    ------
    ValueError
        An unknown protocol, an even number of hidden units, a dropout outside [0, 1).
    """
    protocol = resolve_protocol(protocol, max_epochs)
    if restarts < 1:
        raise ValueError(f"restarts is {restarts}; a positive integer was expected.")
    _check_machine(hidden_units, dropout, protocol)
    machines: dict[int, TrainedMachine] = dict(
        run_tasks(
            partial(train_restart, dropout=dropout),
            np.random.SeedSequence(seed).spawn(restarts),
            common=(patterns, protocol, hidden_units),
            workers=workers,
            scheduler=scheduler,
            progress=progress,
            description=f"training {protocol.name}",
        )
    )
    return collect([machines[restart] for restart in range(restarts)], protocol)


def collect(machines: list[TrainedMachine], protocol: Protocol) -> TrainedEnsemble:
    """Put restarts of one protocol together."""
    fields = ("weights", "epochs", "train_error", "test_error", "loss", "stopped")
    columns = {name: np.array([getattr(m, name) for m in machines]) for name in fields}
    return TrainedEnsemble(**columns, protocol=protocol)


def resolve_protocol(protocol: str | Protocol, max_epochs: int | None = None) -> Protocol:
    """The protocol of that name (or the one given), with ``max_epochs`` replaced if given."""
    if isinstance(protocol, str):
        if protocol not in PROTOCOLS:
            known = ", ".join(PROTOCOLS)
            raise ValueError(f"protocol is {protocol!r}; one of {known} was expected.")
        protocol = PROTOCOLS[protocol]
    return protocol if max_epochs is None else replace(protocol, max_epochs=max_epochs)


def train_restart(
    patterns: PatternSet,
    protocol: SGD | ReplicatedSGD | EntropySGD,
    hidden_units: int,
    seed_sequence: np.random.SeedSequence,
    dropout: float = 0.0,
) -> TrainedMachine:
    """Train one machine; the random stream is that of ``seed_sequence`` alone."""
    _check_machine(hidden_units, dropout, protocol)
    inputs = RotatedPatterns(patterns, protocol, rotate=dropout == 0)
    if isinstance(protocol, ReplicatedSGD):
        weights, epochs, stopped = run_rsgd(inputs, protocol, hidden_units, seed_sequence)
    elif isinstance(protocol, EntropySGD):
        weights, epochs, stopped = run_esgd(inputs, protocol, hidden_units, seed_sequence)
    else:
        weights, epochs, stopped = run_sgd(inputs, protocol, hidden_units, seed_sequence, dropout)
    weights = unit_rows(weights @ inputs.rotation.T)
    last = max(epochs - 1, 0)
    loss = loss_per_pattern(
        weights,
        patterns.train_patterns,
        patterns.train_labels,
        float(protocol.beta(last)),
        float(protocol.omega(last)),
    )
    return TrainedMachine(
        weights=weights,
        epochs=epochs,
        train_error=float(error_rate(weights, patterns.train_patterns, patterns.train_labels)),
        test_error=float(error_rate(weights, patterns.test_patterns, patterns.test_labels)),
        loss=float(loss.mean()),
        stopped=stopped,
    )


def _check_machine(hidden_units: int, dropout: float, protocol: Protocol) -> None:
    if hidden_units < 1 or hidden_units % 2 == 0:
        raise ValueError(f"hidden_units is {hidden_units}; an odd positive number was expected.")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}; a probability in [0, 1) was expected.")
    if dropout > 0 and not isinstance(protocol, SGD):
        raise ValueError(f"dropout is {dropout} with {protocol.name}; it goes with SGD only.")
