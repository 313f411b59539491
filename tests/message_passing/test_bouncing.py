"""Hamiltonian chains of one hidden unit: trajectories, slices, and the climb in Δ."""

import numpy as np
import pytest

from message_passing import MonteCarlo, local_entropy_curve
from message_passing import _kernels_bouncing as bouncing
from message_passing import _kernels_monte_carlo as slices
from message_passing.problem import ReferenceProblem
from tests.message_passing.machines import random_machine
from tests.reference.plain_sampling import sample_solutions


def test_first_hits_are_the_first_zeros():
    rng = np.random.default_rng(0)
    position, velocity, centre = rng.standard_normal((3, 400))
    side = np.sign(centre + position)
    hits = np.empty(400)
    bouncing.first_hits(position, velocity, centre, side, hits)
    t = np.linspace(1e-6, np.pi - 1e-3, 20001)
    u = centre[:, None] + position[:, None] * np.cos(t) + velocity[:, None] * np.sin(t)
    crossed = np.sign(u) != side[:, None]
    expected = np.where(crossed.any(axis=1), t[np.argmax(crossed, axis=1)], np.inf)
    found = np.where(2 * np.arctan(hits) < np.pi - 1e-3, 2 * np.arctan(hits), np.inf)
    close = np.isclose(found, expected, atol=4e-4)
    assert np.sum(~close) <= 2  # zeros closer together than the grid


@pytest.mark.parametrize("allowed", [0, 2])
def test_trajectories_keep_the_energy_and_go_back(allowed):
    """A trajectory keeps |z|² + |p|² in white coordinates; reversed, it returns to its start."""
    rng = np.random.default_rng(4)
    P, N = 12, 20
    factor = rng.standard_normal((P, N)) / np.sqrt(N)
    gram = factor @ factor.T
    centre = np.abs(rng.standard_normal(P)) * 0.3
    z, p = np.zeros(N), rng.standard_normal(N)
    position, velocity = factor @ z, factor @ p
    side, hits, kicks = np.ones(P), np.empty(P), np.zeros((2, P))
    wrong, arrived = bouncing.trajectory(
        centre, gram, allowed, 1.4, position, velocity, side, 0, hits, kicks
    )
    assert arrived and np.any(kicks != 0)
    assert wrong == np.sum(centre + position < 0) <= allowed
    z0, p0 = z + kicks[0] @ factor, p + kicks[1] @ factor
    end, momentum = np.cos(1.4) * z0 + np.sin(1.4) * p0, np.cos(1.4) * p0 - np.sin(1.4) * z0
    np.testing.assert_allclose(factor @ end, position, atol=1e-10)
    np.testing.assert_allclose(factor @ momentum, velocity, atol=1e-10)
    assert end @ end + momentum @ momentum == pytest.approx(z @ z + p @ p)
    velocity *= -1
    wrong, _ = bouncing.trajectory(
        centre, gram, allowed, 1.4, position, velocity, side, wrong, hits, np.zeros((2, P))
    )
    assert wrong == 0
    np.testing.assert_allclose(position, factor @ z, atol=1e-9)


@pytest.mark.compiled
@pytest.mark.parametrize("errors", [0, 2])
def test_agrees_with_slices_and_with_plain_sampling(errors):
    weights, patterns, labels = random_machine(1, 15, 12, seed=9, real=True)
    labels = labels.copy()
    labels[:errors] *= -1
    problem = ReferenceProblem.from_arrays(weights, patterns, labels)
    assert problem.training_errors == errors
    factor = np.ascontiguousarray(problem.geometry.factor.T)
    white, squares = np.zeros((1, len(factor))), np.empty(20000)
    rng = np.random.default_rng(0)
    bouncing.bouncing_steps(
        problem.preactivations,
        labels,
        factor,
        problem.geometry.gram,
        0.7,
        errors,
        white,
        rng,
        squares,
    )
    other, sums = np.zeros((1, len(factor))), np.zeros((2, 2))
    slices.slice_steps(
        problem.preactivations, labels, factor, 0.7, errors, 200000, other, np.ones(1), rng,
        np.zeros((2, 1)), sums, np.zeros_like(other),
    )  # fmt: skip
    blocks = squares.reshape(40, -1).mean(axis=1)
    error = blocks.std(ddof=1) / np.sqrt(40)
    assert sums[:, 0].sum() / 200000 == pytest.approx(blocks.mean(), abs=6 * error)
    assert squares[-1] == pytest.approx(np.sum(white**2))

    curve = local_entropy_curve(
        weights, patterns, labels, engine=MonteCarlo(draws=800), variances=[0.1, 0.7, 6.0]
    )
    log_z, sampled, r, r_error = sample_solutions(
        weights, patterns, labels, 6.0, 60000, seed=5, errors=errors
    )
    assert errors or curve.iterations[-1] != 800  # chains were needed
    gap = np.hypot(sampled, curve.standard_error[-1] * 15)
    assert curve.free_entropy[-1] * 15 == pytest.approx(log_z, abs=4 * gap)
    r_gap = np.hypot(r_error, 2 * curve.distance_error[-1] / 6.0)
    assert curve.displacement[-1] == pytest.approx(r, abs=4 * r_gap)
