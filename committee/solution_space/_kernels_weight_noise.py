"""Compiled steps of weight-noise descent, in float32 on rotated patterns.

The layout of the arrays is the one of ``_kernels_minibatch.py``. Every step uses all patterns. The
output node takes ``LANES`` patterns at a time, so that the compiler can vectorise it. Patterns that
are almost surely wrong underflow in float32; they go to the exact node of message passing.
"""

from __future__ import annotations

import math

import numpy as np

from committee._float32 import exp_of_negative
from committee._kernels_epochs import normalise_rows
from committee._kernels_minibatch import descend_along_patterns, part, preactivations
from message_passing._kernels_output_node import majority
from message_passing.tools.compiled import compiled

LANES = 16
# Below this probability float32 loses digits to underflow.
SMALLEST_SINGLE = np.float32(1e-20)


@part
def normal_tail(x):
    """``Φ(−x)`` for float32 x ≥ 0, relative error below 1e-6 up to x = 6 (Numerical Recipes)."""
    y = x * np.float32(math.sqrt(0.5))
    t = np.float32(1.0) / (np.float32(1.0) + np.float32(0.5) * y)
    p = np.float32(0.17087277)
    p = p * t - np.float32(0.82215223)
    p = p * t + np.float32(1.48851587)
    p = p * t - np.float32(1.13520398)
    p = p * t + np.float32(0.27886807)
    p = p * t - np.float32(0.18628806)
    p = p * t + np.float32(0.09678418)
    p = p * t + np.float32(0.37409196)
    p = p * t + np.float32(1.00002368)
    p = p * t - np.float32(1.26551223)
    return np.float32(0.5) * t * exp_of_negative(min(p - y * y, np.float32(0.0)))


@part
def majority_slopes(z, slopes, p, q, prefix, suffix, total):
    """``slopes`` ∂ log P(majority right)/∂z_k (K, LANES); unit k is right with probability Φ(z_k).

    Also fills ``total`` (LANES,), the probability itself. The other arrays are work space.
    """
    K = z.shape[0]
    need = (K + 1) // 2
    zero, one = np.float32(0.0), np.float32(1.0)
    for k in range(K):
        for b in range(LANES):
            tail = normal_tail(abs(z[k, b]))
            p[k, b] = one - tail if z[k, b] > zero else tail
            q[k, b] = tail if z[k, b] > zero else one - tail
    prefix[0, 0] = one
    for k in range(K):
        for b in range(LANES):
            prefix[k + 1, 0, b] = prefix[k, 0, b] * q[k, b]
            prefix[k + 1, k + 1, b] = prefix[k, k, b] * p[k, b]
        for n in range(1, k + 1):
            for b in range(LANES):
                prefix[k + 1, n, b] = prefix[k, n, b] * q[k, b] + prefix[k, n - 1, b] * p[k, b]
    suffix[K, 0] = one
    for k in range(K - 1, 0, -1):
        rest = K - 1 - k
        for b in range(LANES):
            suffix[k, 0, b] = suffix[k + 1, 0, b] * q[k, b]
            suffix[k, rest + 1, b] = suffix[k + 1, rest, b] * p[k, b]
        for n in range(1, rest + 1):
            for b in range(LANES):
                suffix[k, n, b] = suffix[k + 1, n, b] * q[k, b] + suffix[k + 1, n - 1, b] * p[k, b]
    total[:] = zero
    for n in range(need, K + 1):
        for b in range(LANES):
            total[b] += prefix[K, n, b]
    for k in range(K):
        slopes[k] = zero
        for n in range(max(0, need - K + k), min(k, need - 1) + 1):
            for b in range(LANES):
                slopes[k, b] += prefix[k, n, b] * suffix[k + 1, need - 1 - n, b]
        for b in range(LANES):
            density = exp_of_negative(np.float32(-0.5) * z[k, b] * z[k, b])
            scale = np.float32(1.0 / math.sqrt(2.0 * math.pi)) * density
            slopes[k, b] *= scale / max(total[b], SMALLEST_SINGLE)


