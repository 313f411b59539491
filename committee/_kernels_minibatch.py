"""Compiled parts of a training step: minibatches, pre-activations, gradients, stopping rules.

Training does not change when the input space is rotated. ``rotated_patterns.py`` rotates it so
that the pattern matrix becomes lower triangular: only the first μ+1 inputs of pattern μ are
nonzero. Pre-activations and gradient then cost half of P·B·K multiply-adds each, instead of N·B·K.
Weights are still ordinary weights: norms, distances and Langevin noise keep their meaning, and
rounding does not accumulate.

============  =================  ============================================================
array         shape              meaning
============  =================  ============================================================
``weights``   (K, N)             unit rows; (y, K, N) for replicas
``rows``      (P+1, N)           rotated patterns; the last row is zero, for padding
``lengths``   (P+1,)             number of leading inputs of each row that may differ from 0
``labels``    (P+1,)             ±1, and 0 for the padding row
``batches``   (steps, B)         minibatches: pattern indices, ascending, padded with P; B a
                                 multiple of 4. More axes in front: epochs, replicas
============  =================  ============================================================

The update rules come from ``entropic.py``.
"""

from __future__ import annotations

import math

import numpy as np

from committee import entropic
from committee._float32 import VECTORISED, exp_of_negative, tanh
from message_passing.tools.compiled import compiled

# Parts are inlined into their kernel. Otherwise a fresh kernel and a cached one would call
# differently optimised copies of the parts and round differently.
part = compiled(**VECTORISED)

_descend = part(entropic.descend)


@compiled
def draw_minibatches(bits, batches, patterns, size):
    """Fill ``batches`` (passes, steps, B) with random partitions of the patterns.

    ``bits`` (passes, patterns) are random 64-bit integers, of which the upper halves are used.
    A minibatch has ``size`` patterns in ascending order. The last one of a pass has the remainder.
    Unused places hold ``patterns``, the index of the padding row.
    """
    passes, steps, _ = batches.shape
    batches[:] = patterns
    order = np.empty(patterns, np.int64)
    batch_of = np.empty(patterns, np.int64)
    filled = np.empty(steps, np.int64)
    for one in range(passes):
        for i in range(patterns):
            order[i] = i
        for i in range(patterns - 1, 0, -1):
            j = np.int64((bits[one, i] >> np.uint64(32)) * np.uint64(i + 1) >> np.uint64(32))
            order[i], order[j] = order[j], order[i]
        for step in range(steps):
            filled[step] = 0
            for position in range(step * size, min((step + 1) * size, patterns)):
                batch_of[order[position]] = step
        for pattern in range(patterns):
            step = batch_of[pattern]
            batches[one, step, filled[step]] = pattern
            filled[step] += 1


@part
def preactivations(weights, rows, lengths, batch, out):
    """``out[k, b] = w_k · x_batch[b]``, four patterns and three hidden units at a time."""
    K = weights.shape[0]
    triples = K - K % 3
    for b in range(0, batch.size, 4):
        i0, i1, i2, i3 = batch[b], batch[b + 1], batch[b + 2], batch[b + 3]
        x0, x1, x2, x3 = rows[i0], rows[i1], rows[i2], rows[i3]
        length = max(max(lengths[i0], lengths[i1]), max(lengths[i2], lengths[i3]))
        zero = np.float32(0.0)
        for k in range(0, triples, 3):
            u, v, w = weights[k], weights[k + 1], weights[k + 2]
            u0 = u1 = u2 = u3 = v0 = v1 = v2 = v3 = w0 = w1 = w2 = w3 = zero
            for i in range(length):
                u0 += u[i] * x0[i]
                u1 += u[i] * x1[i]
                u2 += u[i] * x2[i]
                u3 += u[i] * x3[i]
                v0 += v[i] * x0[i]
                v1 += v[i] * x1[i]
                v2 += v[i] * x2[i]
                v3 += v[i] * x3[i]
                w0 += w[i] * x0[i]
                w1 += w[i] * x1[i]
                w2 += w[i] * x2[i]
                w3 += w[i] * x3[i]
            out[k, b], out[k, b + 1], out[k, b + 2], out[k, b + 3] = u0, u1, u2, u3
            out[k + 1, b], out[k + 1, b + 1], out[k + 1, b + 2], out[k + 1, b + 3] = v0, v1, v2, v3
            out[k + 2, b], out[k + 2, b + 1], out[k + 2, b + 2], out[k + 2, b + 3] = w0, w1, w2, w3
        for k in range(triples, K):
            u = weights[k]
            u0 = u1 = u2 = u3 = zero
            for i in range(length):
                u0 += u[i] * x0[i]
                u1 += u[i] * x1[i]
                u2 += u[i] * x2[i]
                u3 += u[i] * x3[i]
            out[k, b], out[k, b + 1], out[k, b + 2], out[k, b + 3] = u0, u1, u2, u3


