"""Literal twins of the algorithms of [P21]: float64, weight space, plain loops.

They use the random streams of the package's training, so trajectories can be compared step by
step. They share nothing else with it.
"""

from __future__ import annotations

import numpy as np


def streams(seed_sequence: np.random.SeedSequence, count: int) -> list[np.random.Generator]:
    return [
        np.random.default_rng(
            np.random.SeedSequence(seed_sequence.entropy, spawn_key=(*seed_sequence.spawn_key, i))
        )
        for i in range(count)
    ]


def uniform_unit_rows(rng: np.random.Generator, K: int, N: int) -> np.ndarray:
    return normalised(rng.uniform(-1.0, 1.0, (K, N)))


def normalised(weights: np.ndarray) -> np.ndarray:
    return weights / np.sqrt((weights**2).sum(axis=1, keepdims=True))


def shuffled_minibatches(rng: np.random.Generator, P: int, size: int) -> list[np.ndarray]:
    """A random partition (Fisher–Yates). The order inside a minibatch does not matter."""
    order = np.arange(P)
    bits = rng.bit_generator.random_raw(P)
    for i in range(P - 1, 0, -1):
        j = ((int(bits[i]) >> 32) * (i + 1)) >> 32
        order[i], order[j] = order[j], order[i]
    return [order[start : start + size] for start in range(0, P, size)]


def gradient(w, X, y, beta, omega):
    """Sum over patterns of ∂f(σ·output, ω)/∂w."""
    root = np.sqrt(len(w))
    h = np.tanh(beta * (X @ w.T))  # (P, K)
    out = h.sum(axis=1) / root
    df = -y / (1.0 + np.exp(2.0 * omega * y * out))
    return (df[:, None] * beta * (1.0 - h**2) / root).T @ X


def errors(w, X, y):
    outputs = np.where((w @ X.T >= 0).sum(axis=0) * 2 > len(w), 1.0, -1.0)
    return int((outputs != y).sum())


def mean_loss(w, X, y, beta, omega):
    out = np.tanh(beta * (X @ w.T)).sum(axis=1) / np.sqrt(len(w))
    return float(np.mean(np.log1p(np.exp(-2.0 * omega * y * out)) / (2.0 * omega)))


def sgd(X, y, algorithm, K, seed_sequence):
    """Returns (weights, epochs, converged)."""
    rng, masks = streams(seed_sequence, 2)
    w = uniform_unit_rows(rng, K, X.shape[1])
    scale = 1.0 if algorithm.reduction == "sum" else 1.0 / algorithm.batch_size
    for epoch in range(algorithm.max_epochs):
        beta, omega = float(algorithm.beta(epoch)), float(algorithm.omega(epoch))
        for batch in shuffled_minibatches(rng, len(y), algorithm.batch_size):
            batch = np.sort(batch)
            inputs = X[batch]
            if algorithm.dropout:
                kept = masks.random(inputs.shape) >= algorithm.dropout
                inputs = inputs * kept / (1.0 - algorithm.dropout)
            w = normalised(w - algorithm.lr * scale * gradient(w, inputs, y[batch], beta, omega))
        if algorithm.stop_at == "zero-errors":
            converged = errors(w, X, y) == 0
        else:
            converged = mean_loss(w, X, y, beta, omega) < algorithm.threshold
        if converged:
            return w, epoch + 1, True
    return w, algorithm.max_epochs, False


def replicated_sgd(X, y, algorithm, K, seed_sequence):
    """Algorithm 2. Returns (replicas, epochs, converged)."""
    rngs = streams(seed_sequence, algorithm.replicas)
    w = np.array([uniform_unit_rows(rng, K, X.shape[1]) for rng in rngs])
    t = 0
    for epoch in range(algorithm.max_epochs):
        beta, omega = float(algorithm.beta(epoch)), float(algorithm.omega(epoch))
        gamma = algorithm.elastic_scale * float(algorithm.gamma(epoch))
        batches = [shuffled_minibatches(rng, len(y), algorithm.batch_size) for rng in rngs]
        for step in range(len(batches[0])):
            t += 1
            centre = w.mean(axis=0)
            for a in range(algorithm.replicas):
                batch = batches[a][step]
                dw = gradient(w[a], X[batch], y[batch], beta, omega)
                if t % algorithm.coupling_period == 0:
                    dw = dw + algorithm.coupling_period * gamma * (w[a] - centre)
                w[a] = normalised(w[a] - algorithm.lr * dw)
        if np.mean(((w - w.mean(axis=0)) ** 2).sum(axis=(1, 2))) < algorithm.distance_threshold:
            return w, epoch + 1, True
    return w, algorithm.max_epochs, False


def langevin_lanes(seed_sequence, count):
    """Generators of Entropy-SGD's noise: one SFC64 of numpy per child 1, 2, … of the seed."""
    entropy, key = seed_sequence.entropy, seed_sequence.spawn_key
    children = [np.random.SeedSequence(entropy, spawn_key=(*key, 1 + i)) for i in range(count)]
    return [np.random.SFC64(child) for child in children]


def box_muller(words, count):
    """``count`` normals from 32-bit words: the first half gives radii, the second angles."""
    pairs = -(-count // 2)
    radius = np.sqrt(-2.0 * np.log(((words[:pairs] >> 1) + 0.5) / 2.0**31))
    angle = 2.0 * np.pi * words[pairs : 2 * pairs].astype(np.int32) / 2.0**32
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def langevin_noise(lanes, shape):
    """Standard normals of one inner step. The lanes take turns; a normal uses 32 bits."""
    count = int(np.prod(shape))
    rounds = -(-count // (2 * len(lanes)))
    numbers = np.array([lane.random_raw(rounds) for lane in lanes]).T.ravel()
    return box_muller(np.stack([numbers & 0xFFFFFFFF, numbers >> 32], 1).ravel(), count).reshape(
        shape
    )


def entropy_sgd(X, y, algorithm, K, seed_sequence, rotation, lanes):
    """Algorithm 1, with the noise of ``lanes`` generators along the axes ``rotation`` (N, N).

    Returns (weights, epochs, converged)."""
    (rng,) = streams(seed_sequence, 1)
    generators = langevin_lanes(seed_sequence, lanes)
    w = uniform_unit_rows(rng, K, X.shape[1])
    L, alpha = algorithm.inner_steps, algorithm.averaging
    outer_steps = -(-len(y) // algorithm.batch_size)
    for epoch in range(algorithm.max_epochs):
        beta, omega = float(algorithm.beta(epoch)), float(algorithm.omega(epoch))
        gamma = algorithm.elastic_scale * float(algorithm.gamma(epoch))
        queue = [
            b for _ in range(L) for b in shuffled_minibatches(rng, len(y), algorithm.batch_size)
        ]
        for _ in range(outer_steps):
            inner, mu = w.copy(), w.copy()
            for _ in range(L):
                batch = queue.pop(0)
                dw = gradient(inner, X[batch], y[batch], beta, omega) + gamma * (inner - w)
                z = langevin_noise(generators, w.shape) @ rotation.T
                kick = np.sqrt(algorithm.inner_lr) * algorithm.noise * z
                inner = normalised(inner - algorithm.inner_lr * dw + kick)
                mu = alpha * mu + (1.0 - alpha) * inner
            distance = ((w - mu) ** 2).sum()
            w = normalised(w - algorithm.lr * (w - mu))
        if distance < algorithm.distance_threshold:
            return w, epoch + 1, True
    return w, algorithm.max_epochs, False
