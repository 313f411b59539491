"""Compiled kernel: billiards on the sphere, within the solutions of margin κ.

A solution moves on great circles w cos t + p sin t, ‖w‖ = ‖p‖ = √N. It is reflected where a
stability falls to κ. This leaves the uniform distribution on the solutions invariant. Sources: see
``message_passing/_kernels_bouncing.py``.
"""

from __future__ import annotations

import math

import numpy as np

from message_passing._kernels_bouncing import MOST_BOUNCES, first_hits, rotate
from message_passing.tools.compiled import compiled


@compiled
def billiard_steps(signed, gram, kappa, steps, weights, rng):
    """Move a solution ``weights`` (N,) by quarter turns, in place; return how many arrived.

    ``signed`` (P, N) holds σx/√N, ``gram`` (P, P) their inner products. A trajectory that rounding
    traps in a corner is dropped.
    """
    P, N = signed.shape
    centre = np.full(P, -kappa)
    side = np.ones(P)
    hits = np.empty(P)
    arrived = 0
    for _ in range(steps):
        w = weights.copy()
        p = rng.standard_normal(N)
        p -= np.dot(p, w) / np.dot(w, w) * w
        p *= math.sqrt(N / np.dot(p, p))
        u = np.dot(signed, w)
        v = np.dot(signed, p)
        left = 0.5 * math.pi
        last = -1
        for _bounce in range(MOST_BOUNCES * P):
            first_hits(u, v, centre, side, hits)
            if last >= 0:
                hits[last] = math.inf  # for κ ≥ 0, it is not hit again before t = π
            wall = int(np.argmin(hits))
            step = min(2.0 * math.atan(hits[wall]), left)
            ends = step == left
            rotate(w, p, step)
            rotate(u, v, step)
            if ends:
                weights[:] = w * math.sqrt(N / np.dot(w, w))
                arrived += 1
                break
            left -= step
            last = wall
            # Normal of the wall, tangent to the sphere: σx/√N − κ w/N.
            kick = -2.0 * v[wall] / (gram[wall, wall] - kappa * kappa / N)
            for i in range(N):
                p[i] += kick * (signed[wall, i] - kappa / N * w[i])
            for mu in range(P):
                v[mu] += kick * (gram[wall, mu] - kappa / N * u[mu])
    return arrived
