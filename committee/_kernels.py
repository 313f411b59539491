"""Compiled training loops on plain float32 arrays; ``training.py`` checks, allocates and calls.

Training does not change when the input space is rotated. ``training.py`` rotates it so that
the pattern matrix becomes lower triangular: pattern μ then has only its first μ+1 inputs
different from zero, and both products of a step, pre-activations and gradient, cost half of
P·B·K multiply-adds instead of N·B·K. Weights stay ordinary weights, so that norms, distances
and Langevin noise are what they say, and rounding does not accumulate.

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

The update rules are those of ``entropic.py``, compiled as they stand.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from committee import entropic
from committee._float32 import VECTORISED, exp_of_negative, gaussians_from_bits, tanh

# Parts of a kernel are inlined into it. Otherwise a freshly compiled kernel would call the copies
# of its parts that were optimised alone, one loaded from the cache the copies beside it, and the
# two round differently.
_part = njit(**VECTORISED)

_descend = _part(entropic.descend)
_elastic_pull = _part(entropic.elastic_pull)
_langevin_kick = _part(entropic.langevin_kick)
_running_average = _part(entropic.running_average)
_local_entropy_gradient = _part(entropic.local_entropy_gradient)


@njit(cache=True)
def draw_minibatches(rng, batches, patterns, size):
    """Fill ``batches`` (steps, B) with a random partition of the patterns into minibatches.

    Each has ``size`` patterns, the last one what is left, in ascending order; unused places
    hold ``patterns``, the index of the padding row.
    """
    order = np.arange(patterns)
    for i in range(patterns - 1, 0, -1):
        j = int(rng.random() * (i + 1))
        order[i], order[j] = order[j], order[i]
    batch_of = np.empty(patterns, np.int64)
    for position in range(patterns):
        batch_of[order[position]] = position // size
    filled = np.zeros(batches.shape[0], np.int64)
    batches[:] = patterns
    for pattern in range(patterns):
        step = batch_of[pattern]
        batches[step, filled[step]] = pattern
        filled[step] += 1


@_part
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


@_part
def gradient_coefficients(u, labels, batch, beta, omega, scale, active):
    """Replace pre-activations u (K, B) by ∂L/∂u and list the patterns where it is not zero.

    ``∂L/∂u_k = −scale · σ β K^(-1/2) (1 − tanh²(β u_k)) / (1 + exp(2ωσ·output))``. The columns
    of patterns with some gradient different from zero move to the front; ``active`` (B,)
    receives their indices, padded with zero columns to a multiple of 4. Returns their number.
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
        # exp_of_negative ends at 1.6e-38; beyond it, the gradient is zero in float32.
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


@_part
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


@_part
def normalise_rows(weights):
    """Rescale every row to norm 1."""
    for k in range(weights.shape[0]):
        row = weights[k]
        squared = np.float32(0.0)
        for i in range(row.size):
            squared += row[i] * row[i]
        scale = np.float32(1.0 / math.sqrt(squared))
        for i in range(row.size):
            row[i] *= scale


@_part
def squared_distance(first, second):
    """``‖first − second‖²`` over all weights."""
    total = 0.0
    for k in range(first.shape[0]):
        a, b = first[k], second[k]
        row = np.float32(0.0)
        for i in range(a.size):
            difference = a[i] - b[i]
            row += difference * difference
        total += row
    return total


@_part
def _mean_of_replicas(replicas, centre):
    y = replicas.shape[0]
    share = np.float32(1.0 / y)
    for k in range(centre.shape[0]):
        mean = centre[k]
        mean[:] = np.float32(0.0)
        for a in range(y):
            row = replicas[a, k]
            for i in range(mean.size):
                mean[i] += row[i]
        for i in range(mean.size):
            mean[i] *= share


@_part
def _pull_towards(weights, centre, strength, lr):
    for k in range(weights.shape[0]):
        w, c = weights[k], centre[k]
        for i in range(w.size):
            w[i] = _descend(w[i], _elastic_pull(w[i], c[i], strength), lr)


