"""Plain SGD that moves and decays the weights as fast as another algorithm does.

A small constant gradient g moves the weights by a displacement per minibatch gradient, the linear
response. It is η g/(1 − m) for SGD with momentum m. Weight decay alone, a gradient λw, shrinks them
by a factor per gradient. Two algorithms with equal displacement and factor learn and forget at the
same speed, as long as the weights move little in an inner loop.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deep.algorithms import Esgd, Rsgd, Sgd, Swa
from deep.config import TrainingConfig
from message_passing.tools.validation import check, check_one_of

TIMES = 1000  # points in time for means over a run
Array = NDArray[np.float64]


class EquivalentSgd(NamedTuple):
    """Learning rate η and weight decay λ of SGD, with the momentum and the drops of the run."""

    lr: float
    weight_decay: float


def equivalent_sgd(config: TrainingConfig, fraction: float | None = None) -> EquivalentSgd:
    """Learning rate and weight decay with which SGD learns and forgets as fast as the run.

    Parameters
    ----------
    fraction
        Fraction of the run at which γ is taken. None: means over the run, of η over time and of λ
        weighted by learning. SGD then learns and decays the same total amount.

    For Entropy-SGD, to first order in λ (the returned decay is exact)::

        η_SGD = η s D / L,      λ_SGD = λ [in the inner loop] + λ [in the outer loop] / D

    with s = 1, or γ for ``outer_form="code"``. D g = w − μ after an inner loop along g. Its
    momentum starts from zero. The centre of Replicated-SGD responds to one of y gradients, so
    η_SGD = η / y.

    Learning rate drops act on both alike, so the returned η is the one before them. Raises
    ``ValueError`` for a base other than SGD, a γ that training measures, and other algorithms.
    """
    own, decay, momentum = config.algorithm, config.weight_decay, config.momentum
    check_one_of("optimizer", config.optimizer, ("sgd",))
    if isinstance(own, Rsgd):
        return EquivalentSgd(config.lr / own.replicas, decay)
    if isinstance(own, Sgd | Swa):
        return EquivalentSgd(config.lr, decay)
    if not isinstance(own, Esgd):
        raise ValueError(f"algorithm is {own.name!r}; sgd, swa, rsgd or esgd was expected.")
    check("gamma", own.gamma, own.gamma != "measured", "a number")
    from deep.methods import gamma_of

    times = (np.arange(TIMES) + 0.5) / TIMES if fraction is None else np.array([fraction])
    gamma = np.asarray(gamma_of(own, 1.0)(times))  # type: ignore[operator]
    outer_lr = config.lr * (gamma if own.outer_form == "code" else np.ones_like(gamma))
    inner, outer = (decay * (own.decay_in in ("both", loop)) for loop in ("inner", "outer"))
    response = inner_response(own, gamma, momentum, config.nesterov)
    rates = outer_lr * response / own.inner_steps
    # w − μ and the outer base's own decay act together as one decay of an SGD with the outer rate.
    total = inner * inner_response(own, gamma + inner, momentum, config.nesterov) + outer
    factor = shrinking_factor(outer_lr * total, momentum, config.nesterov)
    factor = factor ** (1 / own.inner_steps)
    decays = decay_with_factor(factor, momentum, config.nesterov) / rates
    if fraction is not None:
        return EquivalentSgd(float(rates[0]), float(decays[0]))
    drops = np.array([config.learning_rate(time) for time in times])
    learnt = rates * drops
    return EquivalentSgd(
        float(learnt.sum() / drops.sum()), float((learnt * decays).sum() / learnt.sum())
    )


def inner_response(own: Esgd, gamma: Array, momentum: float, nesterov: bool) -> Array:
    """D = (w − μ)/g after L inner steps (Algorithm 1, lines 4 to 7) along a gradient g, for each γ.

    It iterates w' − w, the velocity and μ − w in units of g, from zero.
    """
    moved, velocity, average = (np.zeros_like(gamma) for _ in range(3))
    for _ in range(own.inner_steps):
        gradient = 1 + gamma * moved
        velocity = momentum * velocity + gradient
        step = gradient + momentum * velocity if nesterov else velocity
        moved = moved - own.inner_lr * step
        average = own.averaging * average + (1 - own.averaging) * moved
    return -average


def shrinking_factor(kick: Array, momentum: float, nesterov: bool) -> Array:
    """Factor ρ by which an SGD step with ηλ = ``kick`` and no other gradient shrinks the weights.

    ρ is the larger root of ρ² − (1 + m)(1 − ηλ)ρ + m(1 − ηλ) = 0 with Nesterov momentum m, and of
    ρ² − (1 + m − ηλ)ρ + m = 0 without. If decay is strong enough for oscillations, the modulus is
    returned.
    """
    last = momentum * (1 - kick if nesterov else np.ones_like(kick))
    middle = (1 + momentum) * (1 - kick) if nesterov else 1 + momentum - kick
    return np.abs(middle + np.sqrt(middle**2 - 4 * last + 0j)) / 2


def decay_with_factor(factor: Array, momentum: float, nesterov: bool) -> Array:
    """ηλ for which ``shrinking_factor`` is ``factor``: the inverse function."""
    numerator = (1 - factor) * (factor - momentum)
    return numerator / ((1 + momentum) * factor - momentum if nesterov else factor)
