"""Slow, obvious twin of committee.flatness: noise on the weights, one machine at a time."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.stats import norm


def noisy_error_rate(weights, patterns, labels, sigma, z):  # type: ignore[no-untyped-def]
    """Error rate of w∘(1 + σz), pattern by pattern."""
    noisy = weights * (1.0 + sigma * z)
    wrong = 0
    for x, label in zip(patterns, labels, strict=True):
        votes = sum(1 if row @ x >= 0 else -1 for row in noisy)
        wrong += (1 if votes > 0 else -1) != label
    return wrong / len(labels)


def mean_noisy_error_rate(weights, patterns, labels, sigma):  # type: ignore[no-untyped-def]
    """Exact mean over z: a sum over all 2^K outcomes of the hidden units."""
    total = 0.0
    for x, label in zip(patterns, labels, strict=True):
        right = [norm.cdf(label * (row @ x) / (sigma * np.linalg.norm(row * x))) for row in weights]
        for outcome in itertools.product([True, False], repeat=len(weights)):
            if 2 * sum(outcome) < len(weights):
                total += np.prod([p if ok else 1 - p for p, ok in zip(right, outcome, strict=True)])
    return total / len(labels)
