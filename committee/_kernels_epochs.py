"""Compiled loops over epochs: SGD, Replicated-SGD, Entropy-SGD, on plain float32 arrays.

``_kernels_minibatch.py`` explains the arrays. Weights change in place. The update rules come from
``entropic.py``.
"""

from __future__ import annotations

import math

import numpy as np

from committee import entropic
from committee._kernels_minibatch import (
    descend_along_patterns,
    drop_inputs,
    find_error,
    gradient_coefficients,
    mean_loss_below,
    part,
    preactivations,
)
from committee._random import gaussians_from_bits, random_bits
from message_passing.tools.compiled import compiled

_descend = part(entropic.descend)
_elastic_pull = part(entropic.elastic_pull)
_langevin_kick = part(entropic.langevin_kick)
_running_average = part(entropic.running_average)
_local_entropy_gradient = part(entropic.local_entropy_gradient)


@part
def _inverse_norm(row):
    squared = np.float32(0.0)
    for i in range(row.size):
        squared += row[i] * row[i]
    return np.float32(1.0 / math.sqrt(squared))


@part
def normalise_rows(weights):
    """Rescale every row to norm 1."""
    for k in range(weights.shape[0]):
        row = weights[k]
        scale = _inverse_norm(row)
        for i in range(row.size):
            row[i] *= scale


@part
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


@part
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


@part
def _pull_towards(weights, centre, strength, lr):
    for k in range(weights.shape[0]):
        w, c = weights[k], centre[k]
        for i in range(w.size):
            w[i] = _descend(w[i], _elastic_pull(w[i], c[i], strength), lr)


@part
def _langevin_pull(weights, anchor, strength, lr, gaussians, noise):
    K, N = weights.shape
    for k in range(K):
        w, c, z = weights[k], anchor[k], gaussians[k * N : (k + 1) * N]
        for i in range(N):
            pulled = _descend(w[i], _elastic_pull(w[i], c[i], strength), lr)
            w[i] = pulled + _langevin_kick(lr, noise, z[i])


@part
def _step_outer(anchor, average, lr):
    for k in range(anchor.shape[0]):
        w, mu = anchor[k], average[k]
        for i in range(w.size):
            w[i] = _descend(w[i], _local_entropy_gradient(w[i], mu[i]), lr)


@part
def _normalise_and_average(weights, average, averaging):
    for k in range(weights.shape[0]):
        w, mu = weights[k], average[k]
        scale = _inverse_norm(w)
        for i in range(w.size):
            w[i] *= scale
            mu[i] = _running_average(mu[i], w[i], averaging)


@compiled
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
    """SGD until the stopping rule is met, for at most ``len(batches)`` epochs; weights in place.

    ``batches`` (epochs, steps, B). A ``threshold`` < 0 means stop at zero errors, otherwise stop
    at a mean loss below it. ``start`` (1,) carries the index at which the search for an offending
    pattern starts. With ``dropout`` > 0 the rows must be unrotated patterns, and ``rng`` draws the
    masks, one number per pattern and input. Returns (epochs done, rule met).
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
                drop_inputs(rng, rows, labels, batch, dropout, dropped, dropped_labels)
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


@compiled
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

    ``replicas`` (y, K, N), ``batches`` (epochs, y, steps, B). ``couplings`` (epochs,) is K_c γ
    times the elastic scale. It applies at every ``period``-th step, counting from ``first_step``.
    Returns (epochs done, rule met, mean squared distance from the centre).
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


@compiled
def esgd_epochs(
    anchor,
    rows,
    lengths,
    labels,
    batches,
    lanes,
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

    ``batches`` (epochs, outer, inner, B). ``lanes`` (4, L) is the state of the noise generators.
    An inner step uses 32 random bits per weight and drops the rest of its last block. Returns
    (epochs done, rule met, squared distance of w and μ).
    """
    K, N = anchor.shape
    B = batches.shape[3]
    pairs = (K * N + 1) // 2
    bits = np.empty((-(-pairs // lanes.shape[1]), lanes.shape[1]), np.uint64)
    words = bits.reshape(-1).view(np.uint32)
    u = np.empty((K, B), np.float32)
    active = np.empty(B + 4, np.int64)
    weights = np.empty((K, N), np.float32)
    average = np.empty((K, N), np.float32)
    gaussians = np.zeros(2 * pairs, np.float32)
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
                if noise > 0:
                    random_bits(lanes, bits)
                    gaussians_from_bits(words, gaussians)
                _langevin_pull(weights, anchor, gamma, inner_lr, gaussians, noise)
                descend_along_patterns(weights, rows, lengths, active, count, u, inner_lr)
                _normalise_and_average(weights, average, averaging)
            distance = squared_distance(anchor, average)
            _step_outer(anchor, average, lr)
            normalise_rows(anchor)
        if distance < threshold:
            return epoch + 1, True, distance
    return batches.shape[0], False, distance
