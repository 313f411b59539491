"""Replica theory of the perceptron: known numbers, limits, thermodynamics, a literal potential."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import norm

from committee.perceptron import (
    bayes_error,
    franz_parisi,
    gardner_volume,
    gibbs_error,
    hebb_error,
    make_reference,
    maximum_margin,
    maximum_margin_error,
    teacher_overlaps,
    typical_overlap,
)
from committee.perceptron.franz_parisi import _Saddle
from tests.reference.franz_parisi_potential import potential
from tests.reference.perceptron_volume import volume_around_the_teacher, volume_with_random_labels


def test_capacity_and_margins_of_random_labels():
    """Gardner, J. Phys. A 21, 257 (1988): α = 2 at κ = 0, 1/α = (1+κ²) Φ(κ) + κ N(κ)."""
    assert maximum_margin(2.0) == pytest.approx(0, abs=1e-10)
    for alpha, known in ((0.5, 1.0343), (1.0, 0.4707), (1.5, 0.1861)):
        kappa = maximum_margin(alpha)
        assert (1 + kappa**2) * ndtr(kappa) + kappa * norm.pdf(kappa) == pytest.approx(1 / alpha)
        assert kappa == pytest.approx(known, abs=1e-4)


@pytest.mark.parametrize(
    ("alpha", "gibbs", "bayes"), [(1, 0.3384, 0.2544), (2, 0.2403, 0.1745), (5, 0.1180, 0.0839)]
)
def test_generalisation_errors(alpha, gibbs, bayes):
    """Györgyi and Tishby (1990): q = (α/π) √(1−q) ∫Dx e^(−qx²/2)/H(√q x), ε = arccos(q)/π."""
    x, weight = np.polynomial.hermite_e.hermegauss(120)
    weight = weight / weight.sum()

    def excess(q):
        integral = weight @ (np.exp(-q * x * x / 2) / ndtr(-np.sqrt(q) * x))
        return alpha / np.pi * np.sqrt(1 - q) * integral - q

    q = brentq(excess, 1e-3, 0.999)
    assert gibbs_error(alpha) == pytest.approx(np.arccos(q) / np.pi, abs=1e-6)
    assert bayes_error(alpha) == pytest.approx(np.arccos(np.sqrt(q)) / np.pi, abs=1e-6)
    assert gibbs_error(alpha) == pytest.approx(gibbs, abs=1e-4)
    assert bayes_error(alpha) == pytest.approx(bayes, abs=1e-4)


def test_learning_curves_at_many_patterns():
    """Gibbs 0.62/α and Bayes 0.44/α (Opper and Haussler 1991), largest margin 0.50/α (Opper et al.
    1990), Hebb 0.40/√α."""
    for error, known in (
        (gibbs_error, 0.625),
        (bayes_error, 0.442),
        (maximum_margin_error, 0.5005),
    ):
        assert 200 * error(200) == pytest.approx(known, abs=2e-3)
    assert np.sqrt(2000) * hebb_error(2000) == pytest.approx(1 / np.sqrt(2 * np.pi), rel=1e-3)
    assert bayes_error(1) < maximum_margin_error(1) < gibbs_error(1)


def test_gardner_volume():
    for alpha in (0.2, 1.0, 1.5):
        assert gardner_volume(alpha) == pytest.approx(volume_with_random_labels(alpha), abs=1e-7)
    assert gardner_volume(1e-3) == pytest.approx(-1e-3 * np.log(2), rel=1e-3)
    kappa, step = 0.2, 1e-4
    q = typical_overlap(1.0, kappa)
    assert q > typical_overlap(1.0)
    # The volume is stationary in q, so only the explicit derivative −α⟨force⟩/√(1−q) remains.
    low, high = (gardner_volume(1.0, kappa + s) for s in (-step, step))
    nodes = make_reference("typical", 1.0, kappa).nodes(0.1)
    pull = (nodes.weight @ (nodes.v - np.sqrt(q) * nodes.z)) / (1 - q)
    assert (high - low) / (2 * step) == pytest.approx(-pull, rel=1e-5)


CASES = [
    ("typical", 0.0, False),
    ("typical", 0.2, False),
    ("typical", 0.2, True),
    ("max-margin", 0.0, False),
    ("max-margin", 0.0, True),
    ("hebb", 0.0, False),
    ("hebb", 0.0, True),
    ("logistic", 0.0, False),
    ("hinge", 0.0, True),
]


@pytest.mark.parametrize(("name", "kappa", "teacher"), CASES)
def test_derivative_of_the_free_entropy_is_the_displacement(name, kappa, teacher):
    reference = make_reference(name, 1.0, kappa, 0.3, teacher)
    assert np.sum(reference.with_labels(0.3).weight) == pytest.approx(1, abs=1e-9)
    variance, step = 0.3, 1e-3
    curve = franz_parisi(1.0, variance * np.array([1 - step, 1, 1 + step]), reference)
    assert curve.converged.all()
    slope = (curve.free_entropy[2] - curve.free_entropy[0]) / (2 * step)
    assert slope == pytest.approx((curve.displacement[1] - 1) / 2, rel=1e-5)


@pytest.mark.parametrize("kappa", [0.0, 0.3])
def test_stationary_in_every_overlap(kappa):
    alpha, variance = 0.9, 0.4
    reference = make_reference("typical", alpha, kappa)
    system = _Saddle(reference, variance)
    x, residual = system.solve([])
    assert residual < 1e-9
    V, e, a, B, _ = system.unpack(x)
    q = reference.q
    A = a / np.sqrt(q)
    overlaps = np.array([V, e * e + q * A * A + 2 * q * A * B + B * B, B + q * A, q * (A + B)])
    phi = potential(alpha, variance, q, kappa, overlaps)
    assert phi == pytest.approx(system.observe(x)[0], abs=1e-7)
    for i in range(4):
        shift = 1e-3 * np.eye(4)[i]
        low, high = (potential(alpha, variance, q, kappa, overlaps + s * shift) for s in (-1, 1))
        curvature = abs(high + low - 2 * phi)
        assert abs(high - low) / 2 < 0.02 * curvature + 1e-8


def test_around_the_teacher():
    """A typical solution without a margin has the same relation to the patterns as the teacher."""
    for alpha, variance in ((0.5, 0.05), (0.5, 0.6), (1.5, 30.0)):
        phi, r = volume_around_the_teacher(alpha, variance)
        curve = franz_parisi(alpha, [variance], teacher=True)
        assert curve.free_entropy[0] == pytest.approx(phi, abs=1e-6)
        assert curve.displacement[0] == pytest.approx(r, abs=1e-6)
    assert teacher_overlaps(1.5)[0] == teacher_overlaps(1.5)[1]


@pytest.mark.parametrize("name", ["typical", "max-margin", "hebb", "logistic"])
def test_far_away_the_reference_is_forgotten(name):
    """φ tends to the Gardner volume as 1/√Δ, the solutions' overlap with a teacher to R."""
    phi = franz_parisi(0.7, [1e4, 4e4], name).free_entropy
    assert 2 * phi[1] - phi[0] == pytest.approx(gardner_volume(0.7), abs=1e-4)
    if name != "typical":
        found = franz_parisi(0.7, [1e4], name, teacher=True).overlap[0]
        assert found == pytest.approx(teacher_overlaps(0.7)[1], abs=0.01)


