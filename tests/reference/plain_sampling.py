"""Slow twin of every engine: draw weights from the Gaussian and count the solutions."""

from __future__ import annotations

import numpy as np


def sample_solutions(weights, patterns, labels, variance, samples, seed, errors=0):
    """log Z and r, each followed by its standard error, from draws of whole weight vectors."""
    rng = np.random.default_rng(seed)
    K, N = weights.shape
    w = weights * np.sqrt(N) / np.linalg.norm(weights, axis=1, keepdims=True)
    accepted = []
    for _ in range(samples):
        z = rng.standard_normal((K, N))
        u = (w + np.sqrt(variance) * z) @ patterns.T
        outputs = np.where(np.sum(u >= 0, axis=0) > K / 2, 1, -1)
        if np.sum(outputs != labels) <= errors:
            accepted.append(np.sum(z**2) / (K * N))
    fraction = len(accepted) / samples
    error = np.sqrt((1 - fraction) / (fraction * samples))
    r_error = np.std(accepted, ddof=1) / np.sqrt(len(accepted))
    return np.log(fraction), error, np.mean(accepted), r_error
