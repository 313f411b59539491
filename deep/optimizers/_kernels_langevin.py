"""Compiled passes of Entropy-SGD over float32 weights on a CPU: pull, noise, running average.

Memory traffic is what an inner step costs beside the gradient, so each kernel reads and writes a
tensor once. Arrays are flat; all of one call have the same length n. The update rules are those
of ``committee/entropic.py``, compiled as they stand and, as in torch, without fused
multiply-adds: without noise the results are those of torch, bit for bit.

The noise is a function of (seed, draw, tensor, position): Philox 4x32-10, a counter-based
generator (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011),
so that it depends neither on threads nor on how the arrays are cut, and a resumed run needs only
the number of draws.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from committee import entropic
from committee._float32 import gaussians_from_bits

BLOCK = 2048  # normals made at a time; they stay in the first-level cache

# Not cached: numba's cache does not tell them from those of ``committee``, which fuse.
_elastic_pull = njit(entropic.elastic_pull)
_running_average = njit(entropic.running_average)
_descend = njit(entropic.descend)
_local_entropy_gradient = njit(entropic.local_entropy_gradient)
_half_word = np.uint64(32)


@njit(cache=True, error_model="numpy", forceinline=True)
def philox(c0, c1, c2, c3, key0, key1):
    """Four random 32-bit words of a counter (c0, c1, c2, c3) and a key."""
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * np.uint64(c0)
        p1 = np.uint64(0xCD9E8D57) * np.uint64(c2)
        c0, c1 = np.uint32(p1 >> _half_word) ^ c1 ^ key0, np.uint32(p1)
        c2, c3 = np.uint32(p0 >> _half_word) ^ c3 ^ key1, np.uint32(p0)
        key0 = np.uint32(key0 + np.uint32(0x9E3779B9))
        key1 = np.uint32(key1 + np.uint32(0xBB67AE85))
    return c0, c1, c2, c3


@njit(cache=True, error_model="numpy", forceinline=True)
def _fill(normals, words, seed, draw, tensor, block):
    """One block of standard normals; ``words`` (BLOCK) is scratch."""
    count = BLOCK // 4
    key0, key1 = np.uint32(seed), np.uint32(seed >> _half_word)
    for i in range(count):
        place = np.uint64(block * count + i)
        words[i], words[count + i], words[2 * count + i], words[3 * count + i] = philox(
            np.uint32(place), np.uint32(place >> _half_word), tensor, draw, key0, key1
        )
    gaussians_from_bits(words, normals)


@njit(cache=True, nogil=True)
def add_elastic_pull(gradient, weights, centre, gamma):
    """``∇ ← ∇ + γ (w − w̄)``."""
    for i in range(gradient.size):
        gradient[i] += _elastic_pull(weights[i], centre[i], gamma)


@njit(cache=True, nogil=True, error_model="numpy")
def add_noise(values, scale, seed, draw, tensor, first):
    """``x ← x + scale·N(0, I)``; ``first`` is the place in its tensor, in blocks."""
    normals, words = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.uint32)
    for start in range(0, values.size, BLOCK):
        _fill(normals, words, seed, draw, tensor, first + start // BLOCK)
        part = values[start : start + BLOCK]
        for i in range(part.size):
            part[i] += scale * normals[i]


@njit(cache=True, nogil=True, error_model="numpy")
def average(mean, weights, averaging):
    """``μ ← α μ + (1 − α) w'``."""
    for i in range(mean.size):
        mean[i] = _running_average(mean[i], weights[i], averaging)


@njit(cache=True, nogil=True)
def return_to_anchor(weights, mean, anchor):
    """``w' ← w``, and ``w − μ`` in the place of μ."""
    for i in range(weights.size):
        weights[i] = anchor[i]
        mean[i] = _local_entropy_gradient(anchor[i], mean[i])


@njit(cache=True, nogil=True, error_model="numpy")
def kick_and_average(mean, weights, scale, averaging, seed, draw, tensor, first):
    """``add_noise`` to the weights, then ``average``, in one pass."""
    normals, words = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.uint32)
    for start in range(0, weights.size, BLOCK):
        _fill(normals, words, seed, draw, tensor, first + start // BLOCK)
        w, m = weights[start : start + BLOCK], mean[start : start + BLOCK]
        for i in range(w.size):
            w[i] += scale * normals[i]
            m[i] = _running_average(m[i], w[i], averaging)


@njit(cache=True, nogil=True, error_model="numpy")
def sgd_step_and_average(
    weights, gradient, anchor, mean, velocity, begins, lr, momentum, nesterov, decay,
    gamma, scale, averaging, seed, draw, tensor, first,
):  # fmt: skip
    """A whole inner step: pull, step of ``torch.optim.SGD``, noise, running average.

    With momentum 0 ``velocity`` is not touched; where it ``begins``, what it held does not count.
    """
    normals, words = np.zeros(BLOCK, np.float32), np.empty(BLOCK, np.uint32)
    for start in range(0, weights.size, BLOCK):
        if scale != 0:
            _fill(normals, words, seed, draw, tensor, first + start // BLOCK)
        w, m = weights[start : start + BLOCK], mean[start : start + BLOCK]
        g, a = gradient[start : start + BLOCK], anchor[start : start + BLOCK]
        if momentum == 0:
            for i in range(w.size):
                slope = g[i] + _elastic_pull(w[i], a[i], gamma) + decay * w[i]
                w[i] = _descend(w[i], slope, lr)
        else:
            v = velocity[start : start + BLOCK]
            if begins:
                v[:] = 0
            for i in range(w.size):
                slope = g[i] + _elastic_pull(w[i], a[i], gamma) + decay * w[i]
                v[i] = momentum * v[i] + slope
                w[i] = _descend(w[i], slope + momentum * v[i] if nesterov else v[i], lr)
        for i in range(w.size):
            w[i] += scale * normals[i]
            m[i] = _running_average(m[i], w[i], averaging)
