"""Slow twin of the slice sampler: Gibbs sampling of single weights.

Given all others, w_ki is a Gaussian truncated to one interval, set by the patterns for which
unit k is decisive.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import truncnorm


def gibbs_sweep(state, centre, patterns, labels, variance, rng):
    """One sweep over all weights (K, N), in place; the state stays a solution."""
    K, N = state.shape
    fields = state @ patterns.T
    for k in range(K):
        wrong = (np.where(fields >= 0, 1, -1) * labels) < 0
        others = np.sum(wrong, axis=0) - wrong[k]
        decisive = others == (K - 1) // 2  # unit k has to be right there
        x, y, u = patterns[decisive], labels[decisive], fields[k, decisive]
        for i in range(N):
            slope = y * x[:, i]
            rest = y * u - slope * state[k, i]  # rest + slope · w > 0
            moving = slope != 0
            bounds = -rest[moving] / slope[moving]
            low = max(bounds[slope[moving] > 0], default=-np.inf)
            high = min(bounds[slope[moving] < 0], default=np.inf)
            scale = np.sqrt(variance)
            a, b = (low - centre[k, i]) / scale, (high - centre[k, i]) / scale
            new = centre[k, i] + scale * truncnorm.rvs(a, b, random_state=rng)
            u += x[:, i] * (new - state[k, i])
            fields[k] += patterns[:, i] * (new - state[k, i])
            state[k, i] = new