@_part
def _kick(weights, gaussians, lr, noise):
    K, N = weights.shape
    scale = _langevin_kick(lr, noise, np.float32(1.0))
    for k in range(K):
        w, z = weights[k], gaussians[k * N : (k + 1) * N]
        for i in range(N):
            w[i] += scale * z[i]


@_part
def _step_outer(anchor, average, lr):
    for k in range(anchor.shape[0]):
        w, mu = anchor[k], average[k]
        for i in range(w.size):
            w[i] = _descend(w[i], _local_entropy_gradient(w[i], mu[i]), lr)


@_part
def _update_average(average, weights, averaging):
    for k in range(weights.shape[0]):
        mu, w = average[k], weights[k]
        for i in range(w.size):
            mu[i] = _running_average(mu[i], w[i], averaging)


@_part
def _one_preactivation(weights, row, length):
    total = np.float32(0.0)
    for i in range(length):
        total += weights[i] * row[i]
    return total


@_part
def find_error(weights, rows, lengths, labels, start):
    """Index of a wrongly classified pattern, searched from ``start`` on; −1 where there is none.

    Starting where the last search ended makes a negative answer cheap during training.
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


@_part
def mean_loss_below(weights, rows, lengths, labels, beta, omega, threshold, start):
    """Whether the mean training loss is below ``threshold``; gives up as early as it can.

    Returns −1 if it is, else the pattern that tipped the sum over: start there next time.
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
        # log(1 + exp(x)), without overflow and never negative
        total += (max(x, 0.0) + math.log1p(math.exp(-abs(x)))) / (2.0 * omega)
        if total >= threshold * P:
            return pattern
    return -1


@_part
def _drop_inputs(rng, rows, labels, batch, dropout, dropped, dropped_labels):
    """Copy the minibatch, each input set to zero with probability ``dropout``, else rescaled."""
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


@njit(cache=True)
def sgd_epochs(
    weights,
    rows,
    lengths,
    labels,
    batches,
    lr,
    betas,
    omegas,
    scale,
    threshold,
    start,
    dropout,
    rng,
):
    """SGD until the stopping rule is met, at most ``len(batches)`` epochs; weights in place.

    ``batches`` (epochs, steps, B). ``threshold`` < 0 stops at zero errors, else at a mean loss
    below it. ``start`` (1,) carries the place to look first for an offending pattern. With
    ``dropout`` > 0 the rows must be unrotated patterns and ``rng`` draws the masks, one number
    per pattern and input. Returns (epochs done, rule met).
    """
    K, N = weights.shape
    B = batches.shape[2]
    u = np.empty((K, B), np.float32)
    active = np.empty(B + 4, np.int64)
    places = np.arange(B)
    dropped = np.zeros((B + 1 if dropout > 0 else 1, N), np.float32)
    dropped_labels = np.zeros(B + 1, np.float32)
    dropped_lengths = np.full(B + 1, N)
    for epoch in range(batches.shape[0]):
        beta, omega = np.float32(betas[epoch]), np.float32(omegas[epoch])
        for step in range(batches.shape[1]):
            batch = batches[epoch, step]
            if dropout > 0:
                _drop_inputs(rng, rows, labels, batch, dropout, dropped, dropped_labels)
                x, signs, sizes, batch = dropped, dropped_labels, dropped_lengths, places
            else:
                x, signs, sizes = rows, labels, lengths
            preactivations(weights, x, sizes, batch, u)
            count = gradient_coefficients(u, signs, batch, beta, omega, scale, active)
            descend_along_patterns(weights, x, sizes, active, count, u, lr)
            normalise_rows(weights)
        if threshold < 0:
            offender = find_error(weights, rows, lengths, labels, start[0])
        else:
            offender = mean_loss_below(
                weights, rows, lengths, labels, betas[epoch], omegas[epoch], threshold, start[0]
            )
        if offender < 0:
            return epoch + 1, True
        start[0] = offender
    return batches.shape[0], False


