"""The compiled pass of Entropy-SGD over float32 weights on a CPU: noise and running average.

Torch generates normals slowly on a CPU, and an inner step without its gradient costs mostly memory
traffic. So noise and average together read and write each tensor once. Arrays are flat. The
running average is the function of ``committee/entropic.py``, compiled without fused multiply-adds
as in torch.

The noise is a function of (seed, draw, tensor, position): Philox 4x32-10, a counter-based
generator (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
It depends neither on the threads nor on how the arrays are divided.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from committee import entropic
from committee._random import gaussians_from_bits
from message_passing.tools.compiled import compiled

BLOCK = 2048  # normals per block; they fit into the first-level cache

# Not cached: numba's cache would confuse it with the committee's version, which fuses.
_running_average = njit(entropic.running_average)
_half_word = np.uint64(32)


@compiled(error_model="numpy", forceinline=True)
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


@compiled(error_model="numpy", forceinline=True)
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


@compiled(error_model="numpy")
def kick_and_average(mean, weights, scale, averaging, seed, draw, tensor, first):
    """``w' ← w' + scale·N(0, I)``, ``μ ← α μ + (1 − α) w'``.

    ``first`` is the offset of the arrays in their tensor, in blocks.
    """
    normals, words = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.uint32)
    for start in range(0, weights.size, BLOCK):
        _fill(normals, words, seed, draw, tensor, first + start // BLOCK)
        w, m = weights[start : start + BLOCK], mean[start : start + BLOCK]
        for i in range(w.size):
            w[i] += scale * normals[i]
            m[i] = _running_average(m[i], w[i], averaging)
