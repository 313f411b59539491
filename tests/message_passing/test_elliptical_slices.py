"""The black-box sampler against known answers and its slow twin."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from message_passing.elliptical_slices import EllipticalSlices
from message_passing.ladder import LadderSettings, climb
from tests.reference.black_box_slice import slice_chain

D = 20
MARGINS = np.array([0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
SHORT = LadderSettings(draws=1600, chains=8, steps=40, burn_in=20)


def above_margins(offsets):
    """Independent constraints: x_i ≥ −margin_i."""
    return np.all(offsets[:, : len(MARGINS)] >= -MARGINS, axis=1)


def log_z_above_margins(variances):
    return norm.logcdf(MARGINS / np.sqrt(np.asarray(variances)[:, None])).sum(axis=1)


def test_chains_are_those_of_the_slow_reference():
    blocks = np.arange(D) % 3
    sampler = EllipticalSlices(above_margins, D, at_once=3, blocks=blocks)
    white = 0.01 * np.random.default_rng(0).standard_normal((4, D))
    start, survivors = white.copy(), np.full_like(white, 7.0)
    scales = np.array([1.5, 0.5])
    survivals, squares = sampler.run(
        0.4, 7, scales, [np.random.default_rng(i) for i in range(4)], white, survivors
    )
    for chain in range(4):
        states = slice_chain(
            lambda x: above_margins(x[None])[0],
            start[chain], blocks, 0.4, 7, np.random.default_rng(chain),
        )  # fmt: skip
        np.testing.assert_allclose(white[chain], states[-1], rtol=1e-12)
        square = np.sum(states**2, axis=1)
        for half, part in enumerate((slice(0, 4), slice(4, 7))):
            good = above_margins(1.5 * np.sqrt(0.4) * states[part])
            assert survivals[chain, half] == pytest.approx([good.mean(), 1.0])
            assert squares[chain, half] == pytest.approx(
                [square[part].mean(), np.mean(square[part] ** 2)]
            )
        good = np.flatnonzero(above_margins(1.5 * np.sqrt(0.4) * states))
        last = states[good[-1]] if len(good) else np.full(D, 7.0)
        np.testing.assert_allclose(survivors[chain], last, rtol=1e-12)


def test_how_many_are_answered_at_once_changes_nothing():
    one, many = (
        climb(EllipticalSlices(above_margins, D, n), SHORT, 3, np.array([1.0, 9.0]), "slices")
        for n in (1, 50)
    )
    np.testing.assert_array_equal(one.free_entropy, many.free_entropy)
    np.testing.assert_array_equal(one.displacement, many.displacement)


@pytest.mark.parametrize("P", [1, 2, 3])
def test_orthants(P):
    """For P correlated half-spaces Z is an orthant probability. r follows from its slope in Δ."""
    rng = np.random.default_rng(P)
    X = rng.standard_normal((P, D))
    X -= 0.9 * X.mean(axis=0) * (P > 1)  # nearly contradictory
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    margins = np.full(P, 0.1)
    variances = np.array([0.05, 5.0])

    def exact(variances):
        normal = multivariate_normal(np.zeros(P), X @ X.T, allow_singular=True)
        return np.log([normal.cdf(margins / np.sqrt(v)) for v in variances])

    found = climb(
        EllipticalSlices(lambda x: np.all(x @ X.T >= -margins, axis=1), D),
        SHORT, 1, variances, "slices",
    )  # fmt: skip
    assert found.converged.all()
    deviation = (D * found.free_entropy - exact(variances)) / (D * found.free_entropy_error)
    assert np.all(np.abs(deviation) < 4)
    slope = (exact(variances * 1.05) - exact(variances / 1.05)) / (2 * np.log(1.05))
    r = 1 + 2 * slope / D
    assert np.all(np.abs(found.displacement - r) < 4 * found.displacement_error + 2e-3)


def test_chains_climb_to_a_known_volume():
    variances = np.array([0.1, 1.0, 10.0])
    exact = log_z_above_margins(variances)
    assert exact[-1] < -5
    z = []
    for seed in range(4):
        found = climb(EllipticalSlices(above_margins, D, 64), SHORT, seed, variances, "slices")
        assert found.converged.all() and SHORT.draws not in found.iterations[1:]
        z.append((found.free_entropy - exact / D) / found.free_entropy_error)
    assert np.abs(z).max() < 4
    assert np.mean(np.square(z)) < 3


@pytest.mark.slow
def test_error_bars_over_a_hundred_seeds():
    variances = np.array([0.1, 1.0, 10.0])
    exact = log_z_above_margins(variances)
    z = []
    for seed in range(100):
        sampler = EllipticalSlices(above_margins, D, 64)
        found = climb(sampler, LadderSettings(draws=1600), seed, variances, "slices")
        z.append((found.free_entropy - exact / D) / found.free_entropy_error)
    squares, inside = np.mean(np.square(z), axis=0), np.mean(np.abs(z) < 1, axis=0)
    print(f"\nmean z² {squares}, within one standard error {inside}")
    assert np.all((squares > 0.7) & (squares < 1.5))
    assert np.all((inside > 0.55) & (inside < 0.81))


def test_an_interrupted_ladder_resumes(tmp_path):
    variances = np.array([0.1, 1.0, 10.0])
    calls = 0

    def interrupted(offsets):
        nonlocal calls
        calls += 1
        if calls == stop:
            raise KeyboardInterrupt
        return above_margins(offsets)

    def run():
        sampler = EllipticalSlices(interrupted, D, 64)
        return climb(sampler, SHORT, 0, variances, "slices", save=tmp_path / "ladder.npz")

    stop = 0
    whole = climb(EllipticalSlices(interrupted, D, 64), SHORT, 0, variances, "slices")
    needed, calls, stop = calls, 0, calls - 60
    with pytest.raises(KeyboardInterrupt):
        run()
    calls = stop = 0
    resumed = run()
    assert 60 < calls < needed
    for name in ("free_entropy", "displacement", "converged", "iterations", "residual"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(whole, name))
    calls = 0
    np.testing.assert_array_equal(run().free_entropy, whole.free_entropy)
    assert calls == 0


def test_a_reference_on_the_edge_has_no_solution_nearby():
    sampler = EllipticalSlices(lambda x: np.zeros(len(x), dtype=bool), D)
    with pytest.raises(ValueError, match="no solution nearby that 1600 draws find"):
        climb(sampler, SHORT, 0, np.array([1.0]), "slices")
