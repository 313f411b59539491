"""Entropy ascent: slopes of the free entropy, and the ascent itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from committee import ALGORITHMS, local_energy, train
from committee.algorithms import EntropyAscent, WeightNoise
from committee.machine import predict, unit_rows
from committee.solution_space.entropy_ascent import ascend
from committee.solution_space.entropy_slope import EPSlope, MonteCarloSlope
from committee.solution_space.weight_noise import run_weight_noise
from committee.training import train_restart
from message_passing.expectation_propagation import ExpectationPropagation
from message_passing.monte_carlo import MonteCarlo
from message_passing.problem import ReferenceProblem
from tests.committee.learnable import pattern_set, problem
from tests.message_passing.machines import random_machine

SEED = np.random.SeedSequence(3)
EXACT = EPSlope(ExpectationPropagation(tolerance=1e-9))
SHORT = EntropyAscent(variances=(0.1, 0.5, 2.0), max_epochs=5)


@pytest.fixture(scope="module")
def trained():
    """A steep solution, a flat one, and their patterns."""
    X, y = problem(60, 41)
    patterns = pattern_set(X, y)
    sgd = train_restart(patterns, replace(ALGORITHMS["sgd-fast"], lr=2e-3), 3, SEED)
    flat, _, solved = run_weight_noise(patterns, WeightNoise(max_epochs=800), 3, SEED)
    assert solved and sgd.train_error == 0
    return sgd.weights, flat, X, y


def at_the_edge(w, X, y):
    """The last solution on a line out of the solution w: half of its neighbours make errors."""
    direction = np.random.default_rng(0).standard_normal(w.shape)
    inside, outside = 0.0, 1.0
    while outside - inside > 1e-9:
        middle = (inside + outside) / 2
        solved = np.all(predict(unit_rows(w) + middle * direction, X) == y)
        inside, outside = (middle, outside) if solved else (inside, middle)
    return unit_rows(w) + inside * direction


def scaled(w):
    return np.sqrt(w.shape[1]) * unit_rows(w)


@pytest.mark.parametrize("K", [1, 3, 5])
def test_slope_of_ep_is_the_derivative_of_its_free_entropy(K):
    w, X, y = random_machine(K, 23, 30, seed=K)
    y[:2] *= -1  # the machine makes errors; only neighbours without errors count
    w = scaled(w)

    def free_entropy(weights):
        # Off the sphere the preactivations are not rescaled.
        problem = replace(reference, preactivations=weights @ X.T / np.sqrt(23))
        return EXACT.slope(problem, 0.5, []).free_entropy

    reference = ReferenceProblem.from_arrays(w, X, y)
    gradient = EXACT.slope(reference, 0.5, []).displacement / (K * 23 * 0.5)
    for k, i in ((0, 0), (K - 1, 7)):
        step = np.zeros_like(w)
        step[k, i] = 1e-4
        difference = (free_entropy(w + step) - free_entropy(w - step)) / 2e-4
        assert gradient[k, i] == pytest.approx(difference, rel=1e-5, abs=1e-9)


def test_slope_by_monte_carlo_against_plain_sampling():
    """The slope equals the mean displacement of the solutions among plain Gaussian draws."""
    w, X, y = random_machine(3, 9, 8, seed=4)
    w = scaled(w)
    draws = w + np.sqrt(0.4) * np.random.default_rng(0).standard_normal((400_000, 3, 9))
    accepted = draws[np.all(predict(draws, X) == y, axis=1)] - w
    mean, error = accepted.mean(axis=0), accepted.std(axis=0) / np.sqrt(len(accepted))
    problem = ReferenceProblem.from_arrays(w, X, y)
    engine = MonteCarloSlope(chains=8, steps=4000)
    first = engine.slope(problem, 0.4, [])
    # The second starts from the states of the first, at a nearby machine.
    moved = ReferenceProblem.from_arrays(w + 0.1 * first.displacement, X, y)
    again = engine.slope(problem, 0.4, [engine.slope(moved, 0.3, [first])])
    assert len(accepted) > 10_000
    in_span = np.linalg.pinv(X) @ X  # outside the span the plain draws are noise around 0
    for slope in (first, again):
        miss = (slope.displacement - mean @ in_span) / np.hypot(error, 0.004)
        assert np.sqrt(np.mean(miss**2)) < 1.3
    assert not np.array_equal(first.displacement, again.displacement)


def test_slopes_of_the_two_engines_agree(trained):
    w, _, X, y = trained
    problem = ReferenceProblem.from_arrays(w, X, y)
    ep = EXACT.slope(problem, 0.5, []).displacement
    one, two = (
        MonteCarloSlope(steps=2000, seed=s).slope(problem, 0.5, []).displacement for s in (0, 1)
    )
    noise = np.linalg.norm(one - two) / 2  # of the mean of both
    size = np.linalg.norm(one + two) / 2
    assert noise < 0.3 * size
    assert np.linalg.norm(ep - (one + two) / 2) < 1.3 * noise + 0.05 * size


@pytest.mark.parametrize("start", ["steep", "flat", "isolated"])
def test_free_entropy_grows(trained, start):
    sgd, flat, X, y = trained
    first = {"steep": sgd, "flat": flat, "isolated": at_the_edge(sgd, X, y)}[start]
    path = ascend(first, X, y, SHORT)
    assert path.converged and path.work > 0
    assert path.variance.tolist() == [0.1, 0.5, 2.0]
    for values in path.free_entropy:
        assert np.all(np.diff(values) > 0) and np.all(values <= 0)
    assert sum(map(len, path.free_entropy)) > 3
    assert np.all(path.training_errors == 0)
    assert np.all(predict(path.weights, X) == y)
    table = path.to_frame()
    assert (table["free_entropy"] >= table["first_free_entropy"]).all()
    assert table["steps"].sum() == path.steps
    assert np.allclose(path.plot().get_lines()[1].get_ydata(), table["free_entropy"])
    # Monte Carlo finds the same at the two ends.
    problems = [ReferenceProblem.from_arrays(w, X, y) for w in (first, path.weights[-1])]
    before, after = (MonteCarlo().ladder(p, np.array([2.0])) for p in problems)
    error = np.hypot(before.free_entropy_error, after.free_entropy_error)
    assert after.free_entropy - before.free_entropy > (-2 if start == "flat" else 3) * error


def test_a_steep_start_ends_flat(trained):
    sgd, _, X, y = trained
    end = ascend(sgd, X, y, SHORT).weights[-1]
    before, after = (local_energy(w, X, y, [0.5]).local_energy[0] for w in (sgd, end))
    assert after < 0.6 * before


def test_monte_carlo_goes_the_same_way(trained):
    """Ascents by the slopes of Monte Carlo and of EP reach the same φ, measured by EP."""
    sgd, _, X, y = trained
    algorithm = EntropyAscent(variances=(0.5,), max_epochs=4)
    ends = [
        ascend(sgd, X, y, replace(algorithm, engine=engine)).weights[-1]
        for engine in (EPSlope(), MonteCarloSlope(steps=300))
    ]
    start, ep, mc = (
        EXACT.slope(ReferenceProblem.from_arrays(w, X, y), 0.5, []).free_entropy
        for w in (sgd, *ends)
    )
    assert mc - start == pytest.approx(ep - start, rel=0.1)


def test_errors_of_the_start_are_not_added_to(trained):
    sgd, _, X, y = trained
    path = ascend(sgd, np.vstack([X, X[:1]]), np.append(y, -y[0]), SHORT)  # one must be wrong
    assert path.training_errors.tolist() == [1, 1, 1]
    wrong = np.where(np.arange(60) == np.argmin(np.abs(sgd @ X.T).min(axis=0)), -y, y)
    assert ascend(sgd, X, wrong, SHORT).training_errors[-1] == 0


def test_a_slope_that_does_not_converge_moves_nothing(trained):
    sgd, _, X, y = trained
    engine = EPSlope(ExpectationPropagation(tolerance=1e-9, max_sweeps=1))
    path = ascend(sgd, X, y, replace(SHORT, engine=engine))
    assert not path.converged
    assert np.allclose(path.weights, unit_rows(sgd))


def test_more_patterns_than_inputs():
    w, X, y = random_machine(3, 15, 30, seed=1)
    path = ascend(w, X, y, SHORT)
    assert path.converged and np.all(path.training_errors == 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variances": (1.0, 0.5)}, "variances is"),
        ({"max_epochs": 0}, "max_epochs is 0"),
        ({"step": 0.0}, "step is 0"),
        ({"momentum": 1.0}, "momentum is 1"),
    ],
)
def test_impossible_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        EntropyAscent(**changes)


def test_sampling_needs_a_start_without_errors(trained):
    sgd, _, X, y = trained
    with pytest.raises(ValueError, match="training errors"):
        ascend(sgd, X, -y, replace(SHORT, engine=MonteCarloSlope()))


def test_train_starts_from_the_machine_of_the_same_seed(trained):
    _, _, X, y = trained
    patterns = pattern_set(X, y)
    start = train(patterns, "sgd-fast", 2, 3, seed=5, workers=1)
    one, two = (train(patterns, SHORT, 2, 3, seed=5, workers=n) for n in (1, 2))
    path = ascend(start.weights[1], X, y, SHORT)
    assert np.allclose(one.weights[1], path.weights[-1])
    assert np.array_equal(one.weights, two.weights)
    assert one.converged.all() and one.epochs[1] == path.steps
    assert one.loss[1] == pytest.approx(-path.free_entropy[-1][-1])
