"""Uniform samples of solutions: exact enumeration, Gardner's volume, seeds, bad input."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from committee import PatternSet
from committee.machine import predict
from committee.solution_space._kernels_billiard import billiard_steps
from committee.solution_space.typical import typical_solutions
from committee.solution_space.white_coordinates import WhiteCoordinates
from message_passing.problem import PatternGeometry
from tests.committee.learnable import pattern_set, problem
from tests.reference.perceptron_volume import overlap_with_random_labels, volume_with_random_labels


def orthants(vectors):
    """Sign patterns (8, 3) of a Gaussian's projections on three vectors, and their probabilities.

    1/8 + (1/4π) Σ_{i<j} s_i s_j arcsin ρ_ij.
    """
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    angles = np.arcsin(np.clip(unit @ unit.T, -1, 1))
    signs = np.array(list(itertools.product((1, -1), repeat=3)))
    i, j = np.triu_indices(3, 1)
    return signs, 1 / 8 + (signs[:, i] * signs[:, j]) @ angles[i, j] / (4 * np.pi)


def test_sampler_against_exact_enumeration():
    """K = 3, two training patterns, one test pattern at a time: all 8³ sign configurations."""
    rng = np.random.default_rng(0)
    X = np.sign(rng.normal(size=(2, 9)))
    X[1, :4] = X[0, :4]
    y = np.array([1.0, -1.0])
    tests = np.vstack([np.sign(rng.normal(size=(4, 9))), X[:1], -X[1:]])
    test_labels = np.ones(6)
    expected, shares = [], np.zeros(2)
    for test in tests:
        signs, p = orthants(np.vstack([X, test]))
        right = total = 0.0
        shares[:] = 0
        for units in itertools.product(range(8), repeat=3):
            outputs = signs[list(units)].sum(axis=0)
            weight = np.prod(p[list(units)])
            if np.all(np.sign(outputs[:2]) == y):
                total += weight
                right += weight * (outputs[2] > 0)
                for mu in range(2):
                    shares[int(outputs[mu] * y[mu] == 3)] += weight / 2
        expected.append(right / total)
        shares /= total
    sample = typical_solutions(
        pattern_set(X, y, tests, test_labels), 3, chains=8, steps=1600, workers=1
    )
    assert sample.converged and sample.r_hat < 1.02
    assert sample.test_probability == pytest.approx(expected, abs=0.012)
    assert expected[4:] == pytest.approx([1, 1])  # a training pattern, and its opposite
    assert sample.margins == pytest.approx(shares, abs=0.012)
    assert abs(sample.test_error - (1 - np.mean(expected))) < 4 * sample.standard_error
    assert sample.vote_error == np.mean(np.array(expected) < 0.5)
    assert sample.effective_samples > 500


def test_volume_and_overlap_of_the_perceptron_with_random_labels():
    """K = 1, N = 120. ∂ log Z/∂P is the mean log probability of the next label."""
    N, alpha = 120, 0.8
    rng = np.random.default_rng(1)
    X, y = np.sign(rng.normal(size=(96, N))), np.sign(rng.normal(size=96))
    tests, labels = np.sign(rng.normal(size=(1500, N))), np.sign(rng.normal(size=1500))
    nodes, weights = np.polynomial.legendre.leggauss(3)
    log_z = 0.0
    for node, weight in zip(nodes, weights, strict=True):
        P = round(0.5 * (1 + node) * alpha * N)
        sample = typical_solutions(
            pattern_set(X[:P], y[:P], tests, labels), 1, chains=4, steps=2000, workers=1
        )
        answers = sample.test_probability
        right = np.where(labels > 0, answers, 1 - answers)
        log_z += 0.5 * weight * alpha * np.mean(np.log(right))
        assert sample.overlap == pytest.approx(overlap_with_random_labels(P / N), abs=0.04)
    assert log_z == pytest.approx(volume_with_random_labels(alpha), rel=0.05)


@pytest.fixture(scope="module")
def teacher():
    X, y = problem(90, 41, seed=5)
    return pattern_set(X[:40], y[:40], X[40:], y[40:])


@pytest.fixture(scope="module")
def sample(teacher):
    return typical_solutions(teacher, 3, steps=1000, workers=1)


def test_opposite_starts_agree(sample, teacher):
    assert sample.converged
    means = sample.to_frame().test_error.to_numpy()
    assert len(means) == 8
    gap = means[::2] - means[1::2]
    assert abs(gap.mean()) < 4 * gap.std() / 2
    assert sample.test_error == pytest.approx(means.mean())
    assert np.all(predict(sample.weights, teacher.train_patterns) == teacher.train_labels)
    assert np.allclose(np.linalg.norm(sample.weights, axis=2), 1)
    assert "converged" in repr(sample) and "not" not in repr(sample)


def test_sample_as_table_and_plot(sample):
    table = sample.to_frame()
    assert len(table) == len(sample.weights)
    assert table["test_error"].mean() == pytest.approx(sample.test_error)
    lines = sample.plot().get_lines()
    assert np.allclose(lines[0].get_ydata(), 100 * sample.chain_test_error[0])


def test_expected_test_error_is_the_mean_error_of_whole_machines(sample, teacher):
    """Machines at the ends of the chains have this mean error, and the vote is no worse."""
    whole = np.mean(predict(sample.weights, teacher.test_patterns) != teacher.test_labels, axis=1)
    assert abs(whole.mean() - sample.test_error) < 4 * whole.std(ddof=1) / np.sqrt(8)
    assert sample.vote_error <= sample.test_error


def test_billiard_against_slice_sampling(teacher):
    """Billiard and slices share nothing but the distribution, and moments of u agree."""
    X, y = teacher.train_patterns, teacher.train_labels
    coordinates, gram = WhiteCoordinates(PatternGeometry(X)), PatternGeometry(X).gram
    start = typical_solutions(teacher, 3, chains=4, steps=16, workers=1).weights
    means: dict[str, list] = {"billiard": [], "slices": []}
    for chain, weights in enumerate(start):
        rng = np.random.default_rng(chain)
        u, values = weights @ X.T, []
        for _ in range(3000):
            billiard_steps(u, y, gram, coordinates.factor, 1, 1000, rng)
            values.append(moments(u, y))
        means["billiard"].append(np.mean(values, axis=0))
        white, values = u @ coordinates.inverse, []
        for _ in range(3000):
            coordinates.advance(white, np.zeros_like(u), y, 1.0, 10, rng)
            values.append(moments(white @ coordinates.factor, y))
        means["slices"].append(np.mean(values, axis=0))
    one, two = (np.array(values) for values in means.values())
    error = np.sqrt((one.var(axis=0, ddof=1) + two.var(axis=0, ddof=1)) / 4)
    assert np.all(np.abs(one.mean(axis=0) - two.mean(axis=0)) < 5 * error)
    assert np.all(error < 0.02 * two.mean(axis=0))


def moments(u, y):
    right = np.count_nonzero(y * u >= 0, axis=0)
    return np.array([np.mean(right == 2), np.mean(u**2), np.mean(np.abs(u)), np.mean(u**4)])


def test_a_trajectory_that_is_given_up_leaves_the_state(teacher):
    X, y = teacher.train_patterns, teacher.train_labels
    coordinates, gram = WhiteCoordinates(PatternGeometry(X)), PatternGeometry(X).gram
    start = typical_solutions(teacher, 3, chains=4, steps=16, workers=1).weights[0] @ X.T
    u, rng = start.copy(), np.random.default_rng(0)
    assert billiard_steps(u, y, gram, coordinates.factor, 1, 0, rng) == 3
    assert np.array_equal(u, start)
    assert billiard_steps(u, y, gram, coordinates.factor, 1, 10**6, rng) > 3
    assert not np.any(u == start)


def test_short_chains_are_said_not_to_have_converged(teacher):
    assert not typical_solutions(teacher, 3, chains=4, steps=16, workers=1).converged


def test_same_seed_same_sample(teacher):
    one, two = (
        typical_solutions(teacher, 3, chains=4, steps=60, seed=3, workers=n) for n in (1, 2)
    )
    assert np.array_equal(one.weights, two.weights)
    assert one.test_error == two.test_error
    other = typical_solutions(teacher, 3, chains=4, steps=60, seed=4, workers=1)
    assert not np.array_equal(one.weights, other.weights)


def test_given_starts_are_used(teacher):
    found = typical_solutions(teacher, 3, chains=4, steps=16, workers=1).weights
    again = typical_solutions(teacher, 3, chains=4, steps=16, starts=found, workers=1)
    assert np.all(predict(again.weights, teacher.train_patterns) == teacher.train_labels)
    with pytest.raises(ValueError, match="starts have training error"):
        typical_solutions(teacher, 3, starts=-found)
    with pytest.raises(ValueError, match="starts has shape"):
        typical_solutions(teacher, 5, starts=found)


def test_more_patterns_than_inputs():
    """The patterns span all inputs, so test preactivations follow from the state."""
    X, y = problem(40, 11, seed=2)
    patterns = pattern_set(X[:20], y[:20], X[20:], y[20:])
    sample = typical_solutions(patterns, 1, chains=4, steps=500, workers=1)
    assert sample.converged
    agree = np.mean(predict(sample.weights, patterns.test_patterns) > 0, axis=0)
    assert np.corrcoef(agree, sample.test_probability)[0, 1] > 0.5


def test_patterns_that_cannot_be_learnt(teacher):
    X, y = teacher.train_patterns, teacher.train_labels
    with pytest.raises(ValueError, match="no test patterns"):
        typical_solutions(PatternSet.from_arrays(X, y), 3)
    contradiction = replace(
        teacher, train_patterns=np.vstack([X, X[:1]]), train_labels=np.append(y, -y[0])
    )
    with pytest.raises(ValueError, match="1 contradictory pairs"):
        typical_solutions(contradiction, 3)
    # XOR in two inputs: no pair contradicts, and no perceptron learns it.
    X = np.array([[1.0, 1, 1], [1, -1, -1], [1, 1, -1], [1, -1, 1]])
    y = np.array([1.0, 1, -1, -1])
    with pytest.raises(ValueError, match="no machine of 1 hidden units"):
        typical_solutions(pattern_set(X, y, X, y), 1, chains=4, steps=16, workers=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_units": 2}, "hidden_units is 2"),
        ({"chains": 5}, "chains is 5"),
        ({"steps": 10}, "steps is 10"),
    ],
)
def test_impossible_settings(teacher, settings, message):
    with pytest.raises(ValueError, match=message):
        typical_solutions(teacher, **settings)