def test_nearby_and_with_few_patterns():
    curve = franz_parisi(1.0, [1e-6, 1e-4])
    assert np.all(np.abs(curve.local_entropy) < [1e-3, 1e-2])
    assert np.all(curve.local_entropy < 0)
    # α → 0: patterns are independent, and the reference's stabilities are half normal.
    variance = 0.3
    v = np.linspace(0, 9, 4001)
    wrong = np.trapezoid(2 * norm.pdf(v) * np.log(ndtr(v / np.sqrt(variance))), v)
    few = franz_parisi(1e-4, [variance])
    assert few.free_entropy[0] == pytest.approx(1e-4 * wrong, rel=1e-3)


@pytest.mark.parametrize("teacher", [False, True])
def test_largest_margin_is_the_limit_of_margins_and_of_the_hinge_loss(teacher):
    variances = [0.05, 0.3, 2.0]
    best = franz_parisi(1.0, variances, "max-margin", teacher=teacher)
    kappa = 0.999 * maximum_margin(1.0, teacher)
    close = franz_parisi(1.0, variances, "typical", kappa, teacher=teacher)
    np.testing.assert_allclose(close.local_entropy, best.local_entropy, rtol=0.02, atol=2e-6)
    hinge = franz_parisi(1.0, variances, "hinge", ridge=1e-3, teacher=teacher)
    np.testing.assert_allclose(hinge.local_entropy, best.local_entropy, rtol=1e-5, atol=1e-9)
    typical = franz_parisi(1.0, variances, teacher=teacher)
    assert np.all(typical.local_entropy < best.local_entropy)


def test_a_loss_with_a_large_ridge_is_hebbs_rule():
    variances = [0.3, 1.0]
    hebb = franz_parisi(0.8, variances, "hebb", teacher=True)
    loss = franz_parisi(0.8, variances, "logistic", ridge=1e4, teacher=True)
    np.testing.assert_allclose(loss.local_entropy, hebb.local_entropy, rtol=1e-3)
    R, other = hebb.reference.R, loss.reference.R
    assert other == pytest.approx(R, rel=1e-3)
    assert np.arccos(R) / np.pi == pytest.approx(hebb_error(0.8))


def test_curve_at_other_distances():
    reference = make_reference("max-margin", 1.0)
    curve = franz_parisi(1.0, np.geomspace(0.02, 2, 12), reference)
    between = franz_parisi(1.0, [0.5], reference)
    np.testing.assert_allclose(curve.at(between.distance), between.local_entropy, rtol=1e-4)
    with pytest.raises(ValueError, match="distance is"):
        curve.at(2.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: maximum_margin(2.5), "alpha is 2.5"),
        (lambda: typical_overlap(1.0, 0.6), "kappa is 0.6"),
        (lambda: franz_parisi(1.0, [0.2, 0.1]), "increasing"),
        (lambda: franz_parisi(1.0, [0.1], "sgd"), "reference is 'sgd'"),
        (lambda: franz_parisi(1.0, [0.1], "hebb", kappa=0.1), "only typical"),
        (lambda: franz_parisi(1.0, [0.1], "hinge", ridge=0.0), "ridge is 0"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
