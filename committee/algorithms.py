"""Training algorithms as frozen dataclasses: the five of [P21] App. B.1, their controls, and two
that search for the flattest machines (``solution_space``). Copy one and change its settings:

    from dataclasses import replace
    gentle = replace(ALGORITHMS["sgd-fast"], lr=1e-4, name="sgd-gentle")

Time is counted in epochs. For SGD and Replicated-SGD an epoch is one pass over the patterns (by
every replica). For Entropy-SGD it is P / batch_size *outer* steps, hence ``inner_steps`` passes.
For weight-noise descent it is one step on all patterns.
The distances in the stopping rules are squared Euclidean norms over all K·N weights, with
unit-norm rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from committee.entropic import equivalent_lr
from committee.schedules import Constant, Exponential, Schedule
from committee.solution_space.entropy_slope import EPSlope, SlopeEngine
from message_passing.local_entropy import check_ladder
from message_passing.tools.validation import check

SINGLE_REPLICA_THRESHOLD = 1e-7


@dataclass(frozen=True)
class Algorithm:
    """Settings of all algorithms.

    Attributes
    ----------
    name : str
    max_epochs : int
        Limit of the epochs. If the stopping rule is not met by then, the result has
        ``converged=False``.
    """

    name: str
    max_epochs: int

    def __post_init__(self) -> None:
        check("max_epochs", self.max_epochs, self.max_epochs >= 1, "a positive integer")


@dataclass(frozen=True)
class MinibatchAlgorithm(Algorithm):
    """Settings of the five algorithms of [P21].

    Attributes
    ----------
    lr : float
        Learning rate η. For Entropy-SGD it is the rate of the outer step.
    beta, omega : Schedule
        Slope of the hidden tanh and scale of the loss, functions of the epoch.
    batch_size : int
        Patterns per minibatch, reshuffled every epoch.
    reduction : "sum" or "mean"
        Reduction of the loss over a minibatch (mean: the sum divided by ``batch_size``). The
        published learning rates fit the sum.
    """

    lr: float
    beta: Schedule
    omega: Schedule
    batch_size: int = 100
    reduction: Literal["sum", "mean"] = "sum"

    def __post_init__(self) -> None:
        super().__post_init__()
        check("lr", self.lr, self.lr > 0, "a positive number")
        check("batch_size", self.batch_size, self.batch_size >= 1, "a positive integer")
        check("reduction", self.reduction, self.reduction in ("sum", "mean"), "'sum' or 'mean'")


@dataclass(frozen=True)
class SGD(MinibatchAlgorithm):
    """Stochastic gradient descent on the cross-entropy.

    Attributes
    ----------
    stop_at : "zero-errors", "cross-entropy" or "epochs"
        Training stops at zero training errors, at a mean training loss below ``threshold``, or
        after ``max_epochs``, which counts as converged.
    threshold : float
        Threshold of the cross-entropy rule. With 0 the rule is never met.
    dropout : float
        Probability that a training step sets an input to zero. The other inputs are divided by
        1 − dropout.
    replica : int
        Training has the start and the minibatches of this replica of ``ReplicatedSGD``.
    """

    stop_at: Literal["zero-errors", "cross-entropy", "epochs"] = "zero-errors"
    threshold: float = 1e-7
    dropout: float = 0.0
    replica: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        known = ("zero-errors", "cross-entropy", "epochs")
        check("stop_at", self.stop_at, self.stop_at in known, f"one of {', '.join(known)}")
        check("threshold", self.threshold, self.threshold >= 0, "a number ≥ 0")
        check("dropout", self.dropout, 0 <= self.dropout < 1, "a probability in [0, 1)")
        check("replica", self.replica, self.replica >= 0, "an integer ≥ 0")


@dataclass(frozen=True, kw_only=True)
class ReplicatedSGD(MinibatchAlgorithm):
    """Replicated-SGD ([P21] Algorithm 2): y replicas, pulled towards their centre.

    Every ``coupling_period`` (K_c) steps the gradient of replica a gets the term
    ``elastic_scale · K_c · γ · (w^a − w̄)``. A scale of 1 is the algorithm as printed. The paper
    does not state the unit of distances. The default, N of Fashion-MNIST, measures them and the
    threshold 1e-8 between rows of norm √N. ``committee.elastic_term`` compares the readings and
    decides by training errors and flatness. Its results page has the table.

    Training stops when the mean squared distance of the replicas from their centre falls below
    ``distance_threshold`` (with 0 it never stops early). The centre is the trained machine. A
    single replica is its own centre, so its distance is always 0. It trains as plain ``SGD``
    until the cross-entropy is below 1e-7 (see ``alone``).
    """

    gamma: Schedule
    replicas: int = 10
    elastic_scale: float = 784.0
    coupling_period: int = 1
    distance_threshold: float = 1e-8 / 784

    def __post_init__(self) -> None:
        super().__post_init__()
        check("replicas", self.replicas, self.replicas >= 1, "a positive integer")
        check("elastic_scale", self.elastic_scale, self.elastic_scale >= 0, "a number ≥ 0")
        period = self.coupling_period
        check("coupling_period", period, period >= 1, "a positive integer")
        strength = period * self.elastic_scale * self.gamma(np.arange(self.max_epochs))
        _check_stability(self.lr * strength, "lr · coupling_period · elastic_scale · γ")

    def alone(self) -> SGD:
        """The algorithm of a single replica: SGD with the same η, β and ω."""
        return SGD(
            self.name,
            self.max_epochs,
            self.lr,
            self.beta,
            self.omega,
            self.batch_size,
            self.reduction,
            stop_at="cross-entropy",
            threshold=SINGLE_REPLICA_THRESHOLD if self.distance_threshold > 0 else 0.0,
        )


@dataclass(frozen=True, kw_only=True)
class EntropySGD(MinibatchAlgorithm):
    """Entropy-SGD ([P21] Algorithm 1) with ``inner_steps`` (L) Langevin steps per outer step.

    ``inner_lr`` is η', ``noise`` is ε, ``averaging`` is α. The paper gives no α for the committee
    machine, so the default 0.75 is the value of its deep experiments. Training stops when the
    squared distance of w and μ at the end of an epoch is below ``distance_threshold``.
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
        check("inner_lr", self.inner_lr, self.inner_lr > 0, "a positive number")
        check("noise", self.noise, self.noise >= 0, "a number ≥ 0")
        check("averaging", self.averaging, 0 <= self.averaging <= 1, "a number in [0, 1]")
        check("inner_steps", self.inner_steps, self.inner_steps >= 1, "a positive integer")
        check("elastic_scale", self.elastic_scale, self.elastic_scale >= 0, "a number ≥ 0")
        strength = self.elastic_scale * self.gamma(np.arange(self.max_epochs))
        _check_stability(self.inner_lr * strength, "inner_lr · elastic_scale · γ")


