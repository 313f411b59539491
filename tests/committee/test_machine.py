"""The machine: prediction, symmetries, loss and gradient."""

from __future__ import annotations

import numpy as np
import pytest

from committee import error_rate, predict
from committee.machine import loss_per_pattern, unit_rows
from tests.reference.training import gradient


@pytest.fixture
def problem():
    rng = np.random.default_rng(1)
    X = np.sign(rng.normal(size=(40, 21)))
    y = np.sign(rng.normal(size=40))
    w = unit_rows(rng.normal(size=(5, 21)))
    return w, X, y


@pytest.mark.parametrize("beta, omega", [(0.5, 0.5), (1.0, 5.0), (2.0, 5.0), (4.0, 20.0)])
def test_gradient_is_the_finite_difference_of_the_loss(problem, beta, omega):
    w, X, y = problem
    exact = gradient(w, X, y, beta, omega)
    step = 1e-6
    numeric = np.empty_like(w)
    for index in np.ndindex(w.shape):
        up, down = w.copy(), w.copy()
        up[index] += step
        down[index] -= step
        difference = loss_per_pattern(up, X, y, beta, omega) - loss_per_pattern(
            down, X, y, beta, omega
        )
        numeric[index] = difference.sum() / (2 * step)
    assert np.allclose(exact, numeric, rtol=1e-6, atol=1e-7)


def test_loss_has_the_two_published_forms_and_never_overflows(problem):
    w, X, y = problem
    beta, omega = 1.3, 0.7
    x = y * np.tanh(beta * X @ w.T).sum(axis=1) / np.sqrt(len(w))
    published = -x / 2 + np.log(2 * np.cosh(omega * x)) / (2 * omega)
    assert np.allclose(loss_per_pattern(w, X, y, beta, omega), published, atol=1e-14)
    extreme = loss_per_pattern(w, X, y, 100.0, 1e4)
    assert np.all(np.isfinite(extreme)) and np.all(extreme >= 0)
    # ω → ∞: the loss is 0 for right answers and −x for wrong ones.
    x = y * np.tanh(100.0 * X @ w.T).sum(axis=1) / np.sqrt(len(w))
    assert np.allclose(extreme, np.maximum(0, -x), atol=1e-4)


def test_prediction_does_not_depend_on_row_norms_or_order_of_hidden_units(problem):
    w, X, _ = problem
    rng = np.random.default_rng(2)
    rescaled = w * rng.uniform(0.1, 10.0, (5, 1))
    assert np.array_equal(predict(w, X), predict(rescaled, X))
    assert np.array_equal(predict(w, X), predict(w[rng.permutation(5)], X))


def test_large_beta_gives_the_sign_machine(problem):
    w, X, _ = problem
    soft = np.tanh(1e6 * X @ w.T).sum(axis=1)
    assert np.array_equal(np.sign(soft), predict(w, X))


def test_zero_preactivation_counts_as_plus_one():
    assert predict(np.array([[1.0, -1.0]]), np.array([[1.0, 1.0]])) == 1.0
    w = np.array([[1.0, -1.0], [1.0, 0.0], [-1.0, 0.0]])
    assert predict(w, np.array([[1.0, 1.0]])) == 1.0


def test_error_rate_of_several_machines_is_that_of_each(problem):
    w, X, y = problem
    both = np.stack([w, -w])
    rates = error_rate(both, X, y)
    assert rates.shape == (2,)
    assert rates[0] == error_rate(w, X, y)
    assert np.isclose(rates.sum(), 1.0)  # w and −w never agree


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda w, X, y: (w[:4], X, y), "K = 4 hidden units; an odd number"),
        (lambda w, X, y: (w[0], X, y), r"weights has shape \(21,\)"),
        (lambda w, X, y: (w * 0, X, y), "a row of zeros"),
        (lambda w, X, y: (w, X[:, :20], y), "N = 20 inputs per pattern; the weights have 21"),
        (lambda w, X, y: (w, X * np.nan, y), "patterns contains nan at index"),
        (lambda w, X, y: (w, X, y[:3]), r"labels has shape \(3,\); \(40,\) was expected"),
        (lambda w, X, y: (w, X, y * 2), "only \\+1 and -1 are labels"),
    ],
)
def test_bad_input_is_named(problem, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        error_rate(*change(*problem))
