"""One restart of SGD, Replicated-SGD or Entropy-SGD on rotated inputs, which halves the cost.

Training does not change when the input space is rotated. Here the rotation makes the pattern
matrix lower triangular. Each ``run_…`` calls its kernel and returns (rotated weights, epochs,
stopping rule met).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from committee._kernels_epochs import esgd_epochs, rsgd_epochs, sgd_epochs
from committee._kernels_minibatch import draw_minibatches
from committee._random import LANES, sfc64_lanes
from committee.algorithms import SGD, Algorithm, EntropySGD, MinibatchAlgorithm, ReplicatedSGD
from committee.machine import error_rate, loss_per_pattern, unit_rows
from committee.patterns import PatternSet

# Epochs per call of a kernel: long enough to hide the call, short enough to interrupt.
CHUNK = 64


@lru_cache(maxsize=1)
def _rotation(contents: bytes, P: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """QR factors of the transposed patterns, computed once for all restarts of a process.

    The key is the content of the patterns, because every task has its own copy. The QR runs on one
    thread, as the tasks do, so that its rounding does not depend on the caller.
    """
    with threadpool_limits(limits=1):
        rotation, upper = np.linalg.qr(np.frombuffer(contents).reshape(P, -1).T, mode="complete")
    rotation.setflags(write=False)
    return rotation, upper


class RotatedPatterns:
    """The training patterns in the form for the kernels (see ``_kernels_minibatch.py``).

    ``rotation`` (N, N) is orthogonal. Rotated patterns ``patterns @ rotation`` are lower
    triangular. Rotated weights are ``weights @ rotation``. With dropout, which acts on single
    inputs, the rotation is the identity. Without an algorithm all patterns are one minibatch.
    """

    def __init__(
        self,
        patterns: PatternSet,
        algorithm: MinibatchAlgorithm | None = None,
        rotate: bool = True,
    ) -> None:
        self.P, self.N = P, N = patterns.train_patterns.shape
        if rotate and getattr(algorithm, "dropout", 0.0) == 0:
            contents = np.asarray(patterns.train_patterns, np.float64).tobytes()
            self.rotation, upper = _rotation(contents, P)
            rows, lengths = upper.T, np.minimum(np.arange(P) + 1, N)
        else:
            self.rotation = np.eye(N)
            rows, lengths = patterns.train_patterns, np.full(P, N)
        self.rows = np.zeros((P + 1, N), np.float32)
        self.rows[:P] = rows
        self.lengths = np.append(lengths, 0)
        self.labels = np.append(patterns.train_labels, 0.0).astype(np.float32)
        self.patterns = patterns
        self.size = P if algorithm is None else min(algorithm.batch_size, P)
        self.steps = -(-P // self.size)
        self.width = -(-self.size // 4) * 4
        mean = algorithm is not None and algorithm.reduction == "mean"
        self.scale = np.float32(1.0 / self.size if mean else 1.0)

    def start(self, K: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Rotated initial weights: uniform, with unit rows."""
        weights = unit_rows(rng.uniform(-1.0, 1.0, (K, self.N)))
        return np.ascontiguousarray(weights @ self.rotation, dtype=np.float32)

    def draw(self, rng: np.random.Generator, passes: int) -> NDArray[np.int64]:
        """Minibatches (passes, steps, width) for this number of passes over the patterns."""
        batches = np.empty((passes, self.steps, self.width), np.int64)
        bits = rng.bit_generator.random_raw(passes * self.P).reshape(passes, self.P)
        draw_minibatches(bits, batches, self.P, self.size)
        return batches


def _children(seed_sequence: np.random.SeedSequence, count: int) -> list[np.random.SeedSequence]:
    """The first ``count`` children. Unlike ``spawn``, every call returns the same ones."""
    entropy, key = seed_sequence.entropy, seed_sequence.spawn_key
    return [np.random.SeedSequence(entropy, spawn_key=(*key, child)) for child in range(count)]


def _streams(seed_sequence: np.random.SeedSequence, count: int) -> list[np.random.Generator]:
    """Generators of the first ``count`` children."""
    return [np.random.default_rng(child) for child in _children(seed_sequence, count)]


def _chunks(algorithm: Algorithm, length: int) -> Iterator[NDArray[np.int64]]:
    for first in range(0, algorithm.max_epochs, length):
        yield np.arange(first, min(first + length, algorithm.max_epochs))


