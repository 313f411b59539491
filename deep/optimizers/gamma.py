"""How the elastic strength γ changes during training, and how strong it may be.

γ may be given as a number, as any schedule of ``committee.schedules`` (its time is the number of
optimizer steps for ``ReplicatedSGD``, of outer steps for ``EntropySGD``), or as
``AutomaticFocusing``, which measures its starting value ([P21] Sec. 4, "Focusing").
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from committee.schedules import Constant, Exponential, Schedule


@dataclass(frozen=True)
class AutomaticFocusing:
    """γ_τ = γ0 (1 + γ1)^τ with a measured γ0, growing by ``growth`` in ``total`` units of time.

    γ0 balances the loss and the elastic term: ``Σ_a L(w^a) / Σ_a d(w^a, w̄)`` before training
    for Replicated-SGD, ``L(w) / d(w', w)`` after a first inner loop with γ = 0 for Entropy-SGD,
    with d(w', w) = ½‖w' − w‖² ([P21] eq. 2). [P21] uses ``growth`` 1e4 and 10. For Entropy-SGD
    the authors call this criterion not robust.
    """

    growth: float
    total: float

    def __post_init__(self) -> None:
        if not (self.growth > 0 and math.isfinite(self.growth)):
            raise ValueError(f"growth is {self.growth}; a positive number was expected.")
        if not self.total > 0:
            raise ValueError(f"total is {self.total}; a positive number of steps was expected.")

    def starting_at(self, gamma0: float) -> Exponential:
        """The schedule once γ0 has been measured."""
        return Exponential.growing_by(self.growth, gamma0, self.total)


Gamma = float | Schedule | AutomaticFocusing


def gamma_rule(gamma: Gamma) -> Schedule | AutomaticFocusing:
    """A number as a constant schedule. Raises ``ValueError`` where it is negative or infinite."""
    if not isinstance(gamma, int | float):
        return gamma
    if not (gamma >= 0 and math.isfinite(gamma)):
        raise ValueError(f"gamma is {gamma}; a finite number ≥ 0 was expected.")
    return Constant(float(gamma))


def balanced_gamma0(loss: float, distance: float) -> float:
    """γ0 = loss / distance. Raises ``ValueError`` where that is no positive number."""
    if not (distance > 0 and loss > 0 and math.isfinite(loss / distance)):
        raise ValueError(
            f"gamma0 cannot be balanced: the loss is {loss:g} and the distance {distance:g}; "
            "both were expected to be positive and finite. Start the replicas from "
            "different weights, or give gamma as a number."
        )
    return loss / distance


class StabilityWarning(UserWarning):
    """The elastic coupling is stronger than the explicit kick bears."""


@lru_cache(maxsize=256)
def largest_stable_kick(momentum: float, nesterov: bool, coupling_period: int) -> float:
    """Largest ηK_cγ for which the distance between replicas does not grow, without a loss.

    With SGD's momentum m, the displacement x = w^a − w̄ and ηv obey a linear map, one step with
    gradient K_c γ x after K_c − 1 steps with none; stable while its spectral radius is at most
    one. Without momentum the limit is 2, with Nesterov momentum 0.9 and K_c = 1 it is
    2(1 + m)/(1 + 2m) = 1.36. The stiffness of the loss lowers it further.
    """
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum is {momentum}; a number in [0, 1) was expected.")

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
    """Warn where η·strength exceeds the limit for a base; returns both, or None if it is stable.

    ``lr`` is η (default: that of each group). The limit is known for SGD only; nothing is said
    of other bases.
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
