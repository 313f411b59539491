"""Compiled kernels of the output nodes; see :mod:`message_passing.output_node`."""

from __future__ import annotations

import math

import numpy as np

from message_passing.tools.compiled import compiled

SQRT_HALF = math.sqrt(0.5)
HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
# Below this probability, sums of products lose digits to underflow, so use logarithms.
SMALLEST_LINEAR = 1e-150


@compiled
def normal_cdf(z):
    return 0.5 * math.erfc(-z * SQRT_HALF)


@compiled
def log_normal_cdf(z):
    """log Φ(z). The far left tail uses the continued fraction of Mills' ratio."""
    if z > -15.0:
        return math.log(normal_cdf(z)) if z < 0.0 else math.log1p(-normal_cdf(-z))
    ratio = -z
    for n in range(30, 0, -1):
        ratio = -z + n / ratio
    return -0.5 * z * z - HALF_LOG_2PI - math.log(ratio)


@compiled
def log_add(a, b):
    if a < b:
        a, b = b, a
    if b == -math.inf:
        return a
    return a + math.log1p(math.exp(b - a))


@compiled
def majority(mean, variance, labels, inverse_temperature, log_z, g, dg):
    """Fill log Z_μ (P,), g and ∂g/∂ω (K, P) of the majority of signs of Gaussian preactivations."""
    K, P = mean.shape
    need = (K + 1) // 2
    floor = math.exp(-inverse_temperature)
    p = np.empty(K)
    q = np.empty(K)
    z = np.empty(K)
    below = np.empty(K)  # P[the other units have exactly need − 1 correct]
    prefix = np.empty((K + 1, K + 1))
    suffix = np.empty((K + 1, K + 1))
    for mu in range(P):
        label = labels[mu]
        for k in range(K):
            if variance[k, mu] > 0.0:
                z[k] = label * mean[k, mu] / math.sqrt(variance[k, mu])
            else:  # a preactivation without variance has a certain sign; zero counts as +1
                sign = 1.0 if mean[k, mu] >= 0.0 else -1.0
                z[k] = math.inf if sign == label else -math.inf
            p[k] = normal_cdf(z[k])
            q[k] = normal_cdf(-z[k])

        # Distributions of the number of correct units among the first k and among the last K − k.
        prefix[0, 0] = 1.0
        for k in range(K):
            prefix[k + 1, 0] = prefix[k, 0] * q[k]
            for n in range(1, k + 1):
                prefix[k + 1, n] = prefix[k, n] * q[k] + prefix[k, n - 1] * p[k]
            prefix[k + 1, k + 1] = prefix[k, k] * p[k]
        suffix[K, 0] = 1.0
        for k in range(K - 1, -1, -1):
            length = K - 1 - k
            suffix[k, 0] = suffix[k + 1, 0] * q[k]
            for n in range(1, length + 1):
                suffix[k, n] = suffix[k + 1, n] * q[k] + suffix[k + 1, n - 1] * p[k]
            suffix[k, length + 1] = suffix[k + 1, length] * p[k]
        total = 0.0
        for n in range(need, K + 1):
            total += prefix[K, n]

        if total > SMALLEST_LINEAR:
            for k in range(K):
                exact = 0.0
                for n in range(max(0, need - K + k), min(k, need - 1) + 1):
                    exact += prefix[k, n] * suffix[k + 1, need - 1 - n]
                below[k] = exact
            wrong = 0.0  # 1 − Z, without cancellation
            for n in range(need):
                wrong += prefix[K, n]
            evidence = floor + (1.0 - floor) * total
            log_z[mu] = math.log(evidence) if wrong > 0.5 else math.log1p((floor - 1.0) * wrong)
            for k in range(K):
                slope = 0.0
                if variance[k, mu] > 0.0:
                    density = math.exp(-0.5 * z[k] * z[k] - HALF_LOG_2PI)
                    slope = (1.0 - floor) * below[k] * density / evidence
                _derivatives(k, mu, label, slope, mean, variance, g, dg)
            continue

        # The same in logarithms.
        for k in range(K):
            p[k] = log_normal_cdf(z[k]) if z[k] != -math.inf else -math.inf
            q[k] = log_normal_cdf(-z[k]) if z[k] != math.inf else -math.inf
        _log_counts(q, p, prefix, suffix)
        total = -math.inf
        for n in range(need, K + 1):
            total = log_add(total, prefix[K, n])
        evidence = log_add(-inverse_temperature, math.log1p(-floor) + total) if floor < 1.0 else 0.0
        log_z[mu] = evidence
        for k in range(K):
            exact = -math.inf
            for n in range(max(0, need - K + k), min(k, need - 1) + 1):
                exact = log_add(exact, prefix[k, n] + suffix[k + 1, need - 1 - n])
            slope = 0.0
            if variance[k, mu] > 0.0 and floor < 1.0 and exact > -math.inf:
                density = -0.5 * z[k] * z[k] - HALF_LOG_2PI
                slope = math.exp(math.log1p(-floor) + exact + density - evidence)
            _derivatives(k, mu, label, slope, mean, variance, g, dg)


@compiled
def _derivatives(k, mu, label, slope, mean, variance, g, dg):
    """From slope = √V ∂log Z/∂(σω): g = ∂log Z/∂ω and ∂g/∂ω."""
    if slope == 0.0:
        g[k, mu] = 0.0
        dg[k, mu] = 0.0
        return
    g[k, mu] = label * slope / math.sqrt(variance[k, mu])
    dg[k, mu] = -g[k, mu] * (g[k, mu] + mean[k, mu] / variance[k, mu])


@compiled
def at_most(log_right, errors):
    """log P[n ≤ errors] and log P[n without μ = errors] (P,), for n independent errors."""
    P = len(log_right)
    log_wrong = np.empty(P)
    for mu in range(P):
        wrong = -math.expm1(log_right[mu])
        log_wrong[mu] = math.log(wrong) if wrong > 0.0 else -math.inf
    prefix = np.empty((P + 1, errors + 1))
    suffix = np.empty((P + 1, errors + 1))
    _log_counts(log_right, log_wrong, prefix, suffix)
    total = -math.inf
    for n in range(errors + 1):
        total = log_add(total, prefix[P, n])
    exact = np.full(P, -math.inf)
    for mu in range(P):
        for n in range(errors + 1):
            exact[mu] = log_add(exact[mu], prefix[mu, n] + suffix[mu + 1, errors - n])
    return min(total, 0.0), exact


@compiled
def _log_counts(log_no, log_yes, prefix, suffix):
    """Fill the distributions of the number n of independent events that occur.

    ``prefix[i, n]`` is log P[n] among the first i events, ``suffix[i, n]`` among all from i on.
    """
    M = len(log_no)
    prefix[0] = suffix[M] = -math.inf
    prefix[0, 0] = suffix[M, 0] = 0.0
    for i in range(M):
        _one_more(prefix[i], log_no[i], log_yes[i], prefix[i + 1])
    for i in range(M - 1, -1, -1):
        _one_more(suffix[i + 1], log_no[i], log_yes[i], suffix[i])


@compiled
def _one_more(before, log_no, log_yes, after):
    after[0] = before[0] + log_no
    for n in range(1, len(before)):
        after[n] = log_add(before[n] + log_no, before[n - 1] + log_yes)
