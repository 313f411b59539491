"""Elementary functions in float32 that the compiler turns into vector instructions.

The C library's ``tanhf`` is called once per number and would take a third of a training step.
The exponential is the classical one of Cody and Waite with the minimax polynomial of Cephes
(relative error 1e-7); everything else follows from it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

# Sums may be reordered and multiply-adds fused; NaN and infinities keep their meaning. A division
# gives what IEEE arithmetic says: Python's check for zero would keep loops from being vectorised.
VECTORISED: dict[str, Any] = {
    "cache": True,
    "fastmath": {"reassoc", "contract", "nsz"},
    "error_model": "numpy",
    "forceinline": True,
}

_one = np.float32(1.0)
_half = np.float32(0.5)
_two = np.float32(2.0)


@njit(**VECTORISED)
def exp_of_negative(x):
    """``exp(x)`` for float32 x ≤ 0; below −87 it stays at exp(−87) ≈ 1.6e-38."""
    x = max(x, np.float32(-87.0))
    n = np.floor(x * np.float32(1.44269504) + _half)
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    mantissa = p * r * r + r + _one
    power_of_two = np.int32((np.int32(n) + np.int32(127)) << np.int32(23))
    return mantissa * power_of_two.view(np.float32)


@njit(**VECTORISED)
def tanh(x):
    """``tanh(x)`` in float32, absolute error below 2e-7; exactly ±1 for |x| > 9."""
    e = exp_of_negative(-_two * abs(x))
    t = (_one - e) / (_one + e)
    return t if x >= 0 else -t


@njit(**VECTORISED)
def log_of_unit(x):
    """``log(x)`` for float32 x in (0, 1), by x = m·2^e and the series of artanh."""
    bits = np.float32(x).view(np.int32)
    exponent = np.int32((bits >> np.int32(23)) - np.int32(127))
    mantissa = np.int32((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000)).view(np.float32)
    s = (mantissa - np.float32(1.41421356)) / (mantissa + np.float32(1.41421356))
    q = s * s
    series = np.float32(2.0 / 9.0)
    series = series * q + np.float32(2.0 / 7.0)
    series = series * q + np.float32(2.0 / 5.0)
    series = series * q + np.float32(2.0 / 3.0)
    series = (series * q + _two) * s
    return series + (np.float32(exponent) + _half) * np.float32(0.69314718)


@njit(**VECTORISED)
def gaussians_from_bits(bits, out):
    """Turn n random 64-bit integers into 2n standard normals (Box and Muller).

    The upper half of an integer gives the radius, the lower half the angle, 23 bits each; the
    radius reaches 5.8.
    """
    n = bits.size
    cosines, sines = out[:n], out[n : 2 * n]
    step = np.float32(2.0**-23)
    for i in range(n):
        upper = np.int32(bits[i] >> np.uint64(41))
        lower = np.int32(bits[i] & np.uint64(0x7FFFFF))
        radius = np.float32(math.sqrt(-_two * log_of_unit((np.float32(upper) + _half) * step)))
        # Sine and cosine of half the angle 2πv, v in (−1/2, 1/2), by their series, then doubled.
        x = np.float32(3.14159265) * ((np.float32(lower) + _half) * step - _half)
        q = x * x
        s = np.float32(2.7557319e-6)
        s = s * q - np.float32(1.9841270e-4)
        s = s * q + np.float32(8.3333333e-3)
        s = s * q - np.float32(1.6666667e-1)
        s = (s * q + _one) * x
        c = np.float32(-2.7557319e-7)
        c = c * q + np.float32(2.4801587e-5)
        c = c * q - np.float32(1.3888889e-3)
        c = c * q + np.float32(4.1666667e-2)
        c = c * q - _half
        c = c * q + _one
        cosines[i] = radius * (c * c - s * s)
        sines[i] = radius * (_two * s * c)
