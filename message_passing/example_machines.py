"""Patterns and machines to measure, made from a seed, without training: for benchmarks.

Patterns as correlated with each other, and labels as unbalanced, as those of the reduced
Fashion-MNIST; a sharp machine and a flat one by the perceptron rule.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LATENT_DIMENSIONS = 30
POSITIVE = 0.1


def image_like_patterns(
    P: int, N: int, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Patterns (P, N) and labels (P,) from a hidden manifold.

    x = sign(b + F z), with 30 latent Gaussians z of decreasing variance, a random map F and
    biases b (the mean image); the label is +1 for the tenth of the patterns with the largest
    value of a linear function of z.
    """
    rng = np.random.default_rng(seed)
    F = rng.standard_normal((N, LATENT_DIMENSIONS))
    b = 2.2 * rng.standard_normal(N)
    teacher = rng.standard_normal(LATENT_DIMENSIONS)
    variance = np.arange(1, LATENT_DIMENSIONS + 1) ** -1.15
    z = np.sqrt(variance / variance.sum()) * rng.standard_normal((P, LATENT_DIMENSIONS))
    field = z @ teacher
    labels = np.where(field > np.quantile(field, 1 - POSITIVE), 1.0, -1.0)
    return np.copysign(1.0, z @ F.T + b), labels


def sharp_machine(
    patterns: NDArray[np.float64], labels: NDArray[np.float64], K: int, seed: int = 0
) -> NDArray[np.float64]:
    """A machine that is hardly right: each wrong pattern moves one unit just enough.

    Its local entropy on :func:`image_like_patterns` is about that of fast SGD on images.
    """
    return _perceptron_rule(patterns, labels, K, margin=0.0, step=0.04, units=1, seed=seed)


def flat_machine(
    patterns: NDArray[np.float64], labels: NDArray[np.float64], K: int, seed: int = 0
) -> NDArray[np.float64]:
    """A machine with a margin: each pattern without it moves all units that lack it.

    Its local entropy on :func:`image_like_patterns` is about that of Replicated-SGD on images.
    """
    return _perceptron_rule(patterns, labels, K, margin=0.2, step=0.05, units=K, seed=seed)


def _perceptron_rule(
    patterns: NDArray[np.float64],
    labels: NDArray[np.float64],
    K: int,
    *,
    margin: float,
    step: float,
    units: int,
    seed: int,
    max_epochs: int = 2000,
) -> NDArray[np.float64]:
    """Weights (K, N) with (K+1)/2 stabilities σ w_k·x/√N above the margin on every pattern.

    A pattern without moves those ``units`` of its units that lack least, by step σ x; rows keep
    norm √N. Raises ``ValueError`` if that does not end.
    """
    rng = np.random.default_rng(seed)
    P, N = patterns.shape
    weights = rng.uniform(-1, 1, (K, N))
    weights *= np.sqrt(N) / np.linalg.norm(weights, axis=1, keepdims=True)
    signed = patterns * labels[:, None]
    for _ in range(max_epochs):
        moved = False
        for x in rng.permutation(signed):
            stability = weights @ x / np.sqrt(N)
            lacking = np.flatnonzero(stability <= margin)
            if len(lacking) > K // 2:
                moved = True
                for k in lacking[np.argsort(-stability[lacking])][:units]:
                    weights[k] += step * x
                    weights[k] *= np.sqrt(N) / np.linalg.norm(weights[k])
        if not moved:
            return weights
    raise ValueError(f"no machine with margin {margin} after {max_epochs} epochs (P={P}, N={N}).")
