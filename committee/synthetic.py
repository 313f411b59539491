"""Patterns made from a seed, no download: a hidden manifold, i.i.d. patterns, a teacher.

Every maker returns training and test patterns of the same distribution. A larger training set
begins with the patterns of a smaller one with the same seed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from committee.machine import predict
from committee.patterns import PatternSet
from message_passing.example_machines import LATENT_DIMENSIONS, HiddenManifold

Sample = tuple[NDArray, NDArray]

INPUTS = 784
TEST_SIZE = 1000
TEACHER_UNITS = 9

# The hidden manifold, matched to 500 binarised images of the reduced Fashion-MNIST.
POSITIVE_FRACTION = 0.11


def hidden_manifold(size: int = 500, seed: int = 0, balanced: bool = False) -> PatternSet:
    """Inputs on a low-dimensional manifold, as correlated with each other as images are.

    ``x_i = sign(b_i + Σ_j F_ij z_j)``, ``y = sign(Σ_j v_j z_j − θ)``, with

    ========  =============  ==========================================================
    symbol    shape          meaning
    ========  =============  ==========================================================
    z         (30,)          latent vector, Gaussian; the variance of z_j is ∝ j^(-1.15),
                             and the sum of the variances is 1
    F         (784, 30)      fixed random feature map, standard Gaussian
    b         (784,)         fixed biases, Gaussian, standard deviation 2.2: the mean image
    v         (30,)          fixed teacher in latent space, Gaussian; the variance of v_j is that
                             of z_j: classes differ where patterns differ most
    θ         ()             threshold at which a fraction 0.11 of the labels is +1
    ========  =============  ==========================================================

    F, b, v and the patterns come from the seed. The constants are chosen so that 500 patterns
    have the correlations of 500 images of the reduced Fashion-MNIST: mean overlap ``x·x'/N`` of
    two patterns 0.63 (images: 0.63), mean squared overlap 0.41 (0.41), and participation ratio
    ``(Σλ)²/Σλ²`` of the eigenvalues of the patterns' covariance 28 (28.5), means over 40 seeds
    with a scatter of 0.01, 0.015 and 1.6 from seed to seed. One class is as rare as Dress is
    there: a constant answer has about 11 % test error, and has to be beaten.
    """
    shared, train, test = _generators(seed, 3)
    manifold = HiddenManifold.draw(INPUTS, shared)
    v = manifold.scale * shared.normal(size=LATENT_DIMENSIONS)
    threshold = np.linalg.norm(v * manifold.scale) * norm.ppf(1.0 - POSITIVE_FRACTION)

    def sample(rng: np.random.Generator, count: int) -> Sample:
        z, patterns = manifold.sample(count, rng)
        return patterns, _sign(z @ v - threshold)

    return _assemble(
        "hidden-manifold",
        f"hidden manifold: signs of a random map of {LATENT_DIMENSIONS} latent Gaussians, "
        "linear teacher in latent space",
        sample,
        (train, test),
        (size, seed, balanced),
    )


def random_patterns(size: int = 500, seed: int = 0, balanced: bool = False) -> PatternSet:
    """I.i.d. inputs and labels ±1: nothing to generalise (test error 1/2)."""

    def sample(rng: np.random.Generator, count: int) -> Sample:
        signs = 2.0 * rng.integers(0, 2, size=(count, INPUTS + 1)) - 1.0
        return signs[:, :-1], signs[:, -1]

    train, test = _generators(seed, 2)
    text = "i.i.d. patterns with random labels"
    return _assemble("random", text, sample, (train, test), (size, seed, balanced))


def teacher_patterns(size: int = 500, seed: int = 0, balanced: bool = False) -> PatternSet:
    """I.i.d. inputs ±1 labelled by a committee machine of nine random hidden units."""
    shared, train, test = _generators(seed, 3)
    teacher = shared.normal(size=(TEACHER_UNITS, INPUTS))

    def sample(rng: np.random.Generator, count: int) -> Sample:
        patterns = 2.0 * rng.integers(0, 2, size=(count, INPUTS)) - 1.0
        return patterns, predict(teacher, patterns)

    text = f"i.i.d. patterns labelled by a teacher committee of {TEACHER_UNITS} hidden units"
    return _assemble("teacher", text, sample, (train, test), (size, seed, balanced))


def choose(
    labels: NDArray[np.float64], size: int, balanced: bool, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Indices of a random subset; the same number of each class if ``balanced``.

    With ``balanced`` the subset is smaller than ``size`` where the rarer class has fewer than
    ``size / 2`` patterns. A larger subset contains the smaller ones of the same generator.
    """
    order = rng.permutation(len(labels))
    if not balanced:
        return order[:size]
    positive, negative = order[labels[order] > 0], order[labels[order] < 0]
    count = min(size // 2, len(positive), len(negative))
    return np.stack([positive[:count], negative[:count]], axis=1).ravel()


def _assemble(
    name: str,
    text: str,
    sample: Callable[[np.random.Generator, int], Sample],
    generators: tuple[np.random.Generator, np.random.Generator],
    arguments: tuple[int, int, bool],
) -> PatternSet:
    train, test = generators
    size, seed, balanced = arguments
    train_patterns, train_labels = _sample_exactly(sample, train, size, balanced)
    test_patterns, test_labels = sample(test, TEST_SIZE)
    return PatternSet(
        train_patterns,
        train_labels,
        test_patterns,
        test_labels,
        name=name,
        description=(
            f"{text}; {size} training patterns{' (balanced)' if balanced else ''}, "
            f"{TEST_SIZE} test patterns, seed {seed}"
        ),
    )


def _sample_exactly(
    sample: Callable[[np.random.Generator, int], Sample],
    rng: np.random.Generator,
    size: int,
    balanced: bool,
) -> Sample:
    if not balanced:
        return sample(rng, size)
    # One half of each class: draw until the rarer one suffices.
    patterns, labels = sample(rng, 2 * size)
    while min(np.sum(labels > 0), np.sum(labels < 0)) < size // 2:
        more_patterns, more_labels = sample(rng, size)
        patterns = np.concatenate([patterns, more_patterns])
        labels = np.concatenate([labels, more_labels])
    chosen = choose(labels, size, True, rng)
    return patterns[chosen], labels[chosen]


def _generators(seed: int, count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(count)]


def _sign(x: NDArray) -> NDArray[np.float64]:
    return np.copysign(1.0, x)


MAKERS: dict[str, Callable[[int, int, bool], PatternSet]] = {
    "hidden-manifold": hidden_manifold,
    "random": random_patterns,
    "teacher": teacher_patterns,
}
