"""The five training algorithms of [P21] App. B.1 as frozen dataclasses, to be copied and changed.

    from dataclasses import replace
    gentle = replace(ALGORITHMS["sgd-fast"], lr=1e-4, name="sgd-gentle")

Time is counted in epochs. For SGD and Replicated-SGD an epoch is one pass over the patterns (of
every replica). For Entropy-SGD it is P / batch_size *outer* steps, hence ``inner_steps`` passes.
The distances in the stopping rules are squared Euclidean norms over all K·N weights, with
unit-norm rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from committee.schedules import Exponential, Schedule

SINGLE_REPLICA_THRESHOLD = 1e-7


@dataclass(frozen=True)
class Algorithm:
    """What all algorithms share.

    Attributes
    ----------
    name : str
    lr : float
        Learning rate η (of the outer step for Entropy-SGD).
    beta, omega : Schedule
        Slope of the hidden tanh and scale of the loss, functions of the epoch.
    max_epochs : int
        Training gives up after this epoch. The result then says ``converged=False``.
    batch_size : int
        Patterns per minibatch, reshuffled every epoch.
    reduction : "sum" or "mean"
        Of the loss over a minibatch (mean: the sum divided by ``batch_size``). The published
        learning rates fit the sum.
    """

    name: str
    lr: float
    beta: Schedule
    omega: Schedule
    max_epochs: int
    batch_size: int = 100
    reduction: Literal["sum", "mean"] = "sum"

    def __post_init__(self) -> None:
        _expect(self.lr > 0, "lr", self.lr, "a positive number")
        _expect(self.max_epochs >= 1, "max_epochs", self.max_epochs, "a positive integer")
        _expect(self.batch_size >= 1, "batch_size", self.batch_size, "a positive integer")
        _expect(self.reduction in ("sum", "mean"), "reduction", self.reduction, "'sum' or 'mean'")


@dataclass(frozen=True)
class SGD(Algorithm):
    """Stochastic gradient descent on the cross-entropy.

    Attributes
    ----------
    stop_at : "zero-errors" or "cross-entropy"
        Training stops without training errors, or at a mean training loss below ``threshold``.
    threshold : float
        With 0 the rule is never met.
    dropout : float
        Probability that a training step sets an input to zero. The others are divided by
        1 − dropout.
    """

    stop_at: Literal["zero-errors", "cross-entropy"] = "zero-errors"
    threshold: float = 1e-7
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        known = ("zero-errors", "cross-entropy")
        _expect(self.stop_at in known, "stop_at", self.stop_at, "'zero-errors' or 'cross-entropy'")
        _expect(self.threshold >= 0, "threshold", self.threshold, "a number ≥ 0")
        _expect(0 <= self.dropout < 1, "dropout", self.dropout, "a probability in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class ReplicatedSGD(Algorithm):
    """Replicated-SGD ([P21] Algorithm 2): y replicas, pulled towards their centre.

    Every ``coupling_period`` (K_c) steps the gradient of replica a gets the term
    ``elastic_scale · K_c · γ · (w^a − w̄)``. With 1 this is the algorithm as printed, but the
    published γ then leaves training errors: the replicas meet only when the growing β has
    frozen them. The default is N of Fashion-MNIST, as if distances were measured between rows of
    norm √N. Of the factors tried (1, 100, 784, 3000, 1e4, 1e5) it is the one with which both
    published algorithms nearly always end without training errors.

    Training stops when the mean squared distance of the replicas from their centre falls below
    ``distance_threshold`` (with 0 it never stops early). The centre is the trained machine. A
    single replica is its own centre, and that distance says nothing: it trains as plain ``SGD``
    does, until the cross-entropy is below 1e-7 (see ``alone``).
    """

    gamma: Schedule
    replicas: int = 10
    elastic_scale: float = 784.0
    coupling_period: int = 1
    distance_threshold: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect(self.replicas >= 1, "replicas", self.replicas, "a positive integer")
        _expect(self.elastic_scale >= 0, "elastic_scale", self.elastic_scale, "a number ≥ 0")
        period = self.coupling_period
        _expect(period >= 1, "coupling_period", period, "a positive integer")
        strength = period * self.elastic_scale * self.gamma(np.arange(self.max_epochs))
        _check_stability(self.lr * strength, "lr · coupling_period · elastic_scale · γ")

    def alone(self) -> SGD:
        """What a single replica does: SGD with the same η, β and ω."""
        return SGD(
            self.name,
            self.lr,
            self.beta,
            self.omega,
            self.max_epochs,
            self.batch_size,
            self.reduction,
            stop_at="cross-entropy",
            threshold=SINGLE_REPLICA_THRESHOLD if self.distance_threshold > 0 else 0.0,
        )


@dataclass(frozen=True, kw_only=True)
class EntropySGD(Algorithm):
    """Entropy-SGD ([P21] Algorithm 1) with ``inner_steps`` (L) Langevin steps per outer step.

    ``inner_lr`` is η', ``noise`` ε, ``averaging`` α. The paper gives no α for the committee
    machine; 0.75 is the value of its deep experiments. Training stops when, at the end of an
    epoch, the squared distance of w and μ is below ``distance_threshold``.
    """

    gamma: Schedule
    inner_lr: float = 5e-3
    noise: float = 1e-6
    averaging: float = 0.75
    inner_steps: int = 20
    elastic_scale: float = 1.0
    distance_threshold: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect(self.inner_lr > 0, "inner_lr", self.inner_lr, "a positive number")
        _expect(self.noise >= 0, "noise", self.noise, "a number ≥ 0")
        _expect(0 <= self.averaging <= 1, "averaging", self.averaging, "a number in [0, 1]")
        _expect(self.inner_steps >= 1, "inner_steps", self.inner_steps, "a positive integer")
        _expect(self.elastic_scale >= 0, "elastic_scale", self.elastic_scale, "a number ≥ 0")
        strength = self.elastic_scale * self.gamma(np.arange(self.max_epochs))
        _check_stability(self.inner_lr * strength, "inner_lr · elastic_scale · γ")


def _expect(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise ValueError(f"{name} is {value!r}; {expected} was expected.")


def _check_stability(kick: np.ndarray, what: str) -> None:
    """An explicit elastic step contracts by 1 − kick: beyond 1 it overshoots the centre."""
    over = np.flatnonzero(kick > 1)
    if over.size:
        raise ValueError(
            f"{what} exceeds 1 from epoch {over[0]} on, where an explicit step overshoots the "
            f"centre; max_epochs of at most {over[0]}, or a smaller γ, was expected."
        )


ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        SGD(
            name="sgd-fast",
            lr=2e-4,
            beta=Exponential(2.0, 1e-4),
            omega=Exponential(5.0),
            max_epochs=20_000,
        ),
        SGD(
            name="sgd-slow",
            lr=3e-5,
            beta=Exponential(0.5, 1e-3),
            omega=Exponential(0.5, 1e-3),
            max_epochs=10_000,
            stop_at="cross-entropy",
        ),
        ReplicatedSGD(
            name="rsgd-fast",
            lr=1e-4,
            beta=Exponential(1.0, 2e-4),
            omega=Exponential(0.5, 1e-3),
            max_epochs=4_300,
            gamma=Exponential(2e-3, 2e-3),
        ),
        ReplicatedSGD(
            name="rsgd-slow",
            lr=1e-3,
            beta=Exponential(1.0, 2e-4),
            omega=Exponential(0.5, 1e-3),
            max_epochs=90_000,
            gamma=Exponential(1e-4, 1e-4),
        ),
        EntropySGD(
            name="esgd",
            lr=1e-3,
            beta=Exponential(1.0, 1e-4),
            omega=Exponential(0.5, 5e-4),
            max_epochs=30_000,
            gamma=Exponential(10.0, 5e-5),
        ),
    )
}
