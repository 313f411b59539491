"""The update rules on arrays and tensors: literal steps, gradients, linearity."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from committee import entropic


@pytest.fixture(params=["numpy", "torch"])
def arrays(request):
    made = [np.random.default_rng(i).normal(size=(3, 5)) for i in range(3)]
    return [torch.tensor(a) for a in made] if request.param == "torch" else made


def test_one_inner_step_of_algorithm_1(arrays):
    w, anchor, gradient = arrays
    gamma, lr, noise, alpha = 0.3, 0.01, 0.2, 0.75
    z = w * 0 + 1.5
    gradient = gradient + entropic.elastic_pull(w, anchor, gamma)
    moved = entropic.descend(w, gradient, lr) + entropic.langevin_kick(lr, noise, z)
    literal = w - lr * gradient + np.sqrt(lr) * noise * z
    assert np.allclose(moved, literal)
    mu = entropic.running_average(anchor, moved, alpha)
    assert np.allclose(mu, alpha * anchor + (1 - alpha) * moved)
    outer = entropic.descend(anchor, entropic.local_entropy_gradient(anchor, mu), 0.5)
    assert np.allclose(outer, anchor - 0.5 * (anchor - mu))


def test_elastic_pull_is_the_gradient_of_the_elastic_energy(arrays):
    """The energy is Σ_a ½γ‖w^a − w̄‖². The dependence of w̄ on w^a cancels."""
    replicas = np.stack([np.asarray(a) for a in arrays])
    gamma, step = 0.7, 1e-6

    def energy(w):
        return 0.5 * gamma * np.sum((w - w.mean(axis=0)) ** 2)

    pull = entropic.elastic_pull(replicas, replicas.mean(axis=0), gamma)
    for index in [(0, 1, 2), (2, 0, 4)]:
        up, down = replicas.copy(), replicas.copy()
        up[index] += step
        down[index] -= step
        assert np.isclose((energy(up) - energy(down)) / (2 * step), pull[index], rtol=1e-6)


def test_the_rules_commute_with_any_linear_map(arrays):
    w, centre, gradient = (np.asarray(a) for a in arrays)
    image = np.random.default_rng(9).normal(size=(5, 4))
    step = entropic.descend(w, gradient + entropic.elastic_pull(w, centre, 0.3), 0.1)
    mapped = gradient @ image + entropic.elastic_pull(w @ image, centre @ image, 0.3)
    assert np.allclose(step @ image, entropic.descend(w @ image, mapped, 0.1))
