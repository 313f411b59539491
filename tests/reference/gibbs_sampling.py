"""Gibbs sampling of single weights: another way to sample the solutions around a reference.

Given all others, w_ki is a Gaussian restricted to where at most ``errors`` patterns are wrong.
"""

from __future__ import annotations

import numpy as np


def gibbs_sweep(state, centre, patterns, labels, variance, rng, errors=0):
    """One sweep over all weights (K, N), in place: draw each until it is allowed."""
    K, N = state.shape
    fields = state @ patterns.T
    for k in range(K):
        for i in range(N):
            rest = fields[k] - patterns[:, i] * state[k, i]
            while True:
                state[k, i] = centre[k, i] + np.sqrt(variance) * rng.standard_normal()
                fields[k] = rest + patterns[:, i] * state[k, i]
                positive = np.sum(fields >= 0, axis=0)
                if np.sum((2 * positive > K) != (labels > 0)) <= errors:
                    break
