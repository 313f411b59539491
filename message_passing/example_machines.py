"""Patterns and machines made from a seed, without training, for benchmarks.

The patterns are as correlated and the labels as unbalanced as in the reduced Fashion-MNIST. The
perceptron rule makes a sharp machine and a flat one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Matched to 500 binarised images of the reduced Fashion-MNIST, see committee/synthetic.py.
LATENT_DIMENSIONS = 30
LATENT_DECAY = 1.15
BIAS_SCALE = 2.2
POSITIVE = 0.1


@dataclass(frozen=True)
class HiddenManifold:
    """Inputs x = sign(b + F z) on a manifold of latent Gaussian vectors z.

    Attributes
    ----------
    feature_map : F (N, 30), standard Gaussian
    biases : b (N,), Gaussian with standard deviation 2.2: the mean image
    scale : (30,) standard deviations of z. The variances are ∝ j^(−1.15) and sum to 1.
    """

    feature_map: NDArray[np.float64]
    biases: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def draw(cls, inputs: int, rng: np.random.Generator) -> HiddenManifold:
        """A random map to N = ``inputs`` dimensions."""
        F = rng.standard_normal((inputs, LATENT_DIMENSIONS))
        b = BIAS_SCALE * rng.standard_normal(inputs)
        variance = np.arange(1, LATENT_DIMENSIONS + 1) ** -LATENT_DECAY
        return cls(F, b, np.sqrt(variance / variance.sum()))

    def sample(
        self, count: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Latent vectors (count, 30) and patterns (count, N) in ±1."""
        z = self.scale * rng.standard_normal((count, LATENT_DIMENSIONS))
        return z, np.where(z @ self.feature_map.T + self.biases >= 0, 1.0, -1.0)


def image_like_patterns(
    P: int, N: int, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Patterns (P, N) and labels (P,) from a hidden manifold.

    The label is +1 for the 10 % of the patterns with the largest value of a random linear
    function of z.
    """
    rng = np.random.default_rng(seed)
    manifold = HiddenManifold.draw(N, rng)
    teacher = rng.standard_normal(LATENT_DIMENSIONS)
    z, patterns = manifold.sample(P, rng)
    value = z @ teacher
    return patterns, np.where(value > np.quantile(value, 1 - POSITIVE), 1.0, -1.0)


def sharp_machine(
    patterns: NDArray[np.float64], labels: NDArray[np.float64], K: int, seed: int = 0
) -> NDArray[np.float64]:
    """A machine without margin: a wrong pattern moves one unit, in small steps.

    On :func:`image_like_patterns` it has about the local entropy of fast SGD on images.
    """
    return _perceptron_rule(patterns, labels, K, margin=0.0, step=0.04, units=1, seed=seed)


def flat_machine(
    patterns: NDArray[np.float64], labels: NDArray[np.float64], K: int, seed: int = 0
) -> NDArray[np.float64]:
    """A machine with a margin: a pattern below the margin moves all units that lack it.

    On :func:`image_like_patterns` it has about the local entropy of Replicated-SGD on images.
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

    A pattern without them moves the ``units`` hidden units closest below the margin by step σ x.
    Rows keep norm √N. Raises ``ValueError`` if the rule does not end within ``max_epochs``.
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