@dataclass(frozen=True)
class WeightNoise(Algorithm):
    """Weight-noise descent on all patterns at once (see ``solution_space.weight_noise``).

    The step is Adam's, but with one second moment per hidden unit, so it does not depend on the
    axes of the input space. Training lasts ``max_epochs``. It has converged if there are no
    training errors at the end.

    Attributes
    ----------
    lr : float
        η. A step moves each unit, of norm 1, by about η √N.
    sigma : Schedule
        σ of the noise, a function of the epoch: ``Exponential`` anneals, ``Constant`` does not.
    momentum, second_moment : float
        Decay rates of the running means of the gradient and of its square.
    """

    name: str = "weight-noise"
    max_epochs: int = 1500
    lr: float = 5e-4
    sigma: Schedule = field(default=Exponential.growing_by(0.5 / 3.0, 3.0, 1499))
    momentum: float = 0.9
    second_moment: float = 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        check("lr", self.lr, self.lr > 0, "a positive number")
        check("momentum", self.momentum, 0 <= self.momentum < 1, "a number in [0, 1)")
        second = self.second_moment
        check("second_moment", second, 0 <= second < 1, "a number in [0, 1)")
        sigma = self.sigma(np.arange(self.max_epochs))
        good = bool(np.all(sigma > 0) and np.all(np.isfinite(sigma)))
        check("sigma", self.sigma, good, "a schedule of positive numbers")


@dataclass(frozen=True)
class EntropyAscent(Algorithm):
    """Ascent of the free entropy of solutions (see ``solution_space.entropy_ascent``).

    Attributes
    ----------
    max_epochs : int
        Limit of the accepted steps at each Δ.
    variances : increasing Δ
    step, momentum : float
        a and b. One step with a = 1 moves to the centre of the solutions around w.
    start : str
        Name of the algorithm that trains the initial machine in ``committee.train``.
    engine : SlopeEngine
    """

    name: str = "entropy-ascent"
    max_epochs: int = 8
    variances: tuple[float, ...] = (0.1, 0.3, 0.6, 1.2, 2.4, 5.0, 10.0)
    step: float = 2.0
    momentum: float = 0.6
    start: str = "sgd-fast"
    engine: SlopeEngine = field(default_factory=EPSlope)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ladder(self.variances, "variances")
        check("step", self.step, self.step > 0, "a positive number")
        check("momentum", self.momentum, 0 <= self.momentum < 1, "a number in [0, 1)")
        check("start", self.start, self.start in PUBLISHED, f"one of {', '.join(PUBLISHED)}")


def _check_stability(kick: np.ndarray, what: str) -> None:
    """An explicit elastic step contracts by 1 − kick. A kick beyond 1 overshoots the centre."""
    over = np.flatnonzero(kick > 1)
    if over.size:
        raise ValueError(
            f"{what} exceeds 1 from epoch {over[0]} on, where an explicit step overshoots the "
            f"centre; max_epochs of at most {over[0]}, or a smaller γ, was expected."
        )


