"""Schedules of the elastic strength γ, and the limit of its stability.

γ is a number, a schedule of ``committee.schedules``, or ``AutomaticFocusing``, which measures the
initial value ([P21] Sec. 4, "Focusing"). The time of a schedule is the number of optimizer steps
for ``ReplicatedSGD`` and the number of outer steps for ``EntropySGD``.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from committee.schedules import Constant, Exponential, Schedule
from message_passing.tools.validation import check, check_numbers


@dataclass(frozen=True)
class AutomaticFocusing:
    """γ_τ = γ0 (1 + γ1)^τ with measured γ0; grows by the factor ``growth`` in the time ``total``.

    γ0 balances the loss and the elastic term. For Replicated-SGD it is
    ``Σ_a L(w^a) / Σ_a d(w^a, w̄)`` before training. For Entropy-SGD it is ``L(w) / d(w', w)`` after
    a first inner loop with γ = 0. Here d(w', w) = ½‖w' − w‖² ([P21] eq. 2). [P21] uses ``growth``
    1e4 and 10. The authors write that this criterion is not robust for Entropy-SGD.
    """

    growth: float
    total: float

    def __post_init__(self) -> None:
        check_numbers(self, positive=("growth", "total"))

    def starting_at(self, gamma0: float) -> Exponential:
        """The schedule once γ0 has been measured."""
        return Exponential.growing_by(self.growth, gamma0, self.total)


Gamma = float | Schedule | AutomaticFocusing


def gamma_rule(gamma: Gamma) -> Schedule | AutomaticFocusing:
    """A number as a constant schedule. Raises ``ValueError`` if it is negative or infinite."""
    if not isinstance(gamma, int | float):
        return gamma
    check("gamma", gamma, gamma >= 0 and math.isfinite(gamma), "a finite number ≥ 0")
    return Constant(float(gamma))


def balanced_gamma0(loss: float, distance: float) -> float:
    """γ0 = loss / distance. Raises ``ValueError`` unless both are positive and γ0 is finite."""
    if not (distance > 0 and loss > 0 and math.isfinite(loss / distance)):
        raise ValueError(
            f"gamma0 cannot be balanced: the loss is {loss:g} and the distance {distance:g}; "
            "both were expected to be positive and finite. Start the replicas from "
            "different weights, or give gamma as a number."
        )
    return loss / distance


class StabilityWarning(UserWarning):
    """The elastic coupling is too strong for a stable explicit kick."""


@lru_cache(maxsize=256)
def largest_stable_kick(momentum: float, nesterov: bool, coupling_period: int) -> float:
    """Largest ηK_cγ for which the distance between replicas does not grow, without a loss.

    With SGD's momentum m, the displacement x = w^a − w̄ and ηv obey a linear map: one step with
    gradient K_c γ x, then K_c − 1 steps without. The map is stable if its spectral radius is at
    most one. Without momentum the limit is 2. With Nesterov momentum 0.9 and K_c = 1 it is
    2(1 + m)/(1 + 2m) = 1.36. The curvature of the loss lowers it further.
    """
    check("momentum", momentum, 0 <= momentum < 1, "a number in [0, 1)")

    def radius(kick: float) -> float:
        period = np.linalg.matrix_power(_step(0.0), coupling_period - 1) @ _step(kick)
        return float(np.abs(np.linalg.eigvals(period)).max())

    def _step(kick: float) -> np.ndarray:
        # (ηv, x) → ηv' = m ηv + kick x; x' = x − (ηv' or, with Nesterov, kick x + m ηv').
        velocity = np.array([momentum, kick])
        move = np.array([0.0, kick]) + momentum * velocity if nesterov else velocity
        return np.array([velocity, np.array([0.0, 1.0]) - move])

    low, high = 0.0, 4.0 * (1 + momentum)  # the limit of K_c = 1 without Nesterov is 2(1 + m)
    scan = np.linspace(low, high, 2001)[1:]
    unstable = next((kick for kick in scan if radius(kick) > 1 + 1e-12), None)
    if unstable is None:
        return high
    low, high = unstable - scan[0], unstable
    while high - low > 1e-9:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if radius(middle) <= 1 + 1e-12 else (low, middle)
    return low


def warn_if_unstable(
    base: torch.optim.Optimizer,
    strength: float,
    coupling_period: int,
    when: str,
    advice: str,
    lr: float | None = None,
) -> tuple[float, float] | None:
    """Warn if η·strength exceeds the limit of a base; return both, or None if it is stable.

    ``lr`` is η (default: the ``lr`` of each group). The limit is known for SGD only. Other bases
    give None.
    """
    if not isinstance(base, torch.optim.SGD):
        return None
    for group in base.param_groups:
        kick = strength * (float(group["lr"]) if lr is None else lr)
        limit = largest_stable_kick(
            float(group["momentum"]), bool(group["nesterov"]), coupling_period
        )
        if kick > limit:
            warnings.warn(
                f"{when} the elastic kick is {kick:.3g}, beyond its limit of stability "
                f"{limit:.3g}; {advice}",
                StabilityWarning,
                stacklevel=4,
            )
            return kick, limit
    return None
