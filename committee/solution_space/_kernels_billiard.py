"""Compiled exact Hamiltonian Monte Carlo in the cone of one hidden unit's solutions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from message_passing.tools.compiled import compiled

QUARTER = 0.5 * math.pi


@compiled
def billiard_steps(
    u: NDArray[np.float64],
    labels: NDArray[np.float64],
    gram: NDArray[np.float64],
    factor: NDArray[np.float64],
    steps: int,
    most_bounces: int,
    rng: np.random.Generator,
) -> int:
    """``steps`` sweeps over the units of a machine without errors, u (K, P) in place.

    ``gram`` is G (P, P), ``factor`` Fᵀ (R, P) with F Fᵀ = G. Given the other units, unit k must be
    right on the patterns where it is decisive. Along u cos θ + v sin θ, v a fresh draw, the first
    of these to change sign is the one with the smallest v/u; there the velocity is reflected,
    v ← v − 2 (v_μ/G_μμ) G_μ. A trajectory with more than ``most_bounces`` is not taken. Returns
    the number of bounces.
    """
    K, P = u.shape
    need = (K + 1) // 2
    right = np.zeros(P, dtype=np.int64)
    for k in range(K):
        for mu in range(P):
            if (u[k, mu] >= 0.0) == (labels[mu] > 0.0):
                right[mu] += 1
    decisive = np.empty(P, dtype=np.int64)
    position = np.empty(P)
    bounces = 0
    for _ in range(steps):
        velocities = np.dot(rng.standard_normal((K, factor.shape[0])), factor)
        for k in range(K):
            count = 0
            for mu in range(P):
                others = right[mu]
                if (u[k, mu] >= 0.0) == (labels[mu] > 0.0):
                    others -= 1
                if others == need - 1:
                    decisive[count] = mu
                    count += 1
                position[mu] = u[k, mu]
            velocity = velocities[k]
            left = QUARTER
            bounced = 0
            while bounced <= most_bounces:
                nearest, wall = math.inf, -1
                for d in range(count):
                    mu = decisive[d]
                    speed = labels[mu] * velocity[mu]
                    # Rounding may leave the last wall a little behind.
                    ratio = speed / max(labels[mu] * position[mu], 1e-300)
                    if ratio < nearest:
                        nearest, wall = ratio, mu
                angle = QUARTER + math.atan(nearest) if wall >= 0 else QUARTER
                reached = angle >= left
                angle = min(angle, left)
                cosine, sine = math.cos(angle), math.sin(angle)
                for mu in range(P):
                    x, v = position[mu], velocity[mu]
                    position[mu] = cosine * x + sine * v
                    velocity[mu] = cosine * v - sine * x
                if reached:
                    break
                left -= angle
                bounced += 1
                position[wall] = 0.0
                kick = -2.0 * velocity[wall] / gram[wall, wall]
                row = gram[wall]
                for mu in range(P):
                    velocity[mu] += kick * row[mu]
            bounces += bounced
            if bounced > most_bounces:
                continue
            for mu in range(P):
                before = (u[k, mu] >= 0.0) == (labels[mu] > 0.0)
                after = (position[mu] >= 0.0) == (labels[mu] > 0.0)
                right[mu] += int(after) - int(before)
                u[k, mu] = position[mu]
    return bounces
