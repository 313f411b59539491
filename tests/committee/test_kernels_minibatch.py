"""Parts of a training step, each against numpy on the same arrays."""

from __future__ import annotations

import numpy as np
import pytest

from committee import _kernels_minibatch as kernels
from committee.machine import loss_per_pattern, predict, unit_rows
from tests.reference.training import gradient

K, N, P = 5, 23, 17


@pytest.fixture
def arrays():
    rng = np.random.default_rng(4)
    patterns = rng.choice((-1.0, 1.0), (P, N))
    rotation, upper = np.linalg.qr(patterns.T, mode="complete")
    rows = np.zeros((P + 1, N), np.float32)
    rows[:P] = upper.T
    lengths = np.append(np.minimum(np.arange(P) + 1, N), 0)
    labels = np.append(rng.choice((-1.0, 1.0), P), 0.0).astype(np.float32)
    weights = unit_rows(rng.normal(size=(K, N)))
    batch = np.array([0, 3, 5, 6, 11, 16, P, P])  # six patterns, two places of padding
    return weights, patterns, rotation, rows, lengths, labels, batch


def test_rotated_triangular_patterns_give_the_same_preactivations(arrays):
    weights, patterns, rotation, rows, lengths, _, batch = arrays
    out = np.empty((K, 8), np.float32)
    rotated = np.ascontiguousarray(weights @ rotation, dtype=np.float32)
    kernels.preactivations(rotated, rows, lengths, batch, out)
    assert np.allclose(out[:, :6], weights @ patterns[batch[:6]].T, atol=2e-6)
    assert np.all(out[:, 6:] == 0)


def test_gradient_step_is_that_of_the_machine(arrays):
    weights, patterns, rotation, rows, lengths, labels, batch = arrays
    beta, omega, lr = np.float32(1.5), np.float32(0.8), np.float32(0.1)
    rotated = np.ascontiguousarray(weights @ rotation, dtype=np.float32)
    u = np.empty((K, 8), np.float32)
    active = np.empty(12, np.int64)
    kernels.preactivations(rotated, rows, lengths, batch, u)
    count = kernels.gradient_coefficients(u, labels, batch, beta, omega, np.float32(1.0), active)
    assert count == 8 and np.array_equal(active[:count], batch)
    kernels.descend_along_patterns(rotated, rows, lengths, active, count, u, lr)
    used = batch[:6]
    exact = gradient(weights, patterns[used], labels[used], 1.5, 0.8)
    assert np.allclose(rotated @ rotation.T, weights - 0.1 * exact, atol=2e-6)


def test_patterns_without_gradient_are_skipped():
    labels = np.array([1.0, 1.0, 1.0, 1.0, 0.0], np.float32)
    u = np.array([[30.0, 0.3, 30.0, 30.0]] * 3, np.float32)  # saturated except pattern 1
    active = np.empty(8, np.int64)
    batch = np.arange(4)
    one = np.float32(1.0)
    count = kernels.gradient_coefficients(u, labels, batch, one, one, one, active)
    assert count == 4 and np.array_equal(active[:4], [1, 4, 4, 4])
    assert np.all(u[:, 0] != 0) and np.all(u[:, 1:4] == 0)


def test_minibatches_are_uniform_partitions():
    passes, size = 4000, 5
    bits = np.random.default_rng(1).bit_generator.random_raw(passes * P).reshape(passes, P)
    batches = np.empty((passes, 4, 8), np.int64)
    kernels.draw_minibatches(bits, batches, P, size)
    for one in batches[:50]:
        filled = one[one < P]
        assert np.array_equal(np.sort(filled), np.arange(P))
        assert np.all(np.diff(one, axis=1) >= 0)
        assert [np.sum(row < P) for row in one] == [5, 5, 5, 2]
    # The small last minibatch holds every pattern, and every pair, equally often.
    last = batches[:, 3, :2]
    single = np.bincount(last.ravel(), minlength=P)
    expected = passes * 2 / P
    assert np.sum((single - expected) ** 2 / expected) < 45  # χ² with 16 degrees: p < 2e-4
    pair = np.zeros((P, P))
    np.add.at(pair, (last[:, 0], last[:, 1]), 1)
    pairs = pair[np.triu_indices(P, 1)]
    expected = passes / len(pairs)
    assert np.sum((pairs - expected) ** 2 / expected) < 200  # 135 degrees: p < 3e-4


def test_search_for_errors_and_large_losses(arrays):
    weights, patterns, rotation, rows, lengths, labels, _ = arrays
    rotated = np.ascontiguousarray(weights @ rotation, dtype=np.float32)
    own = np.append(predict(weights, patterns), 0.0).astype(np.float32)
    assert kernels.find_error(rotated, rows, lengths, own, 3) == -1
    own[7] *= -1
    for start in (0, 7, 8):
        assert kernels.find_error(rotated, rows, lengths, own, start) == 7
    mean = loss_per_pattern(weights, patterns, labels[:P], 1.2, 0.7).mean()
    arguments = (rotated, rows, lengths, labels, 1.2, 0.7)
    assert kernels.mean_loss_below(*arguments, mean * (1 + 1e-4), 2) == -1
    assert kernels.mean_loss_below(*arguments, mean * (1 - 1e-4), 2) >= 0