_RSGD_FAST = ReplicatedSGD(
    "rsgd-fast", max_epochs=4_300, lr=1e-4, beta=Exponential(1.0, 2e-4),
    omega=Exponential(0.5, 1e-3), gamma=Exponential(2e-3, 2e-3),
)  # fmt: skip
_RSGD_SLOW = ReplicatedSGD(
    "rsgd-slow", max_epochs=90_000, lr=1e-3, beta=Exponential(1.0, 2e-4),
    omega=Exponential(0.5, 1e-3), gamma=Exponential(1e-4, 1e-4),
)  # fmt: skip
_ESGD = EntropySGD(
    "esgd", max_epochs=30_000, lr=1e-3, beta=Exponential(1.0, 1e-4),
    omega=Exponential(0.5, 5e-4), gamma=Exponential(10.0, 5e-5),
)  # fmt: skip
_SGD_FAST = SGD(
    "sgd-fast", max_epochs=20_000, lr=2e-4, beta=Exponential(2.0, 1e-4), omega=Exponential(5.0)
)
_SGD_SLOW = SGD(
    "sgd-slow", max_epochs=10_000, lr=3e-5, beta=Exponential(0.5, 1e-3),
    omega=Exponential(0.5, 1e-3), stop_at="cross-entropy",
)  # fmt: skip

PUBLISHED: dict[str, MinibatchAlgorithm] = {
    algorithm.name: algorithm for algorithm in (_SGD_FAST, _SGD_SLOW, _RSGD_FAST, _RSGD_SLOW, _ESGD)
}
"""The five of [P21] App. B.1."""


def _without_coupling(rsgd: ReplicatedSGD, epochs: int) -> list[MinibatchAlgorithm]:
    plain = replace(rsgd.alone(), name=f"control-{rsgd.name}", max_epochs=10_000)
    timed = replace(plain, name=f"{plain.name}-epochs", stop_at="epochs", max_epochs=epochs)
    last = replace(timed, name=f"{rsgd.name}-uncoupled", replica=rsgd.replicas - 1)
    return [plain, timed, last]


def _without_entropy(esgd: EntropySGD) -> list[MinibatchAlgorithm]:
    L = esgd.inner_steps
    lr = equivalent_lr(esgd.lr, esgd.inner_lr, esgd.averaging, L)
    # An epoch of Entropy-SGD is L passes over the patterns, an epoch of SGD is one pass.
    beta, omega = Exponential.growing_by(1 + 1e-4, 1.0, L), Exponential.growing_by(1 + 5e-4, 0.5, L)
    sgd = SGD("control-esgd-sgd", 15_000 * L, lr, beta, omega, stop_at="cross-entropy")
    return [replace(esgd, name="control-esgd", gamma=Constant(0.0)), sgd]


_CONTROLS: dict[str, list[MinibatchAlgorithm]] = {
    "rsgd-fast": _without_coupling(_RSGD_FAST, 2_684),
    "rsgd-slow": _without_coupling(_RSGD_SLOW, 60_529),
    "esgd": _without_entropy(_ESGD),
}

CONTROLS: dict[str, str] = {c.name: name for name, controls in _CONTROLS.items() for c in controls}
"""The algorithms without their entropic term: name of the control → name of the algorithm.

``control-rsgd-…`` is plain SGD with the same η, β and ω. It has the start and the minibatches of
replica 0, and stops at a cross-entropy below 1e-7. ``control-rsgd-…-epochs`` stops after the same
number of epochs as the algorithm. In an experiment this number comes from the run of the same draw
and restart, so the two are paired, and more restarts change nothing. In ``committee.train`` it is
the median of ``elastic_term`` on random patterns. ``rsgd-…-uncoupled`` is Replicated-SGD with
γ = 0. Each replica is then plain SGD. The machine is the last replica after the same number of
epochs. Only its random stream differs from ``control-rsgd-…-epochs``, so any difference between
these two is chance.

``control-esgd`` is Entropy-SGD with γ = 0. ``control-esgd-sgd`` is plain SGD that moves as far per
gradient as ``control-esgd`` (``entropic.equivalent_lr`` at γ = 0), with the same β and ω after the
same number of gradients. It stops at a cross-entropy below 1e-7.
"""

PLANNED: tuple[tuple[str, str], ...] = tuple(
    (name, reference)
    for name, controls in _CONTROLS.items()
    for reference in (*(control.name for control in controls), "sgd-slow")
)
"""The comparisons of Figure 1: each entropic algorithm with its controls and with sgd-slow."""

ALGORITHMS: dict[str, Algorithm] = {
    **PUBLISHED,
    **{control.name: control for controls in _CONTROLS.values() for control in controls},
    **{algorithm.name: algorithm for algorithm in (WeightNoise(), EntropyAscent())},
}
