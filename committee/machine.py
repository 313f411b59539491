"""The committee machine: prediction, errors, the loss.

A machine is its first-layer weights w (K, N) with odd K. The second layer is fixed to ones. It
predicts ``sign[K^(-1/2) Σ_k sign(w_k·x)]``. A pre-activation of exactly zero counts as +1. The
norm of a row does not matter. Training replaces the inner sign by ``tanh(β u)`` with unit-norm
rows, ``u = w·x``, and minimises the *sum* over a minibatch of

    f(x, ω) = −x/2 + log(2 cosh(ωx)) / (2ω) = log(1 + exp(−2ωx)) / (2ω),
    x = σ K^(-1/2) Σ_k tanh(β u_k)                                  ([P21] eq. 8, App. B.1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from message_passing.tools.validation import check_labels, check_patterns, check_weights


def predict(weights: ArrayLike, patterns: ArrayLike) -> NDArray[np.float64]:
    """Predictions (..., P) in {±1} of machines with weights (..., K, N)."""
    weights = check_weights(weights)
    patterns = check_patterns(patterns, weights.shape[-1])
    return predict_from_preactivations(weights @ patterns.T)


def predict_from_preactivations(preactivations: NDArray) -> NDArray[np.float64]:
    """Majority (..., P) of the signs of pre-activations (..., K, P). Zero counts as +1."""
    K = preactivations.shape[-2]
    positive = np.count_nonzero(preactivations >= 0, axis=-2)
    return np.where(2 * positive > K, 1.0, -1.0)


def error_rate(
    weights: ArrayLike, patterns: ArrayLike, labels: ArrayLike
) -> NDArray[np.float64] | float:
    """Fraction of wrongly classified patterns.

    Parameters
    ----------
    weights : (..., K, N)
        One machine or several. The norm of the rows does not matter.
    patterns : (P, N)
    labels : (P,)

    Returns
    -------
    A number for one machine, an array of shape (...) for several.

    Raises
    ------
    ValueError
        Even K, shapes that do not fit, labels other than ±1, NaN.
    """
    predictions = predict(weights, patterns)
    labels = check_labels(labels, predictions.shape[-1])
    errors = np.mean(predictions != labels, axis=-1)
    return float(errors) if errors.ndim == 0 else errors


def unit_rows(weights: NDArray) -> NDArray[np.float64]:
    """Weights with every row rescaled to norm 1."""
    return weights / np.linalg.norm(weights, axis=-1, keepdims=True)


def loss_per_pattern(
    weights: NDArray, patterns: NDArray, labels: NDArray, beta: float, omega: float
) -> NDArray[np.float64]:
    """Loss f(σ·output, ω) (..., P) of each pattern, for weights with unit-norm rows, u = w·x.

    The form ``logaddexp(0, −2ωx) / (2ω)`` is never negative and never overflows.
    """
    K = weights.shape[-2]
    output = np.tanh(beta * (weights @ patterns.T)).sum(axis=-2) / np.sqrt(K)
    return np.logaddexp(0.0, -2.0 * omega * labels * output) / (2.0 * omega)
