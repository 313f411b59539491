"""The curve: Legendre transform, limits, invariances, interpolation, bad input."""

import numpy as np
import pytest

from message_passing import (
    BeliefPropagation,
    ExpectationPropagation,
    MonteCarlo,
    PatternGeometry,
    local_entropy_curve,
)
from message_passing.problem import ReferenceProblem
from tests.message_passing.machines import random_machine


@pytest.fixture(scope="module")
def machine():
    return random_machine(3, 101, 30, seed=11, correlation=0.3)


def test_local_entropy_is_negative_decreasing_and_vanishes_at_distance_zero(machine):
    curve = local_entropy_curve(*machine, variances=[1e-6, 1e-3, 0.01, 0.1, 0.3, 0.6, 1.0])
    assert np.all(curve.local_entropy <= 0)
    assert np.all(np.diff(curve.local_entropy) < 0)
    assert curve.local_entropy[0] == pytest.approx(0, abs=1e-4)
    np.testing.assert_allclose(curve.distance, 0.5 * curve.displacement * curve.variance)


def test_slope_of_the_curve_is_that_of_the_legendre_transform(machine):
    variance, step = 0.3, 1e-3
    curve = local_entropy_curve(*machine, variances=variance + step * np.arange(-1, 2))
    slope = np.diff(curve.local_entropy)[[0, 1]].sum() / (curve.distance[2] - curve.distance[0])
    assert slope == pytest.approx((1 - 1 / curve.displacement[1]) / variance, rel=1e-3)


def test_default_ladder_covers_the_distances_of_the_paper(machine):
    curve = local_entropy_curve(*machine)
    assert len(curve.distance) == 16 and curve.converged.all()
    assert curve.distance[0] <= 0.00051 and curve.distance[-1] >= 0.28


def test_neither_the_norm_of_a_row_nor_the_order_of_the_units_matters(machine):
    weights, patterns, labels = machine
    curve = local_entropy_curve(weights, patterns, labels)
    changed = (weights * np.array([[0.1], [3.0], [70.0]]))[[2, 0, 1]]
    again = local_entropy_curve(changed, PatternGeometry(patterns), labels)
    np.testing.assert_allclose(again.local_entropy, curve.local_entropy, rtol=1e-5)


def test_interpolation_goes_through_the_points_and_the_origin(machine):
    curve = local_entropy_curve(*machine, variances=np.geomspace(0.01, 0.6, 12))
    np.testing.assert_allclose(curve.at(curve.distance), curve.local_entropy)
    assert curve.at(0.0) == 0
    fine = local_entropy_curve(*machine, variances=np.geomspace(0.011, 0.58, 9))
    np.testing.assert_allclose(curve.at(fine.distance), fine.local_entropy, rtol=5e-3)
    for outside in (0.9, 0.004, -0.1, [0.0, 0.004]):
        with pytest.raises(ValueError, match="the last point of this curve"):
            curve.at(outside)


def test_small_distances_are_measured_not_extrapolated(machine):
    """Small distances need points of their own: a √d line through zero would be far off."""
    curve = local_entropy_curve(*machine)
    fine = local_entropy_curve(*machine, variances=np.geomspace(0.001, 0.02, 9))
    np.testing.assert_allclose(curve.at(fine.distance), fine.local_entropy, rtol=0.02)


def test_curves_know_the_training_errors_of_their_reference(machine):
    weights, patterns, labels = machine
    flipped = labels.copy()
    flipped[:3] *= -1
    curve = local_entropy_curve(weights, patterns, flipped, variances=[0.1])
    assert (curve.training_errors, curve.patterns) == (3, 30)
    assert "3 of 30 training errors" in repr(curve)
    assert curve.to_frame()["training_errors"].tolist() == [3]
    with pytest.warns(UserWarning, match="30 training errors on 30 patterns"):
        local_entropy_curve(weights, patterns, -labels, variances=[0.1])


@pytest.mark.parametrize("engine", ["bp", "ep"])
def test_contradictory_labels_cost_nothing(engine):
    """Two kinds of pairs drop out: x with both labels, and x and −x with the same label."""
    weights, patterns, labels = random_machine(3, 15, 4, seed=5)
    double = np.concatenate([patterns, 2.0 * patterns[:1], -patterns[1:2]])
    contradictory = np.concatenate([labels, -labels[:1], labels[1:2]])
    with_pairs = local_entropy_curve(weights, double, contradictory, engine=engine)
    without = local_entropy_curve(weights, patterns[2:], labels[2:], engine=engine)
    assert with_pairs.training_errors == 2
    np.testing.assert_allclose(with_pairs.free_entropy, without.free_entropy, rtol=1e-6)
    nothing_left = local_entropy_curve(
        weights, np.repeat(patterns[:1], 2, axis=0), [1.0, -1.0], engine=engine
    )
    np.testing.assert_array_equal(nothing_left.local_entropy, 0.0)
    problem = ReferenceProblem.from_arrays(weights, patterns, labels)
    assert problem.without_contradictions() is problem


