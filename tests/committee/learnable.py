"""Learnable patterns for the tests of solutions."""

from __future__ import annotations

import numpy as np

from committee import PatternSet


def problem(P=58, N=31, seed=0, real=False):
    """±1 or real patterns, with a linear teacher's labels."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(P, N))
    X = X if real else np.sign(X)
    return X, np.sign(X @ rng.normal(size=N))


def pattern_set(X, y, tests=None, test_labels=None):
    """A pattern set. By default the first five patterns are also the test set."""
    tests, test_labels = (X[:5], y[:5]) if tests is None else (tests, test_labels)
    return PatternSet(X, y, tests, test_labels, "teacher", "i.i.d. patterns, linear teacher")
