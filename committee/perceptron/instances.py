"""Instances of finite size, and references of each kind on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from committee.gaussian_mixture import fit, hebb
from committee.perceptron._kernels_sphere import billiard_steps
from committee.perceptron.references import ReferenceName

#: Quarter turns from the maximum-margin solution to a typical one.
TRAJECTORIES = 100
#: At this small ridge the hinge loss is zero, so its minimiser has the maximum margin.
SMALLEST_RIDGE = 1e-4


@dataclass(frozen=True)
class Instance:
    """P = round(αN) patterns (P, N) of ±1, labels (P,), and the teacher (N,) if there is one."""

    patterns: NDArray[np.float64]
    labels: NDArray[np.float64]
    teacher: NDArray[np.float64] | None

    @classmethod
    def draw(cls, N: int, alpha: float, teacher: bool, rng: np.random.Generator) -> Instance:
        """Draw independent inputs ±1, and labels at random or from a teacher on the sphere."""
        P = round(alpha * N)
        if N < 2 or P < 1:
            raise ValueError(f"N = {N}, alpha = {alpha:g} give P = {P}; P ≥ 1 was expected.")
        patterns = rng.choice([-1.0, 1.0], (P, N))
        if not teacher:
            return cls(patterns, rng.choice([-1.0, 1.0], P), None)
        weights = rng.standard_normal(N)
        weights *= np.sqrt(N) / np.linalg.norm(weights)
        return cls(patterns, np.where(patterns @ weights >= 0, 1.0, -1.0), weights)

    def stabilities(self, weights: NDArray) -> NDArray[np.float64]:
        """σ w·x/‖w‖ of each pattern."""
        values: NDArray[np.float64] = self.labels * (self.patterns @ weights)
        return values / np.linalg.norm(weights)

    def reference(
        self, name: ReferenceName, rng: np.random.Generator, kappa: float = 0.0, ridge: float = 0.01
    ) -> NDArray[np.float64]:
        """Weights (N,) of norm √N; see ``make_reference`` for the arguments.

        Raises
        ------
        ValueError
            An unknown name.
        ArithmeticError
            No solution of margin κ on these patterns, or no minimiser found.
        """
        if name not in get_args(ReferenceName):
            raise ValueError(
                f"reference is {name!r}; one of {', '.join(get_args(ReferenceName))} was expected."
            )
        N = self.patterns.shape[1]
        if name == "hebb":
            weights = hebb(self.patterns, self.labels).weights
        else:
            loss = name if name in ("logistic", "hinge") else "hinge"
            strength = ridge if name in ("logistic", "hinge") else SMALLEST_RIDGE
            found = fit(self.patterns, self.labels, loss, strength)
            if not found.converged:
                raise ArithmeticError(f"{name}: no minimiser found on this instance.")
            weights = found.weights
        weights = weights * (np.sqrt(N) / np.linalg.norm(weights))
        if name != "typical":
            return weights
        least = float(self.stabilities(weights).min())
        if least <= kappa:
            raise ArithmeticError(
                f"the largest margin of this instance is {least:.4g}; more than {kappa:g} was "
                "expected."
            )
        signed = self.patterns * (self.labels / np.sqrt(N))[:, None]
        arrived = billiard_steps(signed, signed @ signed.T, kappa, TRAJECTORIES, weights, rng)
        if arrived < TRAJECTORIES:
            raise ArithmeticError(f"{TRAJECTORIES - arrived} trajectories did not arrive.")
        return weights
