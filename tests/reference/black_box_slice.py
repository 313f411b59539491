"""Slow, obvious elliptical slice sampling of a black box: one chain, one query at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def slice_chain(
    allowed: Callable[[NDArray], bool],
    start: NDArray,
    blocks: NDArray,
    variance: float,
    steps: int,
    rng: np.random.Generator,
) -> NDArray:
    """White states z (steps, D) of a chain whose target is N(0, 1) where √Δ z is allowed."""
    z, states = start.copy(), []
    for _ in range(steps):
        for block in range(blocks.max() + 1):
            moves = blocks == block
            v = np.zeros(len(z))
            v[moves] = rng.standard_normal(moves.sum())
            angle = rng.uniform(0.0, 2.0 * np.pi)
            low, high = angle - 2.0 * np.pi, angle
            while not allowed(
                np.sqrt(variance) * np.where(moves, np.cos(angle) * z + np.sin(angle) * v, z)
            ):
                low, high = (angle, high) if angle < 0 else (low, angle)
                angle = rng.uniform(low, high)
            z = np.where(moves, np.cos(angle) * z + np.sin(angle) * v, z)
        states.append(z)
    return np.array(states)