def run_sgd(
    inputs: RotatedPatterns,
    algorithm: SGD,
    K: int,
    seed_sequence: np.random.SeedSequence,
) -> tuple[NDArray, int, bool]:
    rng, masks = _streams(seed_sequence, algorithm.replica + 2)[algorithm.replica :]
    weights = inputs.start(K, rng)
    # A loss is never below 0, so with threshold 0 the rule "epochs" is not met before the end.
    thresholds = {"zero-errors": -1.0, "cross-entropy": algorithm.threshold, "epochs": 0.0}
    threshold = thresholds[algorithm.stop_at]
    offender = np.zeros(1, np.int64)
    for epochs in _chunks(algorithm, CHUNK):
        remaining = epochs
        batches = inputs.draw(rng, len(epochs))
        while remaining.size:
            done, stopped = sgd_epochs(
                weights,
                inputs.rows,
                inputs.lengths,
                inputs.labels,
                batches[len(epochs) - len(remaining) :],
                np.float32(algorithm.lr),
                algorithm.beta(remaining),
                algorithm.omega(remaining),
                inputs.scale,
                threshold,
                offender,
                algorithm.dropout,
                masks,
            )
            # The kernel checks rounded float32 patterns. The rule is for the exact patterns.
            if stopped and _rule_holds(inputs, algorithm, weights, int(remaining[done - 1])):
                return weights, int(remaining[done - 1]) + 1, True
            remaining = remaining[done:]
    return weights, algorithm.max_epochs, algorithm.stop_at == "epochs"


def _rule_holds(inputs: RotatedPatterns, algorithm: SGD, weights: NDArray, epoch: int) -> bool:
    weights = unit_rows(weights @ inputs.rotation.T)
    patterns, labels = inputs.patterns.train_patterns, inputs.patterns.train_labels
    if algorithm.stop_at == "zero-errors":
        return error_rate(weights, patterns, labels) == 0
    beta, omega = float(algorithm.beta(epoch)), float(algorithm.omega(epoch))
    loss = loss_per_pattern(weights, patterns, labels, beta, omega).mean()
    return bool(loss < algorithm.threshold)


def run_rsgd(
    inputs: RotatedPatterns,
    algorithm: ReplicatedSGD,
    K: int,
    seed_sequence: np.random.SeedSequence,
) -> tuple[NDArray, int, bool]:
    if algorithm.replicas == 1:
        return run_sgd(inputs, algorithm.alone(), K, seed_sequence)
    streams = _streams(seed_sequence, algorithm.replicas)
    replicas = np.stack([inputs.start(K, rng) for rng in streams])
    period = algorithm.coupling_period
    done, stopped, epoch = 0, False, 0
    for epochs in _chunks(algorithm, CHUNK):
        batches = np.stack([inputs.draw(rng, len(epochs)) for rng in streams], axis=1)
        coupling = period * algorithm.elastic_scale * algorithm.gamma(epochs)
        done, stopped, _ = rsgd_epochs(
            replicas,
            inputs.rows,
            inputs.lengths,
            inputs.labels,
            batches,
            np.float32(algorithm.lr),
            algorithm.beta(epochs),
            algorithm.omega(epochs),
            inputs.scale,
            coupling,
            period,
            epoch * inputs.steps,
            algorithm.distance_threshold,
        )
        epoch += done
        if stopped:
            break
    return replicas.mean(axis=0, dtype=np.float64), epoch, stopped


def run_esgd(
    inputs: RotatedPatterns,
    algorithm: EntropySGD,
    K: int,
    seed_sequence: np.random.SeedSequence,
) -> tuple[NDArray, int, bool]:
    (rng,) = _streams(seed_sequence, 1)
    lanes = sfc64_lanes(_children(seed_sequence, LANES + 1)[1:])
    weights = inputs.start(K, rng)
    L = algorithm.inner_steps
    for epochs in _chunks(algorithm, max(1, CHUNK // L)):
        batches = inputs.draw(rng, L * len(epochs))
        done, stopped, _ = esgd_epochs(
            weights,
            inputs.rows,
            inputs.lengths,
            inputs.labels,
            batches.reshape(len(epochs), inputs.steps, L, inputs.width),
            lanes,
            np.float32(algorithm.lr),
            np.float32(algorithm.inner_lr),
            np.float32(algorithm.noise),
            np.float32(algorithm.averaging),
            algorithm.beta(epochs),
            algorithm.omega(epochs),
            inputs.scale,
            algorithm.elastic_scale * algorithm.gamma(epochs),
            algorithm.distance_threshold,
        )
        if stopped:
            return weights, int(epochs[0]) + done, True
    return weights, algorithm.max_epochs, False
