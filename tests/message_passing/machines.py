"""Small machines for the tests."""

from __future__ import annotations

import numpy as np


def random_machine(K, N, P, seed, correlation=0.0, real=False):
    """A random machine, random patterns, and labels that it answers.

    ``correlation`` is the share of a common factor in the inputs of a pattern.
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
    """Labels that the machine itself gives."""
    signs = np.where(weights @ patterns.T >= 0, 1, -1)
    return np.where(signs.sum(axis=0) > 0, 1.0, -1.0)
