"""At most E errors: the node, its limits, and both deterministic engines against sampling."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq

from message_passing import ExpectationPropagation, local_entropy_curve
from message_passing.output_node import AtMostErrors, Majority, allow_errors
from tests.message_passing.machines import random_machine
from tests.message_passing.test_monte_carlo import orthogonal_machine
from tests.message_passing.test_output_node import fields
from tests.reference.output_node import log_at_most
from tests.reference.plain_sampling import sample_solutions


@pytest.mark.parametrize("errors", [0, 1, 2, 4])
@pytest.mark.parametrize("spread", [1.0, 10.0])
def test_derivatives_are_those_of_the_evidence(errors, spread):
    K, P = 3, 6
    mean, variance, labels = fields(K, P, spread, seed=3)
    node = AtMostErrors(errors, Majority())
    found = node.moments(mean, variance, labels)
    assert found.log_evidence.shape == (1,)
    step = 1e-5 * spread
    for k in range(K):
        for mu in range(P):
            shift = np.zeros((K, P))
            shift[k, mu] = step
            above = node.moments(mean + shift, variance, labels)
            under = node.moments(mean - shift, variance, labels)
            slope = (above.log_evidence[0] - under.log_evidence[0]) / (2 * step)
            assert found.gradient[k, mu] == pytest.approx(slope, rel=1e-5, abs=1e-8)
            slope = (above.gradient[k, mu] - under.gradient[k, mu]) / (2 * step)
            assert found.curvature[k, mu] == pytest.approx(slope, rel=1e-4, abs=1e-8)


def test_no_errors_is_the_node_itself():
    mean, variance, labels = fields(3, 8, 2.0, seed=1)
    found = AtMostErrors(0, Majority()).moments(mean, variance, labels)
    alone = Majority().moments(mean, variance, labels)
    assert found.log_evidence.sum() == pytest.approx(alone.log_evidence.sum(), rel=1e-13)
    np.testing.assert_allclose(found.gradient, alone.gradient, rtol=1e-12)
    np.testing.assert_allclose(found.curvature, alone.curvature, rtol=1e-9, atol=1e-14)


def test_many_errors_are_the_legendre_transform_in_temperature():
    """For many patterns log P[n ≤ E] → log Z(β) + βE with ⟨n⟩ = E at β; derivatives agree too."""
    deviations = []
    for copies in (1, 100):
        mean, variance, labels = (
            np.repeat(array, copies, axis=-1) for array in fields(3, 20, 1.0, seed=2)
        )
        errors = 4 * copies

        def evidence(beta, mean=mean, variance=variance, labels=labels):
            return Majority(beta).moments(mean, variance, labels).log_evidence.sum()

        def excess(beta, errors=errors, evidence=evidence):
            return (evidence(beta - 1e-5) - evidence(beta + 1e-5)) / 2e-5 - errors

        beta = brentq(excess, 0.1, 10.0)
        transformed = evidence(beta) + beta * errors
        found = AtMostErrors(errors, Majority()).moments(mean, variance, labels)
        assert found.log_evidence[0] < transformed
        soft = Majority(beta).moments(mean, variance, labels)
        ratio = np.max(np.abs(found.gradient / soft.gradient - 1))
        deviations.append([transformed / found.log_evidence[0] - 1, ratio])
    assert np.all(np.abs(deviations[1]) < 0.02)
    assert np.all(np.abs(deviations[1]) < 0.1 * np.abs(deviations[0]))


@pytest.mark.parametrize("errors", [1, 2, 5])
def test_exact_for_orthogonal_patterns(errors):
    """Orthogonal patterns are wrong independently of each other, so EP is exact."""
    weights, patterns, labels = orthogonal_machine(3, 16, seed=1)
    labels = labels.copy()
    labels[:errors] *= -1
    engine = ExpectationPropagation(tolerance=1e-9)
    variances = np.array([0.01, 0.1, 1.0, 10.0])
    curve = local_entropy_curve(weights, patterns, labels, engine=engine, variances=variances)
    N = patterns.shape[1]
    w = weights * np.sqrt(N) / np.linalg.norm(weights, axis=1, keepdims=True)
    u, ones = w @ patterns.T / np.sqrt(N), np.ones((3, len(labels)))
    exact = [
        log_at_most(np.exp(Majority().moments(u, v * ones, labels).log_evidence), errors)
        for v in variances
    ]
    assert curve.converged.all()
    np.testing.assert_allclose(curve.free_entropy * 3 * N, exact, rtol=1e-7)


@pytest.mark.parametrize("engine", ["bp", "ep"])
@pytest.mark.parametrize(
    ("errors", "sure", "real"),
    [(0, False, False), (0, False, True), *((e, s, False) for e in (1, 4) for s in (False, True))],
)
def test_counts_machines_with_at_most_as_many_errors(engine, errors, sure, real):
    """The count agrees with sampling, even if the wrong patterns are certain and no β fits."""
    weights, patterns, labels = random_machine(3, 101, 40, seed=2, real=real)
    labels = labels.copy()
    margin = np.sort(np.abs(weights @ patterns.T), axis=0)[1]
    wrong = np.argsort(-margin)[:errors] if sure else np.arange(errors)
    labels[wrong] *= -1
    curve = local_entropy_curve(weights, patterns, labels, engine=engine, variances=[0.05, 0.1])
    log_z, error, r, r_error = sample_solutions(
        weights, patterns, labels, 0.1, 20000, seed=5, errors=errors
    )
    assert curve.converged.all()
    assert curve.free_entropy[1] * 303 == pytest.approx(log_z, abs=3 * error + 0.03 * abs(log_z))
    assert curve.displacement[1] == pytest.approx(r, abs=4 * r_error + 2e-3)


def test_a_finite_temperature_of_the_users_is_kept():
    soft = Majority(2.0)
    assert allow_errors(soft, 3) is soft
    assert allow_errors(Majority(), 0) == Majority()
    with pytest.raises(ValueError, match="one at infinite β"):
        AtMostErrors(1, soft)
    with pytest.raises(ValueError, match="errors is -1"):
        AtMostErrors(-1, Majority())


def test_more_errors_than_patterns_allow_everything():
    mean, variance, labels = fields(3, 4, 1.0, seed=1)
    found = AtMostErrors(4, Majority()).moments(mean, variance, labels)
    assert found.log_evidence[0] == pytest.approx(0.0, abs=1e-12)
    assert np.all(found.gradient == 0) and math.isfinite(found.curvature.sum())
