"""Expectation propagation: exact cases, identities and limits."""

import numpy as np
import pytest

from message_passing import ExpectationPropagation, local_entropy_curve
from message_passing.expectation_propagation import gaussian_posterior
from message_passing.problem import ReferenceProblem
from tests.message_passing.machines import random_machine
from tests.message_passing.test_monte_carlo import exact_free_entropy, orthogonal_machine


@pytest.mark.parametrize("K", [1, 3, 9])
def test_exact_for_orthogonal_patterns(K):
    machine = orthogonal_machine(K, 32, seed=1)
    variances = np.array([0.01, 0.1, 1.0, 10.0])
    engine = ExpectationPropagation(tolerance=1e-9)
    curve = local_entropy_curve(*machine, engine=engine, variances=variances)
    np.testing.assert_allclose(
        curve.free_entropy, exact_free_entropy(*machine, variances), rtol=1e-7
    )


def test_closer_than_bp_to_sampling_on_correlated_inputs():
    machine = random_machine(3, 101, 60, seed=3, correlation=0.6)
    variances = [0.1, 0.5]
    ep, bp, mc = (
        local_entropy_curve(*machine, engine=engine, variances=variances)
        for engine in ("ep", "bp", "mc")
    )
    np.testing.assert_allclose(ep.free_entropy, mc.free_entropy, rtol=0.1)
    assert ep.displacement[1] == pytest.approx(
        mc.displacement[1], abs=0.01 + 8 * mc.distance_error[1] / 0.5
    )
    gap = np.abs([ep.free_entropy - mc.free_entropy, bp.free_entropy - mc.free_entropy])
    assert np.all(gap[0] < gap[1] - 2 * mc.standard_error)


def test_equals_bp_on_independent_inputs_as_n_grows():
    gaps = []
    for N in (50, 200, 800):
        machine = random_machine(3, N, N // 2, seed=N)
        ep, bp = (
            local_entropy_curve(*machine, engine=engine, variances=[0.3]) for engine in ("ep", "bp")
        )
        gaps.append(abs(bp.free_entropy[0] / ep.free_entropy[0] - 1))
    assert gaps[2] < 0.01 and gaps[2] < gaps[0]


@pytest.mark.parametrize(("active", "inputs"), [(3, 60), (40, 60), (40, 20)])
def test_posterior_equals_the_direct_formula(active, inputs):
    """Each route (few sites, many, singular Gram matrix) is exact, also for negative precisions."""
    machine = random_machine(1, inputs, 40, seed=5, correlation=0.3)
    problem = ReferenceProblem.from_arrays(*machine)
    rng = np.random.default_rng(1)
    lam = np.zeros(40)
    lam[:active] = rng.uniform(-0.2, 2.0, active)
    nu = np.where(lam != 0, rng.standard_normal(40), 0.0)
    diagonal, mean, log_det = gaussian_posterior(problem, 0.3, lam, nu)
    C = 0.3 * problem.geometry.gram
    inner = np.eye(40) + lam[:, None] * C
    sigma = C @ np.linalg.inv(inner)
    np.testing.assert_allclose(diagonal, np.diag(sigma), rtol=1e-8)
    np.testing.assert_allclose(mean, sigma @ nu, rtol=1e-7, atol=1e-10)
    assert log_det == pytest.approx(np.linalg.slogdet(inner)[1])
    lam[:active] = -100.0
    assert gaussian_posterior(problem, 0.3, lam, nu) is None
