"""Small machines for the tests."""

from __future__ import annotations

import numpy as np


def random_machine(K, N, P, seed, correlation=0.0, real=False):
    """A random machine, random patterns, and the machine's answers as labels.

    ``correlation`` is the weight of two random directions that all patterns share.
    """
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((K, N))
    fields = rng.standard_normal((P, N))
    if correlation:
        directions = rng.standard_normal((2, N))
        fields = (
            np.sqrt(1 - correlation) * fields
            + np.sqrt(correlation) * rng.standard_normal((P, 2)) @ directions
        )
    patterns = fields if real else np.where(fields >= 0, 1.0, -1.0)
    return weights, patterns, answers(weights, patterns)


def answers(weights, patterns):
    """The answers of the machine."""
    signs = np.where(weights @ patterns.T >= 0, 1, -1)
    return np.where(signs.sum(axis=0) > 0, 1.0, -1.0)
