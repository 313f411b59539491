"""Weight-noise descent: the loss and its gradient, the kernel, the trained machines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_ndtr

from committee import ALGORITHMS, local_energy, train
from committee.algorithms import WeightNoise
from committee.machine import predict, unit_rows
from committee.schedules import Constant, Exponential
from committee.solution_space.weight_noise import noise_loss, run_weight_noise
from committee.training import train_restart
from tests.committee.learnable import pattern_set, problem
from tests.reference.weight_noise import weight_noise

SEED = np.random.SeedSequence(7)


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("K", [1, 3, 5, 9])
def test_gradient_against_finite_differences(K, real):
    X, y = problem(real=real)
    w = np.random.default_rng(K).normal(size=(K, X.shape[1]))
    for sigma in (0.3, 2.0):
        loss, gradient = noise_loss(w, X, y, sigma)
        assert loss > 0
        for k, i in ((0, 0), (K - 1, 5), (K // 2, 30)):
            step = np.zeros_like(w)
            step[k, i] = 1e-5
            above, below = (noise_loss(w + s * step, X, y, sigma)[0] for s in (1, -1))
            assert gradient[k, i] == pytest.approx((above - below) / 2e-5, rel=1e-5, abs=1e-9)
        # The norm of a row does not matter.
        assert np.abs(np.sum(gradient * w, axis=1)).max() < 1e-9


def test_loss_against_sampled_noise():
    X, y = problem(P=20)
    rng = np.random.default_rng(1)
    w, sigma, draws = rng.normal(size=(3, 31)), 0.8, 40_000
    noisy = w * (1 + sigma * rng.normal(size=(draws, 3, 31)))
    right = np.mean(predict(noisy, X) == y, axis=0)
    error = np.sqrt(np.mean((1 - right) / right / draws) / len(y))
    assert noise_loss(w, X, y, sigma)[0] == pytest.approx(-np.log(right).mean(), abs=4 * error)


def test_one_hidden_unit_in_closed_form():
    """For K = 1 and ±1 patterns the loss is −mean log Φ(κ/σ) with κ = y w·x/‖w‖."""
    X, y = problem()
    w = np.random.default_rng(2).normal(size=(1, 31))
    margin = y * (X @ w[0]) / np.linalg.norm(w) / 0.7
    loss, gradient = noise_loss(w, X, y, 0.7)
    assert loss == pytest.approx(-log_ndtr(margin).mean(), rel=1e-12)
    slope = -np.exp(-(margin**2) / 2 - log_ndtr(margin)) / np.sqrt(2 * np.pi) / len(y)
    free = (slope * y) @ X / np.linalg.norm(w) / 0.7
    unit = w[0] / np.linalg.norm(w)
    assert np.allclose(gradient[0], free - (free @ unit) * unit, atol=1e-12)


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("N", [31, 90])  # fewer and more inputs than patterns
@pytest.mark.parametrize("K", [1, 3, 5])
def test_kernel_follows_its_twin(K, N, real):
    X, y = problem(N=N, real=real)
    # More epochs than one call of the kernel takes; σ decreases.
    algorithm = WeightNoise(sigma=Exponential(2.0, -0.02), max_epochs=100)
    weights, epochs, _ = run_weight_noise(pattern_set(X, y), algorithm, K, SEED)
    assert epochs == 100
    assert np.allclose(np.linalg.norm(weights, axis=1), 1)
    assert np.allclose(weights, weight_noise(X, y, algorithm, K, SEED), atol=2e-5)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_patterns_that_are_hopelessly_wrong_keep_their_gradient(scale):
    """At σ = 0.02 P[right] underflows in single precision. Inputs of ±3 act as ±1."""
    X, y = problem(P=30)
    algorithm = WeightNoise(sigma=Constant(0.02), max_epochs=30)
    start = weight_noise(X, y, replace(algorithm, lr=1e-30), 3, SEED)
    assert noise_loss(start, X, y, 0.02)[0] > 50
    weights, _, _ = run_weight_noise(pattern_set(scale * X, y), algorithm, 3, SEED)
    assert np.allclose(weights, weight_noise(X, y, algorithm, 3, SEED), atol=1e-5)


def test_ends_without_errors_and_flatter_than_sgd():
    X, y = problem(P=80, N=100)
    patterns = pattern_set(X, y)
    weights, _, solved = run_weight_noise(patterns, WeightNoise(max_epochs=400), 3, SEED)
    assert solved and np.all(predict(weights, X) == y)
    sgd = train_restart(patterns, replace(ALGORITHMS["sgd-fast"], lr=2e-3), 3, SEED)
    flat, steep = (local_energy(w, X, y, [0.5]).local_energy[0] for w in (weights, sgd.weights))
    assert flat < 0.5 * steep


def test_contradictory_labels_are_not_called_solved():
    X, y = problem(P=20)
    X, y = np.vstack([X, X[:1]]), np.append(y, -y[0])
    weights, _, solved = run_weight_noise(pattern_set(X, y), WeightNoise(max_epochs=100), 3, SEED)
    assert not solved and np.all(np.isfinite(weights))
    assert np.sum(predict(unit_rows(weights), X) != y) >= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.0}, "lr is 0.0"),
        ({"max_epochs": 0}, "max_epochs is 0"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"sigma": Constant(0.0)}, "sigma is Constant"),
    ],
)
def test_impossible_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        WeightNoise(**changes)


def test_impossible_noise():
    X, y = problem()
    with pytest.raises(ValueError, match="sigma is -1"):
        noise_loss(np.ones((1, 31)), X, y, -1.0)


def test_train_knows_it():
    X, y = problem(P=40, N=60)
    patterns, algorithm = pattern_set(X, y), WeightNoise(max_epochs=300, sigma=Constant(0.7))
    one, two = (train(patterns, algorithm, 3, 3, workers=n) for n in (1, 2))
    assert one.converged.all() and np.all(one.train_error == 0)
    assert np.array_equal(one.weights, two.weights)
    last = float(algorithm.sigma(299))
    assert one.loss[0] == pytest.approx(noise_loss(one.weights[0], X, y, last)[0])
    assert "3 machines" in repr(one) and ALGORITHMS["weight-noise"] == WeightNoise()
