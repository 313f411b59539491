"""Training committee machines: restarts, stopping rules, results.

Every restart, and every replica in it, has its own random stream, spawned from the seed:
restart i is the same machine whatever the number of restarts or of workers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from committee import _kernels
from committee.machine import error_rate, loss_per_pattern, unit_rows
from committee.parallel import run_tasks
from committee.patterns import PatternSet
from committee.protocols import PROTOCOLS, SGD, EntropySGD, Protocol, ReplicatedSGD

# Epochs per call of a kernel: long enough to hide the call, short enough to interrupt.
CHUNK = 64


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
    seeds = np.random.SeedSequence(seed).spawn(restarts)
    _check_machine(hidden_units, dropout, protocol)
    tasks = [(patterns, protocol, hidden_units, child, dropout) for child in seeds]
    machines: list[TrainedMachine | None] = [None] * restarts
    description = f"training {protocol.name}" if progress else None
    for index, machine in run_tasks(
        _train_task, tasks, workers=workers, progress=progress, description=description
    ):
        machines[index] = machine
    return collect(machines, protocol)  # type: ignore[arg-type]


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
    inputs = _RotatedPatterns(patterns, protocol, rotate=dropout == 0)
    if isinstance(protocol, ReplicatedSGD):
        weights, epochs, stopped = _run_rsgd(inputs, protocol, hidden_units, seed_sequence)
    elif isinstance(protocol, EntropySGD):
        weights, epochs, stopped = _run_esgd(inputs, protocol, hidden_units, seed_sequence)
    else:
        weights, epochs, stopped = _run_sgd(inputs, protocol, hidden_units, seed_sequence, dropout)
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


def _train_task(task: tuple) -> TrainedMachine:
    return train_restart(*task)


def _check_machine(hidden_units: int, dropout: float, protocol: Protocol) -> None:
    if hidden_units < 1 or hidden_units % 2 == 0:
        raise ValueError(f"hidden_units is {hidden_units}; an odd positive number was expected.")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}; a probability in [0, 1) was expected.")
    if dropout > 0 and not isinstance(protocol, SGD):
        raise ValueError(f"dropout is {dropout} with {protocol.name}; it goes with SGD only.")


class _RotatedPatterns:
    """The training patterns as the kernels want them (see ``_kernels.py``).

    ``rotation`` is orthogonal (N, N): rotated patterns are ``patterns @ rotation``, lower
    triangular, rotated weights ``weights @ rotation``.
    """

    def __init__(self, patterns: PatternSet, protocol: Protocol, rotate: bool) -> None:
        self.P, self.N = P, N = patterns.train_patterns.shape
        if rotate:
            self.rotation, upper = np.linalg.qr(patterns.train_patterns.T, mode="complete")
            rows, lengths = upper.T, np.minimum(np.arange(P) + 1, N)
        else:
            self.rotation = np.eye(N)
            rows, lengths = patterns.train_patterns, np.full(P, N)
        self.rows = np.zeros((P + 1, N), np.float32)
        self.rows[:P] = rows
        self.lengths = np.append(lengths, 0)
        self.labels = np.append(patterns.train_labels, 0.0).astype(np.float32)
        self.patterns = patterns
        self.size = min(protocol.batch_size, P)
        self.steps = -(-P // self.size)
        self.width = -(-self.size // 4) * 4
        self.scale = np.float32(1.0 if protocol.reduction == "sum" else 1.0 / self.size)

    def start(self, K: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Uniform weights with unit rows, rotated."""
        weights = unit_rows(rng.uniform(-1.0, 1.0, (K, self.N)))
        return np.ascontiguousarray(weights @ self.rotation, dtype=np.float32)

    def draw(self, rng: np.random.Generator, passes: int) -> NDArray[np.int64]:
        """Minibatches of so many passes over the patterns, (passes, steps, width)."""
        batches = np.empty((passes, self.steps, self.width), np.int64)
        for one in batches:
            _kernels.draw_minibatches(rng, one, self.P, self.size)
        return batches


def _streams(seed_sequence: np.random.SeedSequence, count: int) -> list[np.random.Generator]:
    """Generators of the first ``count`` children; unlike ``spawn``, the same at every call."""
    return [
        np.random.default_rng(
            np.random.SeedSequence(
                seed_sequence.entropy, spawn_key=(*seed_sequence.spawn_key, child)
            )
        )
        for child in range(count)
    ]


def _chunks(protocol: Protocol, length: int):  # type: ignore[no-untyped-def]
    for first in range(0, protocol.max_epochs, length):
        yield np.arange(first, min(first + length, protocol.max_epochs))


