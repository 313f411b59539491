"""Orthonormal coordinates of weights in the span of the patterns. Slice sampling moves these.

A row w_k with preactivations u_k = w_k·Xᵀ/√N has the coordinates z_k = w_k·Eᵀ, so u_k = z_k Fᵀ.
The geometry's factor F obeys F Fᵀ = XXᵀ/N. E = (FᵀF)⁻¹FᵀX/√N (R, N) has orthonormal rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from message_passing import _kernels_monte_carlo as kernels
from message_passing.problem import PatternGeometry


class WhiteCoordinates:
    """R coordinates for each row; ``directions`` is E (R, N), ``factor`` is Fᵀ (R, P)."""

    def __init__(self, geometry: PatternGeometry) -> None:
        F, X = geometry.factor, geometry.patterns
        self.factor = np.ascontiguousarray(F.T)
        self.inverse = F / np.sum(F**2, axis=0)  # (P, R)
        self.directions = self.inverse.T @ X / np.sqrt(X.shape[1])

    def advance(
        self,
        white: NDArray[np.float64],
        preactivations: NDArray[np.float64],
        labels: NDArray[np.float64],
        variance: float,
        steps: int,
        rng: np.random.Generator,
    ) -> None:
        """Move a chain of machines without errors by slice steps, each over all units.

        The state has the preactivations ``preactivations`` (K, P) + √Δ ``white`` Fᵀ. ``white``
        (K, R) changes in place.
        """
        kernels.slice_steps(
            preactivations,
            labels,
            self.factor,
            variance,
            0,
            steps,
            white,
            np.empty(0),
            rng,
            np.zeros((2, 0)),
            np.zeros((2, 2)),
            np.empty_like(white),
        )
