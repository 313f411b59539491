"""How the elastic strength γ changes during training of a network ([P21] Sec. 4, "Focusing").

γ may be given as a number, as any schedule of ``committee.schedules`` (its time is the number of
optimizer steps for ``ReplicatedSGD``, of outer steps for ``EntropySGD``), or as
``AutomaticFocusing``, whose starting value is measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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


class Focusing:
    """The value of γ at a time, and the measured γ0 where there is one (part of the state)."""

    def __init__(self, gamma: Gamma) -> None:
        if isinstance(gamma, int | float):
            if not (gamma >= 0 and math.isfinite(gamma)):
                raise ValueError(f"gamma is {gamma}; a finite number ≥ 0 was expected.")
            gamma = Constant(float(gamma))
        self.rule = gamma
        self.gamma0: float | None = None

    @property
    def awaits_measurement(self) -> bool:
        """Whether γ0 has still to be measured."""
        return isinstance(self.rule, AutomaticFocusing) and self.gamma0 is None

    def measured(self, loss: float, distance: float) -> None:
        """Set γ0 = loss / distance. Raises ``ValueError`` where that is no positive number."""
        if not (distance > 0 and loss > 0 and math.isfinite(loss / distance)):
            raise ValueError(
                f"gamma0 cannot be balanced: the loss is {loss:g} and the distance {distance:g}; "
                "both were expected to be positive and finite. Start the replicas from "
                "different weights, or give gamma as a number."
            )
        self.gamma0 = loss / distance

    def __call__(self, time: float) -> float:
        if isinstance(self.rule, AutomaticFocusing):
            return 0.0 if self.gamma0 is None else float(self.rule.starting_at(self.gamma0)(time))
        return float(self.rule(time))
