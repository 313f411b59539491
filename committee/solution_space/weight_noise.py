"""Weight-noise descent: gradient descent on the probability of being right under weight noise.

With weights w∘(1 + σz), z white, hidden unit k is right on pattern x_μ of label σ_μ with
probability Φ(z_kμ), z_kμ = σ_μ w_k·x_μ / (σ ‖x_μ∘w_k‖). The number n_μ of right units is
Poisson-binomial. The loss is exact, no noise is drawn:

    L_σ(w) = −(1/P) Σ_μ log P[n_μ ≥ (K+1)/2],
    ∂L_σ/∂z_kμ = −(1/P) P[n_μ without k = (K−1)/2] N(z_kμ; 0, 1) / P[n_μ ≥ (K+1)/2].

A small σ rewards little more than zero training errors. A large σ rewards flatness and accepts
errors. Annealing σ downwards gives flat machines without errors.

Prior art: sign units under Gaussian weights in a PAC-Bayes bound (Letarte, Germain, Guedj,
Laviolette, *Dichotomize and generalize: PAC-Bayesian binary activated deep neural networks*,
NeurIPS 2019).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from committee.algorithms import WeightNoise
from committee.machine import error_rate, unit_rows
from committee.patterns import PatternSet
from committee.rotated_patterns import RotatedPatterns, _streams
from committee.solution_space._kernels_weight_noise import weight_noise_steps
from message_passing.output_node import Majority
from message_passing.tools.validation import check_labels, check_patterns, check_weights

# Steps per kernel call: enough to hide the cost of a call, few enough to interrupt.
CHUNK = 64


def noise_loss(
    weights: ArrayLike, patterns: ArrayLike, labels: ArrayLike, sigma: float
) -> tuple[float, NDArray[np.float64]]:
    """L_σ(w) and its gradient (K, N), for weights (K, N) with rows of any norm.

    Raises ``ValueError`` for even K, shapes that do not fit, labels other than ±1, NaN, σ ≤ 0.
    """
    w = check_weights(weights)
    X = check_patterns(patterns, w.shape[-1])
    y = check_labels(labels, len(X))
    if not (sigma > 0 and np.isfinite(sigma)):
        raise ValueError(f"sigma is {sigma}; a positive number was expected.")
    u, square = w @ X.T, w**2 @ (X**2).T
    node = Majority().moments(u, sigma**2 * square, y)
    slopes = -node.gradient / len(y)  # ∂L/∂u at fixed ‖x∘w_k‖
    return -float(node.log_evidence.mean()), slopes @ X - w * ((slopes * u / square) @ X**2)


def run_weight_noise(
    patterns: PatternSet, algorithm: WeightNoise, K: int, seed_sequence: np.random.SeedSequence
) -> tuple[NDArray[np.float64], int, bool]:
    """Train one machine: unit rows (K, N), number of epochs, whether it makes no training errors.

    For ±1 inputs ‖x∘w_k‖ is the norm of w_k, so training does not change if the input space is
    rotated. The rotation that makes the pattern matrix triangular halves the cost.
    """
    X, y = patterns.train_patterns, patterns.train_labels
    binary = bool(np.all(X[0, 0] ** 2 == X**2))
    inputs = RotatedPatterns(patterns, rotate=binary)
    squares = np.zeros((0 if binary else inputs.P + 1, inputs.N), np.float32)
    if not binary:
        squares[:-1] = X**2
    (rng,) = _streams(seed_sequence, 1)
    weights = inputs.start(K, rng)
    momentum, scales = np.zeros_like(weights), np.zeros(K)
    for first in range(0, algorithm.max_epochs, CHUNK):
        epochs = np.arange(first, min(first + CHUNK, algorithm.max_epochs))
        weight_noise_steps(
            weights,
            inputs.rows,
            inputs.lengths,
            inputs.labels,
            squares,
            abs(float(X[0, 0])),
            algorithm.sigma(epochs),
            algorithm.lr,
            (algorithm.momentum, algorithm.second_moment),
            momentum,
            scales,
            first,
        )
    rows = unit_rows(weights @ inputs.rotation.T)
    return rows, algorithm.max_epochs, error_rate(rows, X, y) == 0