@compiled
def weight_noise_steps(
    weights, rows, lengths, labels, squares, spread, sigmas, lr, memory, momentum, scales, first
):
    """Take one full-batch step on −(1/P) Σ log P_σ for each of ``sigmas``; weights in place.

    ``squares`` (P+1, N) holds the squared unrotated patterns, from which ‖x∘w_k‖ is computed. If
    it is empty, all |x_i| equal ``spread``, which is then ‖x∘w_k‖. ``momentum`` (K, N) and
    ``scales`` (K,) are the running first and second moments of the gradient. ``memory`` holds
    their two decay rates. ``first`` is the number of earlier steps.
    """
    K, N = weights.shape
    P = labels.size - 1
    width = -(-P // LANES) * LANES
    batch = np.full(width, P)
    batch[:P] = np.arange(P)
    active = np.empty(width, np.int64)
    u = np.empty((K, width), np.float32)
    v = np.full((K, width), np.float32(spread * spread))
    gradient = np.empty((K, N), np.float32)
    radial = np.empty((K, N), np.float32)
    z = np.empty((K, LANES), np.float32)
    slopes = np.empty((K, LANES), np.float32)
    p = np.empty((K, LANES), np.float32)
    q = np.empty((K, LANES), np.float32)
    prefix = np.empty((K + 1, K + 1, LANES), np.float32)
    suffix = np.empty((K + 1, K + 1, LANES), np.float32)
    total = np.empty(LANES, np.float32)
    mean, variance, label = np.empty((K, 1)), np.ones((K, 1)), np.ones(1)
    log_z, g, dg = np.empty(1), np.empty((K, 1)), np.empty((K, 1))
    one, up = np.float32(1.0), np.float32(-1.0)
    multiplicative = squares.shape[0] > 0
    for step in range(sigmas.size):
        sigma = np.float32(sigmas[step])
        preactivations(weights, rows, lengths, batch, u)
        if multiplicative:
            preactivations(weights * weights, squares, lengths, batch, v)
        count = 0
        for start in range(0, width, LANES):
            for k in range(K):
                for b in range(LANES):
                    width_of_noise = sigma * np.float32(math.sqrt(v[k, start + b]))
                    floor = np.float32(1e-30)
                    z[k, b] = (
                        labels[batch[start + b]] * u[k, start + b] / max(width_of_noise, floor)
                    )
            majority_slopes(z, slopes, p, q, prefix, suffix, total)
            for b in range(LANES):
                if total[b] < SMALLEST_SINGLE:
                    mean[:, 0] = z[:, b]
                    majority(mean, variance, label, math.inf, log_z, g, dg)
                    for k in range(K):
                        slopes[k, b] = np.float32(g[k, 0])
                found = False
                for k in range(K):
                    if slopes[k, b] != 0:
                        found = True
                if labels[batch[start + b]] == 0 or not found:
                    continue
                for k in range(K):
                    square = max(v[k, start + b], np.float32(1e-30))
                    slope = slopes[k, b] / np.float32(P)
                    u[k, count] = (
                        slope * labels[batch[start + b]] / (sigma * np.float32(math.sqrt(square)))
                    )
                    v[k, count] = slope * z[k, b] / square if multiplicative else square
                active[count] = batch[start + b]
                count += 1
        while count % 4 != 0:
            active[count] = P
            for k in range(K):
                u[k, count] = np.float32(0.0)
                if multiplicative:
                    v[k, count] = np.float32(0.0)
            count += 1
        gradient[:] = np.float32(0.0)
        descend_along_patterns(gradient, rows, lengths, active, count, u, one)
        if multiplicative:
            radial[:] = np.float32(0.0)
            descend_along_patterns(radial, squares, lengths, active, count, v, up)
            gradient += weights * radial
        _adam_step(weights, gradient, momentum, scales, memory, lr, first + step + 1)
        normalise_rows(weights)


@part
def _adam_step(weights, gradient, momentum, scales, memory, lr, time):
    """Adam with one second moment per hidden unit, which makes it invariant under rotations."""
    K, N = weights.shape
    keep, keep_scale = np.float32(memory[0]), memory[1]
    for k in range(K):
        w, g, m = weights[k], gradient[k], momentum[k]
        along = np.float32(0.0)
        for i in range(N):
            along += w[i] * g[i]
        square = np.float32(0.0)
        for i in range(N):
            g[i] -= along * w[i]  # the loss does not depend on the norm
            square += g[i] * g[i]
            m[i] = keep * m[i] + (np.float32(1.0) - keep) * g[i]
        scales[k] = keep_scale * scales[k] + (1.0 - keep_scale) * square / N
        size = math.sqrt(scales[k] / (1.0 - keep_scale**time)) * (1.0 - memory[0] ** time)
        rate = np.float32(lr / size) if size > 0 else np.float32(0.0)
        for i in range(N):
            w[i] -= rate * m[i]
