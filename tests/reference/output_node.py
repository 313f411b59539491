"""Slow twins of the output nodes: sums over all sign patterns and all sets of wrong patterns."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy.special import log_ndtr, logsumexp


def log_evidence(mean, variance, labels, inverse_temperature=np.inf):
    """log Z_μ (P,) of the majority of K signs. The preactivations (K, P) are Gaussian."""
    K, P = mean.shape
    result = np.empty(P)
    for mu in range(P):
        z = labels[mu] * mean[:, mu] / np.sqrt(variance[:, mu])
        terms = []
        for correct in product([True, False], repeat=K):
            wrong = sum(correct) <= K // 2
            energy = inverse_temperature if wrong else 0.0
            signs = np.where(correct, 1.0, -1.0)
            terms.append(-energy + np.sum(log_ndtr(signs * z)))
        result[mu] = logsumexp(terms)
    return result


def log_at_most(right, errors):
    """log P[at most ``errors`` wrong] for independent patterns; ``right`` (P,) is P[right]."""
    total = 0.0
    for wrong in product([False, True], repeat=len(right)):
        if sum(wrong) <= errors:
            total += np.prod(np.where(wrong, 1 - right, right))
    return np.log(total) if total > 0 else -np.inf
