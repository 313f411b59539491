"""The vectorised elementary functions and the random bits against numpy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from committee._float32 import exp_of_negative, tanh
from committee._random import LANES, gaussians_from_bits, log_of_unit, random_bits, sfc64_lanes
from tests.reference.training import box_muller


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
    assert np.allclose(apply(log_of_unit, x), np.log(x.astype(float)), rtol=3e-7)
    assert log_of_unit(np.float32(1.0)) == 0.0


def test_gaussians_are_those_of_box_and_muller_at_every_radius_and_angle():
    radii = np.concatenate([np.arange(64), 2 ** np.arange(6, 32), 2**32 - 1 - np.arange(64)])
    angles = np.arange(0, 2**32, 2**32 // len(radii))[: len(radii)]
    words = np.concatenate([radii, angles]).astype(np.uint32)
    z = np.empty(len(words), np.float32)
    gaussians_from_bits(words, z)
    exact = box_muller(words, len(words))
    radius = np.hypot(*exact.reshape(2, -1))
    # The largest uniform numbers are rounded to multiples of 2^-24.
    assert np.allclose(z, exact, rtol=0, atol=5e-4)
    ordinary = np.concatenate([radius > 0.1, radius > 0.1])
    assert np.sum(ordinary) > 40
    errors = np.abs(z - exact) / np.concatenate([radius, radius])
    assert np.max(errors[ordinary]) < 6e-6
    assert 6.6 < np.abs(np.hypot(*z.reshape(2, -1))).max() < 6.7


# Without compilation, 64-bit sums wrap with a warning.
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("lanes", [1, 5, 64])
def test_every_lane_is_an_sfc64_of_numpy(lanes):
    seeds = np.random.SeedSequence(11).spawn(lanes)
    state = sfc64_lanes(seeds)
    first, second = np.empty((7, lanes), np.uint64), np.empty((4, lanes), np.uint64)
    random_bits(state, first)
    random_bits(state, second)  # continues where the first call ended
    expected = np.array([np.random.SFC64(seed).random_raw(11) for seed in seeds]).T
    assert np.array_equal(np.concatenate([first, second]), expected)


@pytest.fixture(scope="module")
def normals():
    """4.6 million normals, made as in training."""
    lanes = sfc64_lanes(np.random.SeedSequence(3).spawn(LANES))
    bits = np.empty((3000, LANES), np.uint64)
    z = np.empty((12, 2 * bits.size), np.float32)
    for row in z:
        random_bits(lanes, bits)
        gaussians_from_bits(bits.reshape(-1).view(np.uint32), row)
    return z.astype(float)


@pytest.mark.compiled
def test_gaussians_are_gaussian(normals):
    n = normals.size
    assert stats.kstest(normals.ravel(), "norm").pvalue > 1e-3
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)):
        assert abs(np.mean(normals**power) - moment) < 4 * np.sqrt(variance / n)
    for threshold in (3.0, 4.0, 4.5):
        expected = 2 * n * stats.norm.sf(threshold)
        assert abs(np.sum(np.abs(normals) > threshold) - expected) < 4 * np.sqrt(expected)


@pytest.mark.compiled
def test_gaussians_do_not_depend_on_each_other(normals):
    """Neighbours, the two of a pair and later draws of the same lane are uncorrelated."""
    half = normals.shape[1] // 2
    for lag in (1, 2, 3, LANES, 2 * LANES, 4 * LANES, half, half + 1):
        for values in (normals, normals**2, np.abs(normals) > 2.0):
            centred = values - np.mean(values)
            first, second = centred[:, :-lag], centred[:, lag:]
            correlation = np.mean(first * second) / np.mean(centred**2)
            assert abs(correlation) < 4.5 / np.sqrt(first.size)
