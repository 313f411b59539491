"""Literal twin of weight-noise descent: unrotated inputs, float64, gradient by ``noise_loss``."""

from __future__ import annotations

import numpy as np

from committee.machine import unit_rows
from committee.solution_space.weight_noise import noise_loss


def weight_noise(patterns, labels, algorithm, K, seed_sequence):
    """Unit rows (K, N) after ``max_epochs`` Adam steps with one second moment per hidden unit."""
    rng = np.random.default_rng(np.random.SeedSequence(seed_sequence.entropy).spawn(1)[0])
    w = unit_rows(rng.uniform(-1.0, 1.0, (K, patterns.shape[1])))
    mean, square = np.zeros_like(w), np.zeros((K, 1))
    for epoch in range(algorithm.max_epochs):
        _, gradient = noise_loss(w, patterns, labels, float(algorithm.sigma(epoch)))
        mean = algorithm.momentum * mean + (1 - algorithm.momentum) * gradient
        share = 1 - algorithm.second_moment
        square = (1 - share) * square + share * np.mean(gradient**2, axis=1, keepdims=True)
        step = mean / (1 - algorithm.momentum ** (epoch + 1))
        size = np.sqrt(square / (1 - algorithm.second_moment ** (epoch + 1)))
        w = unit_rows(w - algorithm.lr * step / size)
    return w
