"""Local energy of networks: against the committee's, exact restoration, options, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import committee
from committee.flatness import LocalEnergyProfile
from deep import local_energy
from deep.images.datasets import synthetic_images
from deep.images.minibatches import ImageBatches
from tests.deep.networks import perceptron

SIGMAS = [0.0, 0.3, 1.0]


def batches(count=3, size=20):
    generator = torch.Generator().manual_seed(5)
    return [
        (torch.randn(size, 6, generator=generator), torch.randint(3, (size,), generator=generator))
        for _ in range(count)
    ]


class SignMachine(nn.Module):
    """A committee machine of sign units as a two-class classifier."""

    def __init__(self, weights):
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(weights.copy()))

    def forward(self, x):
        votes = torch.where(x @ self.weight.T >= 0, 1.0, -1.0).sum(1)
        return torch.stack([-votes, votes], 1)


def test_agrees_with_the_exact_local_energy_of_a_committee_machine():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(5, 40))
    patterns = np.where(rng.random((300, 40)) < 0.5, -1.0, 1.0)
    labels = committee.predict(weights, patterns)
    exact = committee.local_energy(weights, patterns, labels, [0.0, 0.2, 0.5, 1.0])
    loader = [(torch.from_numpy(patterns), torch.from_numpy((labels > 0).astype(np.int64)))]
    ours = local_energy(SignMachine(weights), loader, sigmas=[0.0, 0.2, 0.5, 1.0], samples=400)
    assert ours.local_energy[0] == exact.local_energy[0] == 0.0
    deviation = (ours.local_energy - exact.local_energy)[1:] / ours.standard_error[1:]
    assert np.abs(deviation).max() < 4
    assert ours.standard_error[1:].max() < 0.01 and exact.local_energy[-1] > 0.1


@pytest.mark.parametrize("bn", ["keep", "recalibrate"])
def test_the_network_is_restored_bit_for_bit(bn):
    model = perceptron(0, batch_norm=True)
    model[2].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    profile = local_energy(model, batches(), sigmas=SIGMAS, samples=3, bn=bn)
    assert isinstance(profile, LocalEnergyProfile)
    assert (profile.bn, profile.scope, profile.samples) == (bn, "all", 3)
    assert profile.at(0.3) == profile.local_energy[1] and profile.local_energy[1:].max() != 0
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    assert modes == [module.training for module in model.modules()]

    def broken():
        yield batches()[0]
        raise OSError("no more data")

    with pytest.raises(OSError, match="no more data"):
        local_energy(model, broken(), sigmas=SIGMAS, samples=3, bn=bn)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_against_a_naive_loop_over_perturbed_copies():
    """Eq. 4 by hand on copies, with other noise, agrees within the error bars."""
    model, loader = perceptron(1), batches(1, 200)
    x = loader[0][0]
    labels = model(x).argmax(1)
    profile = local_energy(model, [(x, labels)], sigmas=[0.7], samples=300)
    torch.manual_seed(9)
    naive = []
    for _ in range(300):
        copy = perceptron(1)
        for p in copy.parameters():
            p.data = p.data + 0.7 * torch.randn(p.shape) * p.data
        naive.append((copy(x).argmax(1) != labels).double().mean().item())
    error = np.hypot(profile.standard_error[0], np.std(naive) / 300**0.5)
    assert abs(profile.local_energy[0] - np.mean(naive)) < 4 * error
    assert profile.reference_error == 0 and profile.local_energy[0] > 0.05


def test_scope_weights_leaves_biases_and_norms_alone():
    """A network that errs only through its bias is flat in the scope of the weights."""
    model = nn.Linear(2, 2)
    model.weight.data.zero_()
    model.bias.data = torch.tensor([1.0, 0.9])
    loader = [(torch.randn(50, 2), torch.zeros(50, dtype=torch.long))]
    assert local_energy(model, loader, sigmas=[1.0], samples=20, scope="weights").local_energy == 0
    assert local_energy(model, loader, sigmas=[1.0], samples=20, scope="all").local_energy > 0


def test_seeds_and_augmented_loaders_repeat():
    data = synthetic_images(train=60, test=20, size=16)
    loader = ImageBatches(data, data.preprocessing(), "train", augment=True, size=25)
    first, again = list(loader), list(loader)
    assert [len(labels) for _, labels in first] == [25, 25, 10]
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 10))
    one, two, other = (
        local_energy(model, loader, sigmas=SIGMAS, samples=2, seed=seed).local_energy
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one, two) and not np.array_equal(one, other)


def test_the_memory_format_is_of_no_consequence():
    """A network may be loaded in another memory format than in training. Its noise is the same."""
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    network.double()  # or the order of sums could change an answer
    loader = [(torch.randn(200, 3, 8, 8).double(), torch.randint(8, (200,)))]
    plain = local_energy(network, loader, sigmas=SIGMAS, samples=3)
    network.to(memory_format=torch.channels_last)
    other = local_energy(network, loader, sigmas=SIGMAS, samples=3)
    np.testing.assert_allclose(other.local_energy, plain.local_energy, rtol=0, atol=1e-12)
    assert plain.standard_error[-1] > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sigmas": [0.2, 0.1]}, "strictly increasing"),
        ({"sigmas": [-0.1]}, "numbers ≥ 0"),
        ({"samples": 1}, "samples is 1; at least 2"),
        ({"scope": "biases"}, "scope is 'biases'"),
        ({"bn": "drop"}, "bn is 'drop'"),
        ({"inputs": []}, "yielded no batch"),
    ],
)
def test_bad_input(options, words):
    arguments = {"inputs": batches(), "sigmas": SIGMAS, "samples": 2} | options
    with pytest.raises(ValueError, match=words):
        local_energy(perceptron(), **arguments)
