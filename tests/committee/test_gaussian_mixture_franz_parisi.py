"""Franz–Parisi theory: thermodynamics, samples of small instances, engines on large ones."""

from __future__ import annotations

import numpy as np
import pytest

from committee.gaussian_mixture import fit, franz_parisi, replica_symmetric, sample
from message_passing.local_entropy import local_entropy_curve
from tests.reference.black_box_slice import slice_chain


@pytest.mark.parametrize(
    ("loss", "alpha", "ridge"),
    [("hinge", 0.5, 0.01), ("logistic", 1.0, 0.01), ("hinge", 1.0, 1e-3), ("square", 1.0, 1e3)],
)
def test_derivative_of_the_free_entropy_is_the_displacement(loss, alpha, ridge):
    reference = replica_symmetric(loss, alpha, 1, ridge)
    for tau in (0.05, 0.4, 2.0):
        curve = franz_parisi(reference, tau * np.array([0.999, 1.0, 1.001]))
        assert curve.converged.all()
        slope = (curve.free_entropy[2] - curve.free_entropy[0]) / (0.002 * tau)
        expected = (curve.displacement[1] - 1) / (2 * tau)
        assert slope == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_local_entropy_around_a_reference_without_errors():
    curve = franz_parisi(replica_symmetric("hinge", 1, 1, 1e-3), np.geomspace(1e-3, 3, 60))
    assert curve.local_entropy[0] == pytest.approx(0, abs=1e-9)
    assert np.all(np.diff(curve.local_entropy) <= 1e-15) and np.all(np.diff(curve.distance) > 0)
    slope = (1 - 1 / curve.displacement) / curve.variance
    integral = np.trapezoid(slope, curve.distance)
    assert curve.local_entropy[-1] == pytest.approx(integral, rel=0.005)


def test_hebb_does_not_have_the_highest_local_entropy_at_every_distance():
    # Here Hebb errs on 8 % of the patterns, the minimiser of the hinge loss on none.
    variances = np.geomspace(1e-3, 1, 25)
    flat = franz_parisi(replica_symmetric("square", 1, 1, 1e3), variances)
    sharp = franz_parisi(replica_symmetric("hinge", 1, 1, 1e-3), variances)
    assert flat.reference.error < sharp.reference.error
    assert flat.reference.training_error > 0.07 and sharp.reference.training_error < 1e-12
    distances = np.linspace(0.03, 0.3, 10)
    of_flat = np.interp(distances, flat.distance, flat.local_entropy)
    of_sharp = np.interp(distances, sharp.distance, sharp.local_entropy)
    assert np.all(of_flat < of_sharp - 0.05)


def test_displacement_of_sampled_solutions():
    tau, N = 0.5, 200
    reference = replica_symmetric("logistic", 0.5, 1, 0.01)
    theory = franz_parisi(reference, [tau]).displacement[0]
    means = []
    for seed in range(12):
        x, y, _ = sample(N, 0.5, 1, seed=np.random.SeedSequence((11, seed)))
        w = fit(x, y, "logistic", 0.01).weights
        w *= np.sqrt(N) / np.linalg.norm(w)
        chain = slice_chain(
            lambda offset, w=w, x=x, y=y: np.all(y * (x @ (w + offset)) >= 0),
            np.zeros(N), np.zeros(N, dtype=int), tau, 3000, np.random.default_rng(seed),
        )  # fmt: skip
        means.append(np.mean(chain[500:] ** 2))
    assert abs(np.mean(means) - theory) < 3 * np.std(means, ddof=1) / np.sqrt(12)
    assert theory < 0.96  # far from the prior


@pytest.mark.parametrize(
    ("loss", "alpha", "ridge"), [("logistic", 0.5, 0.01), ("hinge", 0.7, 0.01)]
)
def test_expectation_propagation_agrees_with_theory(loss, alpha, ridge):
    variances = np.array([0.1, 0.2, 0.4, 0.8])
    theory = franz_parisi(replica_symmetric(loss, alpha, 1, ridge), variances)
    phi, r = [], []
    for seed in range(6):
        x, y, _ = sample(1000, alpha, 1, seed=np.random.SeedSequence((5, seed)))
        w = fit(x, y, loss, ridge).weights
        curve = local_entropy_curve(w[None], x, y, engine="ep", variances=variances)
        assert curve.converged.all()
        phi.append(curve.free_entropy)
        r.append(curve.displacement)
    for seen, expected in ((phi, theory.free_entropy), (r, theory.displacement)):
        error = np.std(seen, axis=0, ddof=1) / np.sqrt(6)
        assert np.all(np.abs(np.mean(seen, axis=0) - expected) < 3.5 * error)


@pytest.mark.slow
def test_monte_carlo_agrees_with_theory():
    variances = np.array([0.1, 0.2, 0.4])
    theory = franz_parisi(replica_symmetric("logistic", 0.5, 1, 0.01), variances)
    phi = []
    for seed in range(8):
        x, y, _ = sample(1000, 0.5, 1, seed=np.random.SeedSequence((5, seed)))
        w = fit(x, y, "logistic", 0.01).weights
        curve = local_entropy_curve(w[None], x, y, engine="mc", variances=variances)
        other = local_entropy_curve(w[None], x, y, engine="ep", variances=variances)
        assert np.all(np.abs(curve.free_entropy - other.free_entropy) < 5 * curve.standard_error)
        phi.append(curve.free_entropy)
    error = np.std(phi, axis=0, ddof=1) / np.sqrt(8)
    assert np.all(np.abs(np.mean(phi, axis=0) - theory.free_entropy) < 3 * error)


def test_bad_input():
    reference = replica_symmetric("hinge", 0.5, 1, 0.01)
    with pytest.raises(ValueError, match="increasing"):
        franz_parisi(reference, [0.2, 0.1])
    with pytest.raises(ValueError, match="without bias"):
        franz_parisi(replica_symmetric("hinge", 2, 1, 0.1, 0.3, "train"), [0.1])


def test_table_line_and_plot_of_a_curve():
    curve = franz_parisi(replica_symmetric("hinge", 1, 1, 0.01), [0.01, 0.1, 0.3])
    table = curve.to_frame()
    np.testing.assert_array_equal(table["local_entropy"], curve.local_entropy)
    assert len(table) == 3 and table["converged"].all() and "reference" not in table
    assert "3 points" in repr(curve) and "0 points not converged" in repr(curve)
    (line,) = curve.plot(label="theory").lines
    np.testing.assert_array_equal(line.get_ydata(), curve.local_entropy)
