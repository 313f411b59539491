"""Compiled exact Hamiltonian Monte Carlo in the cone of one hidden unit's solutions."""

from __future__ import annotations

import math

import numpy as np

from message_passing._kernels_bouncing import rotate
from message_passing._kernels_monte_carlo import decisive_patterns, is_right, right_units
from message_passing.tools.compiled import compiled

QUARTER = 0.5 * math.pi


@compiled
def billiard_steps(u, labels, gram, factor, steps, most_bounces, rng):
    """Make ``steps`` sweeps over the units of a machine without errors, u (K, P) in place.

    ``gram`` is G (P, P), ``factor`` is Fᵀ (R, P), F Fᵀ = G. Given the other units, unit k must be
    right on the patterns where it is decisive. It moves along u cos θ + v sin θ, v a fresh draw.
    The first decisive pattern to change sign has the smallest v/u. There the velocity is
    reflected: v ← v − 2 (v_μ/G_μμ) G_μ. A trajectory with more than ``most_bounces`` bounces is
    dropped. Returns the number of bounces.
    """
    K, P = u.shape
    right = right_units(u, labels)
    decisive = np.empty(P, dtype=np.bool_)
    position = np.empty(P)
    bounces = 0
    for _ in range(steps):
        velocities = np.dot(rng.standard_normal((K, factor.shape[0])), factor)
        for k in range(K):
            position[:] = u[k]
            decisive_patterns(position, labels, right, K, decisive)
            walls = np.flatnonzero(decisive)
            velocity = velocities[k]
            left = QUARTER
            bounced = 0
            while bounced <= most_bounces:
                nearest, wall = math.inf, -1
                for mu in walls:
                    speed = labels[mu] * velocity[mu]
                    # Rounding can put the state slightly behind the last wall.
                    ratio = speed / max(labels[mu] * position[mu], 1e-300)
                    if ratio < nearest:
                        nearest, wall = ratio, mu
                angle = QUARTER + math.atan(nearest) if wall >= 0 else QUARTER
                reached = angle >= left
                angle = min(angle, left)
                rotate(position, velocity, angle)
                if reached:
                    break
                left -= angle
                bounced += 1
                position[wall] = 0.0
                kick = -2.0 * velocity[wall] / gram[wall, wall]
                for mu in range(P):
                    velocity[mu] += kick * gram[wall, mu]
            bounces += bounced
            if bounced > most_bounces:
                continue
            for mu in range(P):
                before, after = is_right(u[k, mu], labels[mu]), is_right(position[mu], labels[mu])
                right[mu] += int(after) - int(before)
            u[k] = position
    return bounces
