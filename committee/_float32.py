"""Elementary functions in float32 that the compiler turns into vector instructions.

The C library's ``tanhf`` is called once per number and would take a third of a training step.
The exponential is the classical one of Cody and Waite with the minimax polynomial of Cephes
(relative error 1e-7); everything else follows from it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from message_passing.tools.compiled import compiled

# Sums may be reordered and multiply-adds fused; NaN and infinities keep their meaning. A division
# gives what IEEE arithmetic says: Python's check for zero would keep loops from being vectorised.
VECTORISED: dict[str, Any] = {
    "fastmath": {"reassoc", "contract", "nsz"},
    "error_model": "numpy",
    "forceinline": True,
}

_one = np.float32(1.0)
_half = np.float32(0.5)
_two = np.float32(2.0)


@compiled(**VECTORISED)
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


@compiled(**VECTORISED)
def tanh(x):
    """``tanh(x)`` in float32, absolute error below 2e-7; exactly ±1 for |x| > 9."""
    e = exp_of_negative(-_two * abs(x))
    t = (_one - e) / (_one + e)
    return t if x >= 0 else -t


@compiled(**VECTORISED)
def log_of_unit(x):
    """``log(x)`` for float32 x in (0, 1], never positive, by x = m·2^e and the series of artanh.

    m lies between √½ and √2, so that nothing cancels near x = 1; four minimax coefficients
    (relative error 1e-9 before rounding).
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

    Word i gives the radius, word n + i the angle, of ``out[i]`` and ``out[n + i]``. The radii
    belong to the midpoints of 2³¹ equal shares of probability. They reach 6.66. Sine and cosine
    are minimax polynomials (error 5e-8).
    """
    n = out.size // 2
    radii, angles = words[:n], words[n : 2 * n]
    cosines, sines = out[:n], out[n : 2 * n]
    for i in range(n):
        share = np.float32(np.int32(radii[i] >> np.uint32(1))) + _half
        radius = np.float32(math.sqrt(-_two * log_of_unit(share * np.float32(2.0**-31))))
        # Sine and cosine of half the angle, in [−π/2, π/2], then of the angle.
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
