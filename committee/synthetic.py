"""Patterns made from a seed without download: a hidden manifold, i.i.d. patterns, a teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from committee.machine import predict
from committee.patterns import PatternSet
from message_passing.example_machines import LATENT_DIMENSIONS, HiddenManifold

Sampler = Callable[[np.random.Generator, int], tuple[NDArray, NDArray]]  # patterns, labels

INPUTS = 784
TEST_SIZE = 1000
TEACHER_UNITS = 9

# The hidden manifold, matched to 500 binarised images of the reduced Fashion-MNIST.
POSITIVE_FRACTION = 0.11


def make_patterns(name: str, size: int, seed: int, balanced: bool = False) -> PatternSet:
    """Training and test patterns from the same distribution, by a maker of ``MAKERS``.

    A larger training set begins with the patterns of a smaller one with the same seed.
    """
    streams = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(3))
    text, sample = MAKERS[name](streams)
    train, test = next(streams), next(streams)
    patterns, labels = sample(train, 2 * size if balanced else size)
    if balanced:  # draw until the rarer class fills its half
        while min(np.sum(labels > 0), np.sum(labels < 0)) < size // 2:
            more_patterns, more_labels = sample(train, size)
            patterns = np.concatenate([patterns, more_patterns])
            labels = np.concatenate([labels, more_labels])
        chosen = choose(labels, size, True, train)
        patterns, labels = patterns[chosen], labels[chosen]
    description = (
        f"{text}; {size} training patterns{' (balanced)' if balanced else ''}, "
        f"{TEST_SIZE} test patterns, seed {seed}"
    )
    return PatternSet(patterns, labels, *sample(test, TEST_SIZE), name, description)


def hidden_manifold(streams: Iterator[np.random.Generator]) -> tuple[str, Sampler]:
    """Inputs on a low-dimensional manifold, as correlated with each other as images are.

    ``x_i = sign(b_i + Σ_j F_ij z_j)``, ``y = sign(Σ_j v_j z_j − θ)``, with

    ========  =============  ==========================================================
    symbol    shape          meaning
    ========  =============  ==========================================================
    z         (30,)          latent vector, Gaussian; the variance of z_j is ∝ j^(-1.15),
                             and the sum of the variances is 1
    F         (784, 30)      fixed random feature map, standard Gaussian
    b         (784,)         fixed biases, Gaussian, standard deviation 2.2: the mean image
    v         (30,)          fixed teacher in latent space, Gaussian; v_j has the variance of z_j,
                             so classes differ where patterns differ most
    θ         ()             threshold at which a fraction 0.11 of the labels is +1
    ========  =============  ==========================================================

    F, b, v and the patterns come from the seed. With the chosen constants, 500 patterns are as
    correlated as 500 images of the reduced Fashion-MNIST. The mean overlap ``x·x'/N`` of two
    patterns is 0.63 (images: 0.63). The mean squared overlap is 0.41 (0.41). The participation
    ratio ``(Σλ)²/Σλ²`` of the eigenvalues of the patterns' covariance is 28 (28.5). These are means
    over 40 seeds, with standard deviations 0.01, 0.015 and 1.6 over the seeds. One class is as rare
    as Dress in the images, so a constant answer has about 11 % test error.
    """
    shared = next(streams)
    manifold = HiddenManifold.draw(INPUTS, shared)
    v = manifold.scale * shared.normal(size=LATENT_DIMENSIONS)
    threshold = np.linalg.norm(v * manifold.scale) * ndtri(1.0 - POSITIVE_FRACTION)

    def sample(rng: np.random.Generator, count: int) -> tuple[NDArray, NDArray]:
        z, patterns = manifold.sample(count, rng)
        return patterns, np.copysign(1.0, z @ v - threshold)

    latent = f"signs of a random map of {LATENT_DIMENSIONS} latent Gaussians"
    return f"hidden manifold: {latent}, linear teacher in latent space", sample


def random_patterns(streams: Iterator[np.random.Generator]) -> tuple[str, Sampler]:
    """I.i.d. inputs and labels ±1. The labels carry no rule, so the test error is 1/2."""

    def sample(rng: np.random.Generator, count: int) -> tuple[NDArray, NDArray]:
        signs = 2.0 * rng.integers(0, 2, size=(count, INPUTS + 1)) - 1.0
        return signs[:, :-1], signs[:, -1]

    return "i.i.d. patterns with random labels", sample


def teacher_patterns(streams: Iterator[np.random.Generator]) -> tuple[str, Sampler]:
    """I.i.d. inputs ±1 labelled by a committee machine of nine random hidden units."""
    teacher = next(streams).normal(size=(TEACHER_UNITS, INPUTS))

    def sample(rng: np.random.Generator, count: int) -> tuple[NDArray, NDArray]:
        patterns = 2.0 * rng.integers(0, 2, size=(count, INPUTS)) - 1.0
        return patterns, predict(teacher, patterns)

    return (
        f"i.i.d. patterns labelled by a teacher committee of {TEACHER_UNITS} hidden units",
        sample,
    )


def choose(
    labels: NDArray[np.float64], size: int, balanced: bool, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Indices of a random subset, with the same number from each class if ``balanced``.

    With ``balanced`` the subset is smaller than ``size`` if the rarer class has fewer than
    ``size / 2`` patterns. A larger subset contains the smaller ones of the same generator.
    """
    order = rng.permutation(len(labels))
    if not balanced:
        return order[:size]
    positive, negative = order[labels[order] > 0], order[labels[order] < 0]
    count = min(size // 2, len(positive), len(negative))
    return np.stack([positive[:count], negative[:count]], axis=1).ravel()


MAKERS: dict[str, Callable[[Iterator[np.random.Generator]], tuple[str, Sampler]]] = {
    "hidden-manifold": hidden_manifold,
    "random": random_patterns,
    "teacher": teacher_patterns,
}
