"""Slow and obvious sampling of weights that solve all patterns, by elliptical slice sampling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mean_square_displacement(
    weights: NDArray, patterns: NDArray, labels: NDArray, tau: float, steps: int, seed: int
) -> NDArray:
    """‖w′−w‖²/(Nτ) along a chain that leaves N(w, τ·1) restricted to solutions invariant."""
    rng = np.random.default_rng(seed)
    N = patterns.shape[1]
    A = patterns * (labels / np.sqrt(N))[:, None]
    reference = weights * np.sqrt(N) / np.linalg.norm(weights)
    offset = np.zeros(N)
    values = []
    for _ in range(steps):
        fresh = np.sqrt(tau) * rng.standard_normal(N)
        margin, along, across = A @ reference, A @ offset, A @ fresh
        angle = rng.uniform(0.0, 2.0 * np.pi)
        low, high = angle - 2.0 * np.pi, angle
        while np.any(margin + along * np.cos(angle) + across * np.sin(angle) < 0):
            low, high = (angle, high) if angle < 0 else (low, angle)
            angle = rng.uniform(low, high)
        offset = offset * np.cos(angle) + fresh * np.sin(angle)
        values.append(offset @ offset / (N * tau))
    return np.array(values)