def _run_sgd(
    inputs: _RotatedPatterns,
    protocol: SGD,
    K: int,
    seed_sequence: np.random.SeedSequence,
    dropout: float,
) -> tuple[NDArray, int, bool]:
    rng, masks = _streams(seed_sequence, 2)
    weights = inputs.start(K, rng)
    threshold = -1.0 if protocol.stop_at == "zero-errors" else protocol.threshold
    offender = np.zeros(1, np.int64)
    for epochs in _chunks(protocol, CHUNK):
        remaining = epochs
        batches = inputs.draw(rng, len(epochs))
        while remaining.size:
            done, stopped = _kernels.sgd_epochs(
                weights,
                inputs.rows,
                inputs.lengths,
                inputs.labels,
                batches[len(epochs) - len(remaining) :],
                np.float32(protocol.lr),
                protocol.beta(remaining),
                protocol.omega(remaining),
                inputs.scale,
                threshold,
                offender,
                dropout,
                masks,
            )
            # The kernel judges rounded float32 patterns; the rule holds for the true ones.
            if stopped and _rule_holds(inputs, protocol, weights, int(remaining[done - 1])):
                return weights, int(remaining[done - 1]) + 1, True
            remaining = remaining[done:]
    return weights, protocol.max_epochs, False


def _rule_holds(inputs: _RotatedPatterns, protocol: SGD, weights: NDArray, epoch: int) -> bool:
    weights = unit_rows(weights @ inputs.rotation.T)
    patterns, labels = inputs.patterns.train_patterns, inputs.patterns.train_labels
    if protocol.stop_at == "zero-errors":
        return error_rate(weights, patterns, labels) == 0
    beta, omega = float(protocol.beta(epoch)), float(protocol.omega(epoch))
    loss = loss_per_pattern(weights, patterns, labels, beta, omega).mean()
    return bool(loss < protocol.threshold)


def _run_rsgd(
    inputs: _RotatedPatterns,
    protocol: ReplicatedSGD,
    K: int,
    seed_sequence: np.random.SeedSequence,
) -> tuple[NDArray, int, bool]:
    streams = _streams(seed_sequence, protocol.replicas)
    replicas = np.stack([inputs.start(K, rng) for rng in streams])
    period = protocol.coupling_period
    done, stopped, epoch = 0, False, 0
    for epochs in _chunks(protocol, CHUNK):
        batches = np.stack([inputs.draw(rng, len(epochs)) for rng in streams], axis=1)
        coupling = period * protocol.elastic_scale * protocol.gamma(epochs)
        done, stopped, _ = _kernels.rsgd_epochs(
            replicas,
            inputs.rows,
            inputs.lengths,
            inputs.labels,
            batches,
            np.float32(protocol.lr),
            protocol.beta(epochs),
            protocol.omega(epochs),
            inputs.scale,
            coupling,
            period,
            epoch * inputs.steps,
            protocol.distance_threshold,
        )
        epoch += done
        if stopped:
            break
    return replicas.mean(axis=0, dtype=np.float64), epoch, stopped


def _run_esgd(
    inputs: _RotatedPatterns,
    protocol: EntropySGD,
    K: int,
    seed_sequence: np.random.SeedSequence,
) -> tuple[NDArray, int, bool]:
    rng, langevin = _streams(seed_sequence, 2)
    weights = inputs.start(K, rng)
    L = protocol.inner_steps
    # The kernel makes two normals of 64 random bits.
    shape = (1, inputs.steps, L, -(-K * inputs.N // 2) if protocol.noise > 0 else 0)
    for epochs in _chunks(protocol, 1):
        batches = inputs.draw(rng, L).reshape(1, inputs.steps, L, inputs.width)
        bits = langevin.bit_generator.random_raw(int(np.prod(shape))).reshape(shape)
        _, stopped, _ = _kernels.esgd_epochs(
            weights,
            inputs.rows,
            inputs.lengths,
            inputs.labels,
            batches,
            bits,
            np.float32(protocol.lr),
            np.float32(protocol.inner_lr),
            np.float32(protocol.noise),
            np.float32(protocol.averaging),
            protocol.beta(epochs),
            protocol.omega(epochs),
            inputs.scale,
            protocol.elastic_scale * protocol.gamma(epochs),
            protocol.distance_threshold,
        )
        if stopped:
            return weights, int(epochs[0]) + 1, True
    return weights, protocol.max_epochs, False