def test_bad_input_is_named(machine):
    weights, patterns, labels = machine
    with pytest.raises(ValueError, match="engine is 'bq'"):
        local_entropy_curve(weights, patterns, labels, engine="bq")
    with pytest.raises(ValueError, match="one machine"):
        local_entropy_curve(weights[None], patterns, labels)
    with pytest.raises(ValueError, match="variances is"):
        local_entropy_curve(weights, patterns, labels, variances=[0.2, 0.1])
    with pytest.raises(ValueError, match="patterns has N = 100"):
        local_entropy_curve(weights, patterns[:, 1:], labels)
    with pytest.raises(ValueError, match="labels contains 0"):
        local_entropy_curve(weights, patterns, np.abs(labels) - 1)
    with pytest.raises(ValueError, match="patterns contains nan"):
        local_entropy_curve(weights, np.where(patterns > 0, np.nan, patterns), labels)
    with pytest.raises(ValueError, match="both given"):
        local_entropy_curve(weights, patterns, labels, variances=[0.1], distances=[0.1])


@pytest.mark.parametrize("engine", ["bp", "ep", "mc"])
def test_distances_are_hit(machine, engine):
    distances = np.array([0.02, 0.1, 0.3])
    curve = local_entropy_curve(*machine, engine=engine, distances=distances)
    np.testing.assert_array_equal(curve.distance, distances)
    fine = local_entropy_curve(*machine, engine=engine, variances=np.geomspace(0.03, 0.7, 12))
    error = 4 * np.hypot(curve.standard_error, fine.standard_error_at(distances))
    assert np.all(
        np.abs(curve.local_entropy - fine.at(distances))
        < error + 5e-3 * np.abs(curve.local_entropy)
    )


@pytest.mark.parametrize(
    ("engine", "N", "errors", "real"),
    [
        (BeliefPropagation(tolerance=1e-10), 101, 0, False),
        (BeliefPropagation(tolerance=1e-10), 101, 0, True),
        (ExpectationPropagation(tolerance=1e-9), 31, 0, False),
        (ExpectationPropagation(tolerance=1e-9), 31, 0, True),
        (ExpectationPropagation(tolerance=1e-9), 31, 2, False),
    ],
)
def test_derivative_of_the_free_entropy_is_the_displacement(engine, N, errors, real):
    weights, patterns, labels = random_machine(5, N, 40, seed=4, correlation=0.4, real=real)
    labels = labels * np.where(np.arange(40) < errors, -1.0, 1.0)
    variance, step = 0.4, 1e-3
    curve = local_entropy_curve(
        weights, patterns, labels, engine=engine, variances=variance + step * np.arange(-1, 2)
    )
    slope = (curve.free_entropy[2] - curve.free_entropy[0]) / (2 * step)
    assert slope == pytest.approx((curve.displacement[1] - 1) / (2 * variance), rel=1e-4)


@pytest.mark.parametrize(
    "engine", [BeliefPropagation(max_iterations=3), ExpectationPropagation(max_sweeps=3)]
)
def test_failure_to_converge_is_said(engine):
    machine = random_machine(3, 41, 60, seed=6, correlation=0.5)
    with pytest.warns(UserWarning, match="did not converge at 1 of 1"):
        curve = local_entropy_curve(*machine, engine=engine, variances=[0.5])
    assert not curve.converged[0] and curve.iterations[0] == 3
    assert curve.residual[0] > engine.tolerance


@pytest.mark.parametrize(
    ("engine", "name", "value"),
    [
        (BeliefPropagation, "damping", 1.0),
        (BeliefPropagation, "tolerance", 0.0),
        (ExpectationPropagation, "damping", 1.0),
        (ExpectationPropagation, "max_sweeps", 0),
        (MonteCarlo, "chains", 2),
        (MonteCarlo, "draws", 10),
    ],
)
def test_bad_configuration_is_named(engine, name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        engine(**{name: value})
