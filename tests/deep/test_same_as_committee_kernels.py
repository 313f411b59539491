"""The torch optimizers and the compiled committee kernels take the same trajectory.

They have the same machine, minibatches, noise, β, ω and γ. A base optimizer renormalises the rows
after every step, as the committee does. The kernels compute in float32 and torch in float64, so
only rounding differs.
"""

from __future__ import annotations

import numpy as np
import torch

from committee import _kernels_epochs
from committee._random import LANES, sfc64_lanes
from committee.schedules import Exponential
from deep import EntropySGD, ReplicatedSGD
from deep.optimizers import langevin
from deep.optimizers.tensor_list import TensorList
from tests.reference import training as literal

K, N, P, B = 3, 20, 24, 8
STEPS = P // B


class NormalisedSGD(torch.optim.SGD):
    """A vanilla step, then rows of norm one."""

    @torch.no_grad()
    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                p /= p.norm(dim=1, keepdim=True)


def problem():
    rng = np.random.default_rng(3)
    patterns = np.where(rng.random((P, N)) < 0.5, -1.0, 1.0)
    labels = np.where(rng.random(P) < 0.5, -1.0, 1.0)
    rows = np.vstack([patterns, np.zeros(N)]).astype(np.float32)
    lengths = np.append(np.full(P, N), 0)
    return rng, patterns, labels, (rows, lengths, np.append(labels, 0.0).astype(np.float32))


def unit_rows(rng, *shape):
    weights = rng.uniform(-1, 1, (*shape, N))
    return weights / np.linalg.norm(weights, axis=-1, keepdims=True)


def minibatches(rng, *shape):
    """(…, STEPS, B): partitions of the patterns, each minibatch in ascending order."""
    parts = [np.sort(rng.permutation(P).reshape(STEPS, B)) for _ in range(int(np.prod(shape)))]
    return np.array(parts).reshape(*shape, STEPS, B)


def backward(weight, patterns, labels, batch, beta, omega):
    """Gradient of the summed loss log(1 + exp(−2ωσ·output))/(2ω) into ``weight.grad``."""
    x, sigma = torch.from_numpy(patterns[batch]), torch.from_numpy(labels[batch])
    output = torch.tanh(beta * x @ weight.T).sum(1) / K**0.5
    weight.grad = None
    (torch.nn.functional.softplus(-2 * omega * sigma * output) / (2 * omega)).sum().backward()


def test_replicated_sgd():
    rng, patterns, labels, arrays = problem()
    y, epochs, period, lr = 4, 20, 2, 0.03
    start, batches = unit_rows(rng, y, K), minibatches(rng, epochs, y)
    time = np.arange(epochs)
    betas, omegas = Exponential(1.0, 0.02)(time), Exponential(0.5, 0.03)(time)
    gammas = Exponential(0.05, 0.2)(time)

    kernel = start.astype(np.float32)
    _kernels_epochs.rsgd_epochs(
        kernel, *arrays, batches, np.float32(lr), betas, omegas, np.float32(1.0),
        period * gammas, period, 0, 0.0,
    )  # fmt: skip

    models = [torch.nn.Linear(N, K, bias=False).double() for _ in range(y)]
    for model, weights in zip(models, start, strict=True):
        model.weight.data = torch.from_numpy(weights.copy())
    optimizer = ReplicatedSGD(
        models, NormalisedSGD, lr=lr, coupling_period=period,
        gamma=lambda step: gammas[int(step) // STEPS],
    )  # fmt: skip
    for epoch in range(epochs):
        for step in range(STEPS):
            for a, model in enumerate(models):
                batch = batches[epoch, a, step]
                backward(model.weight, patterns, labels, batch, betas[epoch], omegas[epoch])
            optimizer.step()
    ours = np.stack([model.weight.detach().numpy() for model in models])
    np.testing.assert_allclose(ours, kernel, rtol=0, atol=1e-5)
    assert np.abs(ours - start).max() > 0.1


def test_entropy_sgd_with_its_noise(monkeypatch):
    rng, patterns, labels, arrays = problem()
    L, epochs, lr, inner_lr, noise, averaging = 4, 20, 0.5, 0.02, 0.1, 0.75
    start = unit_rows(rng, K)
    # An epoch has L passes. The inner loops take their minibatches from this one queue.
    batches = minibatches(rng, epochs, L).reshape(epochs, STEPS, L, B)
    seed = np.random.SeedSequence(2)
    lanes = sfc64_lanes(seed.spawn(1 + LANES)[1:])
    generators = literal.langevin_lanes(seed, LANES)
    time = np.arange(epochs)
    betas, omegas = Exponential(1.0, 0.02)(time), Exponential(0.5, 0.03)(time)
    gammas = Exponential(1.0, 0.1)(time)

    kernel = start.astype(np.float32)
    _kernels_epochs.esgd_epochs(
        kernel, *arrays, batches, lanes, np.float32(lr), np.float32(inner_lr), np.float32(noise),
        np.float32(averaging), betas, omegas, np.float32(1.0), gammas, 0.0,
    )  # fmt: skip

    weight = torch.nn.Parameter(torch.from_numpy(start.copy()))
    # In a vanilla step, noise in the gradient is noise in the weights. It comes before the
    # renormalisation, as in the kernel.
    optimizer = EntropySGD(
        [weight], NormalisedSGD, outer_base=NormalisedSGD, lr=lr, inner_lr=inner_lr,
        inner_steps=L, noise=noise, averaging=averaging, noise_enters="gradient",
        gamma=lambda step: gammas[int(step) // STEPS],
    )  # fmt: skip

    def same_noise(tensors, draw):
        drawn[0] += len(tensors)
        return TensorList([torch.from_numpy(literal.langevin_noise(generators, (K, N)))])

    drawn = [0]
    monkeypatch.setattr(langevin, "gaussians", same_noise)
    for epoch in range(epochs):
        for outer in range(STEPS):
            for inner in range(L):
                batch = batches[epoch, outer, inner]
                backward(weight, patterns, labels, batch, betas[epoch], omegas[epoch])
                optimizer.step()
    assert drawn[0] == epochs * STEPS * L
    ours = weight.detach().numpy()
    np.testing.assert_allclose(ours, kernel, rtol=0, atol=1e-5)
    assert np.abs(ours - start).max() > 0.1
