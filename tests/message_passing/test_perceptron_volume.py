"""Perceptrons on independent patterns against the volumes of replica theory.

One instance scatters around the theory by a relative 1/√N. The tests therefore compare a mean over
instances with its standard error. They also compare the engines on the same instances.
"""

import numpy as np
import pytest
from scipy.optimize import linprog

from message_passing import local_entropy_curve
from tests.reference.perceptron_volume import volume_around_the_teacher, volume_with_random_labels

VARIANCES = np.array([0.1, 1.0, 10.0])


def random_labels(N, alpha, seed, real=False):
    """Random patterns and labels, and the weights in a box with the largest margin."""
    rng = np.random.default_rng(seed)
    P = round(alpha * N)
    patterns = rng.standard_normal((P, N)) if real else rng.choice([-1.0, 1.0], (P, N))
    labels = rng.choice([-1.0, 1.0], P)
    margins = np.column_stack([patterns * labels[:, None], -np.ones(P)])
    found = linprog(
        -np.eye(N + 1)[-1], A_ub=-margins, b_ub=np.zeros(P), bounds=[(-1, 1)] * N + [(0, None)]
    )
    assert found.x[-1] > 0
    return found.x[None, :-1], patterns, labels


def teacher_labels(N, alpha, seed):
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((1, N))
    patterns = rng.choice([-1.0, 1.0], (round(alpha * N), N))
    return weights, patterns, np.sign(weights @ patterns.T)[0]


def free_entropies(instances, engine, variances):
    """φ and r, both (instances, variances). All curves must have converged."""
    curves = [
        local_entropy_curve(*machine, engine=engine, variances=variances) for machine in instances
    ]
    assert all(curve.converged.all() for curve in curves)
    return np.array([c.free_entropy for c in curves]), np.array([c.displacement for c in curves])


def assert_mean_is(values, expected, precision):
    """The mean is within four standard errors; an error is below ``precision`` × |expected|."""
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    assert np.all(error < precision * np.abs(expected))
    np.testing.assert_array_less(np.abs(values.mean(axis=0) - expected), 4 * error)


def test_the_theory_obeys_its_own_identities():
    """α → 0 is annealed, ∂φ/∂Δ = (r−1)/(2Δ), and the teacher's volume exceeds the random one."""
    assert volume_with_random_labels(1e-3) == pytest.approx(-1e-3 * np.log(2), rel=1e-3)
    variance, step = 0.7, 1e-4
    low, high = (
        volume_around_the_teacher(1.0, variance * scale)[0] for scale in (1 - step, 1 + step)
    )
    r = volume_around_the_teacher(1.0, variance)[1]
    assert (high - low) / (2 * step) == pytest.approx((r - 1) / 2, rel=1e-6)
    for alpha in (0.2, 1.0):
        teacher = volume_around_the_teacher(alpha, 1e6)[0]
        assert volume_with_random_labels(alpha) < teacher < 0


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0])
@pytest.mark.parametrize(
    ("N", "precision"), [(150, 0.04), pytest.param(400, 0.03, marks=pytest.mark.slow)]
)
def test_gardner_volume(alpha, N, precision):
    """At Δ = 10⁶ and random labels the reference no longer matters."""
    instances = [random_labels(N, alpha, seed, real=seed % 2 == 1) for seed in range(8)]
    expected = volume_with_random_labels(alpha)
    found = {}
    for engine in ("ep", "bp"):
        phi, r = free_entropies(instances, engine, np.geomspace(0.1, 1e6, 8))
        found[engine] = phi[:, -1]
        assert_mean_is(found[engine], expected, precision)
        np.testing.assert_allclose(r[:, -1], 1.0, atol=0.01)  # signs ignore the norm
        print(f"α={alpha} N={N} {engine}: {found[engine].mean():.4f} against {expected:.4f}")
    np.testing.assert_allclose(found["bp"], found["ep"], rtol=3 / N)


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0])
@pytest.mark.parametrize(
    ("N", "precision"), [(200, 0.12), pytest.param(800, 0.06, marks=pytest.mark.slow)]
)
def test_volume_around_the_teacher(alpha, N, precision):
    instances = [teacher_labels(N, alpha, seed) for seed in range(8)]
    phi_theory, r_theory = np.transpose([volume_around_the_teacher(alpha, v) for v in VARIANCES])
    for engine in ("ep", "bp"):
        phi, r = free_entropies(instances, engine, VARIANCES)
        print(f"α={alpha} N={N} {engine}: {phi.mean(axis=0)} against {phi_theory}")
        assert_mean_is(phi, phi_theory, precision)
        assert_mean_is(r, r_theory, 0.02)


@pytest.mark.slow
@pytest.mark.compiled
def test_volume_around_the_teacher_by_monte_carlo():
    """At N = 50 each instance agrees with expectation propagation, and the mean with theory."""
    instances = [teacher_labels(50, 0.5, seed) for seed in range(6)]
    curves = [local_entropy_curve(*m, engine="mc", variances=VARIANCES) for m in instances]
    assert all(curve.converged.all() for curve in curves)
    phi = np.array([curve.free_entropy for curve in curves])
    expected = [volume_around_the_teacher(0.5, variance)[0] for variance in VARIANCES]
    assert_mean_is(phi, np.array(expected), 0.15)
    ep, _ = free_entropies(instances, "ep", VARIANCES)
    error = np.array([curve.standard_error for curve in curves])
    assert np.all(np.abs(phi - ep) < 4 * error + 0.02 * np.abs(ep))
