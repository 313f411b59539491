"""The majority node against the sum over all sign patterns, and its derivatives."""

import math

import numpy as np
import pytest
from scipy.special import log_ndtr

from message_passing import _kernels_output_node as kernels
from message_passing.output_node import Majority
from tests.reference import output_node as reference


def fields(K, P, spread, seed):
    rng = np.random.default_rng(seed)
    mean = spread * rng.standard_normal((K, P))
    variance = rng.uniform(0.2, 3.0, (K, P))
    labels = rng.choice([-1.0, 1.0], P)
    return mean, variance, labels


@pytest.mark.parametrize("K", [1, 3, 5, 9])
@pytest.mark.parametrize("spread", [0.3, 3.0, 30.0, 1000.0])
@pytest.mark.parametrize("inverse_temperature", [math.inf, 1.7])
def test_evidence_equals_the_sum_over_all_sign_patterns(K, spread, inverse_temperature):
    mean, variance, labels = fields(K, 12, spread, seed=K)
    found = Majority(inverse_temperature).moments(mean, variance, labels)
    expected = reference.log_evidence(mean, variance, labels, inverse_temperature)
    np.testing.assert_allclose(found.log_evidence, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("spread", [1.0, 40.0])
@pytest.mark.parametrize("inverse_temperature", [math.inf, 2.5])
def test_derivatives_are_those_of_the_evidence(spread, inverse_temperature):
    K, P = 5, 8
    mean, variance, labels = fields(K, P, spread, seed=3)
    node = Majority(inverse_temperature)
    found = node.moments(mean, variance, labels)
    step = 1e-5 * spread
    for k in range(K):
        shift = np.zeros((K, 1))
        shift[k] = step
        above = node.moments(mean + shift, variance, labels)
        under = node.moments(mean - shift, variance, labels)
        slope = (above.log_evidence - under.log_evidence) / (2 * step)
        np.testing.assert_allclose(found.gradient[k], slope, rtol=1e-5, atol=1e-8)
        slope = (above.gradient[k] - under.gradient[k]) / (2 * step)
        np.testing.assert_allclose(found.curvature[k], slope, rtol=1e-4, atol=1e-8)


def test_a_field_without_variance_is_certain_and_zero_counts_as_plus_one():
    mean = np.array([[0.0], [-1.0], [0.4]])
    variance = np.array([[0.0], [0.0], [1.0]])
    found = Majority().moments(mean, variance, np.array([1.0]))
    # One unit right, one wrong: the third decides alone.
    assert found.log_evidence[0] == pytest.approx(log_ndtr(0.4), rel=1e-12)
    assert found.gradient[0, 0] == found.gradient[1, 0] == 0


def test_no_digit_is_lost_where_the_majority_is_hopeless():
    mean = np.full((9, 1), -80.0)
    found = Majority().moments(mean, np.ones((9, 1)), np.array([1.0]))
    # To leading order five of the nine units are right: C(9, 5) Φ(−80)^5.
    expected = math.log(math.comb(9, 5)) + 5 * log_ndtr(-80.0)
    assert found.log_evidence[0] == pytest.approx(expected, rel=1e-12)
    assert np.all(np.isfinite(found.gradient)) and np.all(found.gradient > 0)


def test_log_normal_cdf_is_right_in_both_tails():
    for z in [-1e4, -200.0, -37.0, -15.1, -14.9, -3.0, 0.0, 4.9, 5.1, 40.0]:
        assert kernels.log_normal_cdf(z) == pytest.approx(log_ndtr(z), rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("errors", [0, 1, 3, 6, 9])
def test_the_count_of_wrong_patterns_equals_the_sum_over_all_sets_of_them(errors):
    right = np.array([0.9, 0.3, 1.0, 0.999, 1e-40, 0.7])
    log_total, log_exact = kernels.at_most(np.log(right), errors)
    assert log_total == pytest.approx(reference.log_at_most(right, errors), rel=1e-12, abs=1e-15)
    for mu, found in enumerate(log_exact):
        others = np.delete(right, mu)
        # P[n = errors] = P[n ≤ errors] − P[n ≤ errors − 1]
        expected = math.exp(reference.log_at_most(others, errors)) - math.exp(
            reference.log_at_most(others, errors - 1)
        )
        assert math.exp(found) == pytest.approx(expected, rel=1e-9, abs=1e-14)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="inverse_temperature is -1"):
        Majority(-1.0)
    with pytest.raises(ValueError, match="K odd"):
        Majority().moments(np.ones((2, 3)), np.ones((2, 3)), np.ones(3))