@part
def gradient_coefficients(u, labels, batch, beta, omega, scale, active):
    """Replace pre-activations u (K, B) by ∂L/∂u and list the patterns where it is not zero.

    ``∂L/∂u_k = −scale · σ β K^(-1/2) (1 − tanh²(β u_k)) / (1 + exp(2ωσ·output))``. The columns
    of patterns with a nonzero gradient move to the front, padded with zero columns to a multiple
    of 4. ``active`` (B,) receives the indices of these patterns. Returns the padded number.
    """
    K, B = u.shape
    inverse_root = np.float32(1.0 / math.sqrt(K))
    one = np.float32(1.0)
    output = np.zeros(B, np.float32)
    for k in range(K):
        row = u[k]
        for b in range(B):
            row[b] = tanh(beta * row[b])
            output[b] += row[b]
    slope = output
    for b in range(B):
        label = labels[batch[b]]
        x = np.float32(2.0) * omega * label * output[b] * inverse_root
        e = exp_of_negative(-abs(x))
        probability = (e if x >= 0 else one) / (one + e)
        # exp_of_negative is never below 1.6e-38. Set smaller gradients to zero here.
        if x >= np.float32(87.0):
            probability = np.float32(0.0)
        slope[b] = -scale * label * beta * inverse_root * probability
    padding = labels.size - 1
    count = 0
    for b in range(B):
        nonzero = False
        if slope[b] != 0:
            for k in range(K):
                hidden = u[k, b]
                coefficient = slope[b] * (one - hidden * hidden)
                u[k, count] = coefficient
                if coefficient != 0:
                    nonzero = True
        if nonzero:
            active[count] = batch[b]
            count += 1
    while count % 4 != 0:
        active[count] = padding
        for k in range(K):
            u[k, count] = np.float32(0.0)
        count += 1
    return count


@part
def descend_along_patterns(weights, rows, lengths, active, count, coefficients, lr):
    """Gradient step ``w_k ← w_k − lr Σ_b coefficients[k, b] x_active[b]``."""
    K = weights.shape[0]
    triples = K - K % 3
    for b in range(0, count, 4):
        i0, i1, i2, i3 = active[b], active[b + 1], active[b + 2], active[b + 3]
        x0, x1, x2, x3 = rows[i0], rows[i1], rows[i2], rows[i3]
        length = max(max(lengths[i0], lengths[i1]), max(lengths[i2], lengths[i3]))
        for k in range(0, triples, 3):
            u, v, w = weights[k], weights[k + 1], weights[k + 2]
            c, d, e = coefficients[k], coefficients[k + 1], coefficients[k + 2]
            c0, c1, c2, c3 = c[b], c[b + 1], c[b + 2], c[b + 3]
            d0, d1, d2, d3 = d[b], d[b + 1], d[b + 2], d[b + 3]
            e0, e1, e2, e3 = e[b], e[b + 1], e[b + 2], e[b + 3]
            for i in range(length):
                y0, y1, y2, y3 = x0[i], x1[i], x2[i], x3[i]
                u[i] = _descend(u[i], c0 * y0 + c1 * y1 + c2 * y2 + c3 * y3, lr)
                v[i] = _descend(v[i], d0 * y0 + d1 * y1 + d2 * y2 + d3 * y3, lr)
                w[i] = _descend(w[i], e0 * y0 + e1 * y1 + e2 * y2 + e3 * y3, lr)
        for k in range(triples, K):
            u, c = weights[k], coefficients[k]
            c0, c1, c2, c3 = c[b], c[b + 1], c[b + 2], c[b + 3]
            for i in range(length):
                gradient = c0 * x0[i] + c1 * x1[i] + c2 * x2[i] + c3 * x3[i]
                u[i] = _descend(u[i], gradient, lr)


@part
def drop_inputs(rng, rows, labels, batch, dropout, dropped, dropped_labels):
    """Copy the minibatch. Zero each input with probability ``dropout``, rescale the others."""
    padding = labels.size - 1
    scale = np.float32(1.0 / (1.0 - dropout))
    for b in range(batch.size):
        dropped_labels[b] = labels[batch[b]]
        if batch[b] == padding:
            dropped[b] = np.float32(0.0)
            continue
        row = rows[batch[b]]
        for i in range(row.size):
            kept = rng.random() >= dropout
            dropped[b, i] = scale * row[i] if kept else np.float32(0.0)


@part
def _one_preactivation(weights, row, length):
    total = np.float32(0.0)
    for i in range(length):
        total += weights[i] * row[i]
    return total


@part
def find_error(weights, rows, lengths, labels, start):
    """Index of a wrongly classified pattern, searched from ``start`` on, or −1 if there is none.

    During training, a search that starts at the last error usually finds it at once.
    """
    K, P = weights.shape[0], labels.size - 1
    for step in range(P):
        pattern = (start + step) % P
        positive = 0
        for k in range(K):
            if _one_preactivation(weights[k], rows[pattern], lengths[pattern]) >= 0:
                positive += 1
        if (2 * positive > K) != (labels[pattern] > 0):
            return pattern
    return -1


@part
def mean_loss_below(weights, rows, lengths, labels, beta, omega, threshold, start):
    """Check whether the mean training loss is below ``threshold``, and stop as early as possible.

    Returns −1 if it is, else the pattern at which the sum exceeded it: start there next time.
    """
    K, P = weights.shape[0], labels.size - 1
    total = 0.0
    for step in range(P):
        pattern = (start + step) % P
        output = 0.0
        for k in range(K):
            u = _one_preactivation(weights[k], rows[pattern], lengths[pattern])
            output += math.tanh(beta * u)
        x = -2.0 * omega * labels[pattern] * output / math.sqrt(K)
        # log(1 + exp(x)) without overflow, never negative
        total += (max(x, 0.0) + math.log1p(math.exp(-abs(x)))) / (2.0 * omega)
        if total >= threshold * P:
            return pattern
    return -1
