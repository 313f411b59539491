"""How strong the explicit elastic kick of Replicated-SGD may be before it oscillates apart."""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
import torch


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