@njit(cache=True)
def rsgd_epochs(
    replicas,
    rows,
    lengths,
    labels,
    batches,
    lr,
    betas,
    omegas,
    scale,
    couplings,
    period,
    first_step,
    threshold,
):
    """Replicated-SGD (Algorithm 2) until the replicas have collapsed; replicas in place.

    ``replicas`` (y, K, N); ``batches`` (epochs, y, steps, B); ``couplings`` (epochs,) is
    K_c γ times the elastic scale, applied at every ``period``-th step counted from
    ``first_step``. Returns (epochs done, rule met, mean squared distance from the centre).
    """
    y, K, N = replicas.shape
    B = batches.shape[3]
    u = np.empty((K, B), np.float32)
    active = np.empty(B + 4, np.int64)
    centre = np.empty((K, N), np.float32)
    distance = np.inf
    steps = batches.shape[2]
    for epoch in range(batches.shape[0]):
        beta, omega = np.float32(betas[epoch]), np.float32(omegas[epoch])
        strength = np.float32(couplings[epoch])
        for step in range(steps):
            coupled = (first_step + epoch * steps + step + 1) % period == 0 and strength > 0
            if coupled:
                _mean_of_replicas(replicas, centre)
            for a in range(y):
                weights = replicas[a]
                batch = batches[epoch, a, step]
                preactivations(weights, rows, lengths, batch, u)
                count = gradient_coefficients(u, labels, batch, beta, omega, scale, active)
                if coupled:
                    _pull_towards(weights, centre, strength, lr)
                descend_along_patterns(weights, rows, lengths, active, count, u, lr)
                normalise_rows(weights)
        _mean_of_replicas(replicas, centre)
        distance = 0.0
        for a in range(y):
            distance += squared_distance(replicas[a], centre) / y
        if distance < threshold:
            return epoch + 1, True, distance
    return batches.shape[0], False, distance


@njit(cache=True)
def esgd_epochs(
    anchor,
    rows,
    lengths,
    labels,
    batches,
    bits,
    lr,
    inner_lr,
    noise,
    averaging,
    betas,
    omegas,
    scale,
    gammas,
    threshold,
):
    """Entropy-SGD (Algorithm 1) until w and μ meet at the end of an epoch; w in place.

    ``batches`` (epochs, outer, inner, B); ``bits`` (epochs, outer, inner, n) random 64-bit
    integers for the noise, two weights each. Returns (epochs done, rule met, squared distance
    of w and μ).
    """
    K, N = anchor.shape
    B = batches.shape[3]
    u = np.empty((K, B), np.float32)
    active = np.empty(B + 4, np.int64)
    weights = np.empty((K, N), np.float32)
    average = np.empty((K, N), np.float32)
    gaussians = np.empty(K * N + K * N % 2, np.float32)
    distance = np.inf
    for epoch in range(batches.shape[0]):
        beta, omega = np.float32(betas[epoch]), np.float32(omegas[epoch])
        gamma = np.float32(gammas[epoch])
        for outer in range(batches.shape[1]):
            weights[:] = anchor
            average[:] = anchor
            for inner in range(batches.shape[2]):
                batch = batches[epoch, outer, inner]
                preactivations(weights, rows, lengths, batch, u)
                count = gradient_coefficients(u, labels, batch, beta, omega, scale, active)
                _pull_towards(weights, anchor, gamma, inner_lr)
                descend_along_patterns(weights, rows, lengths, active, count, u, inner_lr)
                if noise > 0:
                    gaussians_from_bits(bits[epoch, outer, inner], gaussians)
                    _kick(weights, gaussians, inner_lr, noise)
                normalise_rows(weights)
                _update_average(average, weights, averaging)
            distance = squared_distance(anchor, average)
            _step_outer(anchor, average, lr)
            normalise_rows(anchor)
        if distance < threshold:
            return epoch + 1, True, distance
    return batches.shape[0], False, distance
