"""The vectorised elementary functions against the C library's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from committee._float32 import exp_of_negative, gaussians_from_bits, log_of_unit, tanh


def apply(function, values):
    return np.array([function(np.float32(x)) for x in values], dtype=np.float64)


def test_exponential():
    x = np.float32(-np.geomspace(1e-6, 86.0, 2001)).astype(np.float64)
    assert np.allclose(apply(exp_of_negative, x), np.exp(x), rtol=4e-7)


def test_hyperbolic_tangent():
    x = np.float32(np.linspace(-12, 12, 2001)).astype(np.float64)
    assert np.allclose(apply(tanh, x), np.tanh(x), atol=2e-7)
    assert tanh(np.float32(10.0)) == 1.0 and tanh(np.float32(-10.0)) == -1.0


def test_logarithm():
    x = np.float32(np.concatenate([np.geomspace(1e-7, 1, 1001), 1 - np.geomspace(1e-6, 0.5, 1000)]))
    assert np.allclose(apply(log_of_unit, x), np.log(x.astype(float)), rtol=2e-6, atol=3e-7)


@pytest.mark.compiled
def test_gaussians_are_gaussian():
    bits = np.random.default_rng(3).bit_generator.random_raw(500_000)
    z = np.empty(1_000_000, np.float32)
    gaussians_from_bits(bits, z)
    assert stats.kstest(z, "norm").pvalue > 1e-3
    assert abs(np.mean(z)) < 4e-3 and abs(np.var(z) - 1) < 6e-3
    assert abs(np.mean(z.astype(float) ** 4) - 3) < 0.04
    # the two halves come from the same integers, yet do not depend on each other
    assert abs(np.corrcoef(z[:500_000] ** 2, z[500_000:] ** 2)[0, 1]) < 6e-3
