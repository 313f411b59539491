"""Random numbers inside compiled loops: many of numpy's SFC64 generators in parallel lanes.

A single generator is a chain of dependent instructions. Lanes that advance together become vector
instructions, about ten times faster. Lane l is numpy's ``SFC64`` of child l of the seed. A state
has 256 bits, so no two lanes meet. The output takes one number from every lane in turn.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from committee._float32 import VECTORISED
from message_passing.tools.compiled import compiled

LANES = 64

_one = np.float32(1.0)
_half = np.float32(0.5)
_two = np.float32(2.0)


def sfc64_lanes(seeds: list[np.random.SeedSequence]) -> NDArray[np.uint64]:
    """States (4, lanes) of one SFC64 per seed, for ``random_bits``."""
    states = [np.random.SFC64(seed).state["state"]["state"] for seed in seeds]
    return np.ascontiguousarray(np.array(states, np.uint64).T)


@compiled(**VECTORISED)
def random_bits(state, out):
    """Fill ``out`` (blocks, lanes) with random 64-bit integers and advance ``state`` (4, lanes)."""
    a, b, c, counter = state[0], state[1], state[2], state[3]
    for block in range(out.shape[0]):
        row = out[block]
        for lane in range(row.size):
            drawn = a[lane] + b[lane] + counter[lane]
            counter[lane] += np.uint64(1)
            a[lane] = b[lane] ^ (b[lane] >> np.uint64(11))
            b[lane] = c[lane] + (c[lane] << np.uint64(3))
            c[lane] = ((c[lane] << np.uint64(24)) | (c[lane] >> np.uint64(40))) + drawn
            row[lane] = drawn


@compiled(**VECTORISED)
def log_of_unit(x):
    """``log(x)`` for float32 x in (0, 1], from x = m·2^e and the series of artanh. Never positive.

    m lies between √½ and √2, so nothing cancels near x = 1. The series has four minimax
    coefficients (relative error 1e-9 before rounding).
    """
    root_of_half = np.int32(0x3F3504F3)
    bits = np.int32(np.float32(x).view(np.int32) - root_of_half)
    exponent = bits >> np.int32(23)
    mantissa = np.int32((bits & np.int32(0x7FFFFF)) + root_of_half).view(np.float32)
    s = (mantissa - _one) / (mantissa + _one)
    q = s * s
    series = np.float32(2.9926515e-1)
    series = series * q + np.float32(3.9974757e-1)
    series = series * q + np.float32(6.6666816e-1)
    series = (series * q + _two) * s
    return series + np.float32(np.int32(exponent)) * np.float32(0.69314718)


@compiled(**VECTORISED)
def gaussians_from_bits(words, out):
    """Turn 2n random 32-bit integers into 2n standard normals (Box and Muller).

    Word i gives the radius and word n + i the angle of ``out[i]`` and ``out[n + i]``. The radii
    are the quantiles at the midpoints of 2³¹ equal probabilities. The largest is 6.66. Sine and
    cosine are minimax polynomials (error 5e-8).
    """
    n = out.size // 2
    radii, angles = words[:n], words[n : 2 * n]
    cosines, sines = out[:n], out[n : 2 * n]
    for i in range(n):
        share = np.float32(np.int32(radii[i] >> np.uint32(1))) + _half
        radius = np.float32(math.sqrt(-_two * log_of_unit(share * np.float32(2.0**-31))))
        # Compute sine and cosine of half the angle, in [−π/2, π/2], then of the angle.
        x = np.float32(np.int32(angles[i])) * np.float32(math.pi * 2.0**-32)
        q = x * x
        s = np.float32(2.5925094e-6)
        s = s * q - np.float32(1.9802091e-4)
        s = s * q + np.float32(8.3329239e-3)
        s = s * q - np.float32(1.6666650e-1)
        s = (s * q + _one) * x
        c = np.float32(2.3153932e-5)
        c = c * q - np.float32(1.3853704e-3)
        c = c * q + np.float32(4.1663585e-2)
        c = c * q - np.float32(4.9999905e-1)
        c = c * q + np.float32(9.9999995e-1)
        cosines[i] = radius * (_one - _two * s * s)
        sines[i] = radius * (_two * s * c)
