"""Joint sites and the pair correction against exact and sampled values."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from message_passing import ExpectationPropagation
from message_passing.problem import ReferenceProblem
from tests.message_passing.machines import random_machine
from tests.message_passing.test_monte_carlo import exact_free_entropy, orthogonal_machine
from tests.reference import joint_sites
from tests.reference.pair_correction import pair_correction


def similar_patterns(K, P, overlap):
    """P patterns with equal overlaps and similar preactivations; two thirds of units are right."""
    gram = np.full((P, P), overlap) + (1 - overlap) * np.eye(P)
    values, vectors = np.linalg.eigh(gram)
    geometry = SimpleNamespace(gram=gram, factor=vectors * np.sqrt(values), gram_inverse=None)
    rng = np.random.default_rng(3)
    base = np.where(np.arange(K) < (2 * K + 2) // 3, 1.0, -1.0) * rng.uniform(0.3, 1.5, K)
    fields = base[:, None] + 0.2 * rng.standard_normal((K, P))
    return SimpleNamespace(
        geometry=geometry, preactivations=fields, labels=np.ones(P), size=100 * K, training_errors=0
    )


def sampled(problem, variance, samples=200_000, seed=0):
    """log Z and its standard error from sampled preactivations."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((samples, *problem.preactivations.shape))
    u = problem.preactivations + math.sqrt(variance) * (z @ problem.geometry.factor.T)
    right = np.mean(np.all((u >= 0).sum(axis=1) > len(problem.preactivations) / 2, axis=1))
    return math.log(right), math.sqrt((1 - right) / (right * samples))


@pytest.mark.parametrize("K", [1, 3, 9])
def test_majority_of_correlated_fields(K):
    """log Z agrees with samples, its derivatives with differences; correlations have both signs."""
    rng = np.random.default_rng(1)
    A = rng.standard_normal((K, K))
    V, c, label = A @ A.T / K + 0.7 * np.eye(K), rng.standard_normal(K), -1.0
    points = joint_sites.normal_points(K, 2048)
    log_z, gradient, hessian = joint_sites.correlated_majority(c, V, label, points)
    u = c + rng.standard_normal((400_000, K)) @ np.linalg.cholesky(V).T
    right = np.mean((u < 0).sum(axis=1) > K / 2)
    assert math.exp(log_z) == pytest.approx(right, abs=4e-3)
    step = 1e-4
    for k in range(K):
        shift = step * np.eye(K)[k]
        above, under = (
            joint_sites.correlated_majority(c + s * shift, V, label, points) for s in (1, -1)
        )
        assert gradient[k] == pytest.approx((above[0] - under[0]) / (2 * step), rel=1e-5)
        np.testing.assert_allclose(hessian[k], (above[1] - under[1]) / (2 * step), atol=1e-6)


def test_exact_for_orthogonal_patterns():
    """The exact result factorises over patterns, and joint sites reproduce it."""
    weights, patterns, labels = orthogonal_machine(3, 16, seed=1)
    problem = ReferenceProblem.from_arrays(weights, patterns, labels)
    found = joint_sites.solve(problem, 1.0, tolerance=1e-7)
    exact = exact_free_entropy(weights, patterns, labels, np.array([1.0]))[0]
    assert found.log_z / problem.size == pytest.approx(exact, rel=1e-6)


def test_derivative_of_the_free_entropy_is_the_displacement():
    machine = random_machine(3, 31, 12, seed=4, correlation=0.4)
    problem = ReferenceProblem.from_arrays(*machine)
    variance, step = 0.4, 1e-2
    under, middle, above = (
        joint_sites.solve(problem, variance + step * i, tolerance=1e-6) for i in (-1, 0, 1)
    )
    assert middle.residual < 1e-6
    slope = (above.log_z - under.log_z) / (2 * step)
    expected = problem.size * (middle.displacement - 1) / (2 * variance)
    assert slope == pytest.approx(expected, rel=5e-3)


def test_two_similar_patterns_tell_the_errors_apart():
    """For two similar patterns both kinds of site underestimate log Z; the pair term is exact."""
    problem, variance = similar_patterns(9, 2, overlap=0.9), 0.6
    exact, error = sampled(problem, variance)
    sites, plain = ExpectationPropagation().solve(problem, variance, [])
    log_z = plain.free_entropy * problem.size
    joint = joint_sites.solve(problem, variance)
    paired = log_z + pair_correction(problem, variance, sites)
    assert log_z < joint.log_z < exact - 5 * error
    assert paired == pytest.approx(exact, abs=4 * error + 0.01 * abs(exact))


def test_groups_of_similar_patterns_lie_between():
    """For eight similar patterns joint sites correct too little and the sum over pairs too much."""
    problem, variance = similar_patterns(9, 8, overlap=0.8), 0.6
    exact, error = sampled(problem, variance, samples=100_000)
    sites, plain = ExpectationPropagation().solve(problem, variance, [])
    log_z = plain.free_entropy * problem.size
    joint = joint_sites.solve(problem, variance)
    paired = log_z + pair_correction(problem, variance, sites)
    assert log_z < joint.log_z < exact - 5 * error
    assert exact + 5 * error < paired


def test_correlations_within_a_pattern_are_those_of_samples():
    """Joint sites reproduce the correlations that the engine "ep" takes to be zero."""
    problem, variance = similar_patterns(3, 6, overlap=0.6), 0.6
    rng = np.random.default_rng(2)
    problem.preactivations = 0.3 + 0.1 * rng.standard_normal((3, 6))
    z = rng.standard_normal((200_000, 3, 6))
    u = problem.preactivations + math.sqrt(variance) * (z @ problem.geometry.factor.T)
    solutions = u[np.all((u >= 0).sum(axis=1) > 1, axis=1)]
    between = np.triu_indices(3, 1)
    for mu, covariance in enumerate(joint_sites.solve(problem, variance).covariance):
        spread = np.sqrt(np.diag(covariance))
        found = (covariance / np.outer(spread, spread))[between]
        sampled = np.corrcoef(solutions[:, :, mu].T)[between]
        assert np.all(sampled < -0.1)
        np.testing.assert_allclose(found, sampled, atol=0.03)
