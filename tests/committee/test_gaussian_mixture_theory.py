"""Replica-symmetric theory: closed forms, limits, known numbers, existence of solutions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from committee.gaussian_mixture import (
    ConvergenceWarning,
    bayes_error,
    bayes_overlap,
    best_bias,
    error_from_mean_margin,
    error_under_noise_theory,
    hebb_error_under_noise,
    max_flat_loss_theory,
    max_flat_theory,
    mean_margin_theory,
    oracle_error,
    overlap_error,
    replica_symmetric,
    separability_threshold,
)
from committee.gaussian_mixture.losses import (
    ErrorUnderNoise,
    Hinge,
    Logistic,
    NoisyHinge,
    NoisyLogistic,
    Square,
)
from committee.gaussian_mixture.margins import training_margins
from tests.reference.square_loss import square_closed_form

LOSSES = ("square", "logistic", "hinge")


@pytest.mark.parametrize(
    "loss",
    [Square(), Logistic(), Hinge(), ErrorUnderNoise(2.0), NoisyHinge(0.3), NoisyLogistic(4.0)],
    ids=lambda loss: type(loss).__name__,
)
@pytest.mark.parametrize(("m", "width", "D"), [(0.5, 1.0, 1.0), (2.0, 0.01, 1e-3), (5.0, 30, 10)])
def test_averages_over_margins_equal_a_plain_sum(loss, m, width, D):
    z = np.linspace(-9, 9, 40001)
    h = m + width * z
    v = loss.proximal(h, D)
    plain = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    margins = training_margins(loss, m, width, D)
    assert margins.weight.sum() == pytest.approx(1, abs=1e-12)
    for power in (1, 2):
        expected = plain @ ((v - h) / D) ** power
        assert margins.mean(margins.f**power) == pytest.approx(expected, rel=1e-4, abs=1e-8)
    # Gaussian integration by parts
    stein = margins.mean(margins.f * (margins.h - m)) / width**2
    assert margins.mean(margins.response) == pytest.approx(stein, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("loss", [Logistic(), NoisyHinge(0.3), NoisyLogistic(4.0)])
def test_derivatives_of_losses(loss):
    x, step = np.linspace(-6, 6, 41), 1e-5
    slope = (loss.value(x + step) - loss.value(x - step)) / (2 * step)
    curvature = (loss.slope(x + step) - loss.slope(x - step)) / (2 * step)
    np.testing.assert_allclose(loss.slope(x), slope, atol=1e-9)
    np.testing.assert_allclose(loss.curvature(x), curvature, atol=1e-9)


@pytest.mark.parametrize(("rho", "bias"), [(0.5, None), (0.2, "train")])
def test_square_loss_equals_its_closed_form(rho, bias):
    for alpha, delta, ridge in itertools.product((0.2, 1, 20), (0.1, 1, 4), (1e-3, 1, 1e3)):
        state = replica_symmetric("square", alpha, delta, ridge, rho, bias)
        exact = square_closed_form(alpha, delta, ridge, rho, bias)
        for name in ("m", "q", "V", "bias", "overlap", "error", "training_error", "stability"):
            expected = getattr(exact, name)
            assert getattr(state, name) == pytest.approx(expected, rel=1e-6, abs=1e-12), name


@pytest.mark.parametrize("loss", LOSSES)
def test_solver_converges_over_the_whole_range(loss):
    for alpha, delta, ridge in itertools.product((0.2, 2, 20), (0.1, 1, 4), (1e-3, 1, 1e3)):
        state = replica_symmetric(loss, alpha, delta, ridge)
        assert state.converged and state.residual < 1e-9
        assert state.stable  # as for every convex loss
        assert bayes_error(alpha, delta) <= state.error + 1e-12


def test_known_numbers():
    known = [
        ("square", 0.1, 0.26688, 0.0425),
        ("square", 1.0, 0.22869, None),
        ("square", 10.0, 0.20853, None),
        ("logistic", 0.1, 0.23221, None),
    ]
    for loss, ridge, error, training in known:
        state = replica_symmetric(loss, 2, 1, ridge)
        assert state.error == pytest.approx(error, abs=1e-5)
        if training:
            assert state.training_error == pytest.approx(training, abs=1e-4)
    assert bayes_error(2, 1) == pytest.approx(0.20711, abs=1e-5)
    assert hebb_error_under_noise(0.0, 2, 1) == pytest.approx(0.1103, abs=1e-4)
    two, one = max_flat_theory(2, 1, [2.0, 1.0])
    assert one.error == pytest.approx(0.21958, abs=1e-5)
    assert two.error == pytest.approx(0.20937, abs=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_strong_ridge_is_hebb(loss):
    state = replica_symmetric(loss, 2, 0.7, 1e5)
    assert state.overlap == pytest.approx(bayes_overlap(2, 0.7), abs=1e-4)
    assert state.training_error == pytest.approx(hebb_error_under_noise(0.0, 2, 0.7), abs=1e-4)
    sigmas = [0.0, 0.5, 3.0]
    np.testing.assert_allclose(
        error_under_noise_theory(state, sigmas), hebb_error_under_noise(sigmas, 2, 0.7), atol=2e-4
    )


def test_unbalanced_bayes_error_is_the_least_over_biases():
    R = bayes_overlap(2, 1)
    grid = best_bias(R, 1, 0.2) + np.linspace(-0.5, 0.5, 101)
    errors = overlap_error(R, 1, grid, 0.2)
    assert np.argmin(errors) == 50
    assert bayes_error(2, 1, 0.2) == pytest.approx(errors[50], rel=1e-12)
    assert bayes_error(1e9, 1, 0.2) == pytest.approx(oracle_error(1, 0.2), rel=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_error_follows_from_the_mean_margin(loss):
    for alpha, delta, ridge in ((2, 1, 0.1), (0.6, 0.4, 1.0), (5, 2, 0.01)):
        state = replica_symmetric(loss, alpha, delta, ridge)
        error = error_from_mean_margin(mean_margin_theory(state), alpha, delta)
        assert state.error == pytest.approx(float(error), abs=1e-9)
    for state in max_flat_theory(2, 1, [2.0, 1.0]):
        error = error_from_mean_margin(mean_margin_theory(state), 2, 1)
        assert state.error == pytest.approx(float(error), abs=1e-9)


def test_order_by_flatness_at_large_noise_is_the_order_by_error():
    states = [replica_symmetric(loss, 2, 1, ridge) for loss in LOSSES for ridge in (0.03, 0.3, 3.0)]
    error = np.array([state.error for state in states])
    large = np.array([error_under_noise_theory(state, [8.0])[0] for state in states])
    small = np.array([error_under_noise_theory(state, [0.1])[0] for state in states])
    assert np.array_equal(np.argsort(large), np.argsort(error))
    assert not np.array_equal(np.argsort(small), np.argsort(error))  # not at small noise


def test_noise_on_the_weights_is_a_ridge_for_the_square_loss():
    for alpha, delta, sigma in ((2, 1, 0.7), (0.5, 0.3, 1.5)):
        noisy = max_flat_loss_theory("square", alpha, delta, sigma)
        ridge = square_closed_form(alpha, delta, alpha * delta * sigma**2)
        assert noisy.q == pytest.approx(ridge.q, rel=1e-8)
        assert noisy.overlap == pytest.approx(ridge.overlap, rel=1e-8)


def test_both_routes_to_flatness_approach_the_bayes_optimum():
    best = bayes_overlap(2, 1)
    classifier = [state.overlap for state in max_flat_theory(2, 1, [8.0, 2.0, 1.0])]
    assert best > classifier[0] > classifier[1] > classifier[2]
    assert classifier[0] == pytest.approx(best, abs=1e-3)
    for loss in LOSSES:
        flat = [max_flat_loss_theory(loss, 2, 1, sigma).overlap for sigma in (8.0, 1.0)]
        assert best > flat[0] > flat[1]
        assert flat[0] == pytest.approx(best, abs=1e-3)


def test_flattest_classifier_says_where_replica_symmetry_ends():
    with pytest.warns(ConvergenceWarning, match="replica symmetry is broken"):
        stable, broken = max_flat_theory(2, 1, [1.0, 0.4])
    assert stable.converged and stable.stable
    assert not broken.converged and np.isnan(broken.overlap) and "jump" in broken.message


def test_separability_threshold():
    assert separability_threshold(1e8) == pytest.approx(2, abs=1e-3)  # Cover: no signal
    threshold = separability_threshold(1.0)
    below = replica_symmetric("hinge", 0.97 * threshold, 1, 1e-5)
    above = replica_symmetric("hinge", 1.03 * threshold, 1, 1e-5)
    assert below.training_error < 1e-12
    assert above.training_error > 1e-4


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
def test_without_ridge_a_solution_exists_only_above_the_threshold(loss):
    threshold = separability_threshold(1.0)
    with pytest.warns(ConvergenceWarning, match="linearly separable"):
        nothing = replica_symmetric(loss, 0.9 * threshold, 1, 0.0)
    assert not nothing.converged and np.isnan(nothing.error) and nothing.message
    something = replica_symmetric(loss, 1.5 * threshold, 1, 0.0)
    nearby = replica_symmetric(loss, 1.5 * threshold, 1, 1e-6)
    assert something.converged
    assert something.error == pytest.approx(nearby.error, abs=1e-5)
    with pytest.warns(ConvergenceWarning, match="fewer patterns"):
        assert not replica_symmetric("square", 0.9, 1, 0.0).converged


@pytest.mark.parametrize("loss", LOSSES)
def test_trained_bias_has_no_slope_left(loss):
    state = replica_symmetric(loss, 2, 1, 0.3, rho=0.2, bias="train")
    at = {
        b: replica_symmetric(loss, 2, 1, 0.3, rho=0.2, bias=state.bias + b)
        for b in (-0.2, 0.0, 0.2)
    }
    loss_per_input = {}
    for b, fixed in at.items():
        margins = fixed.margins()
        mean_loss = margins.mean(fixed.loss.value(margins.v))
        loss_per_input[b] = 2 * mean_loss + 0.5 * 0.3 * fixed.q
    assert at[0.0].q == pytest.approx(state.q, rel=1e-6)
    assert loss_per_input[0.0] < min(loss_per_input[-0.2], loss_per_input[0.2])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cubic", 2, 1, 1), "loss is 'cubic'"),
        (("hinge", -2, 1, 1), "alpha is -2"),
        (("hinge", 2, float("nan"), 1), "delta is nan"),
        (("hinge", 2, 1, -1), "ridge is -1"),
        (("hinge", 2, 1, 1, 1.5), "rho is 1.5"),
        (("hinge", 2, 1, 1, 0.5, "learn"), "bias is 'learn'"),
    ],
)
def test_bad_input(arguments, words):
    with pytest.raises(ValueError, match=words):
        replica_symmetric(*arguments)
