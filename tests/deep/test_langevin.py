"""The compiled passes of Entropy-SGD: their noise, and the same weights as in plain torch."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from deep import EntropySGD
from deep.optimizers import langevin
from deep.optimizers._kernels_langevin import philox
from deep.optimizers.langevin import CHUNK, Draw, in_one_pass, kick
from deep.optimizers.tensor_list import TensorList
from tests.reference import philox as reference

pytestmark = pytest.mark.compiled

# Known answers published with the generator (Random123, kat_vectors).
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0)
KNOWN = [
    ((0,) * 6, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 6, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (PI, (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]


@pytest.mark.parametrize(("words", "answer"), KNOWN)
def test_known_answers_of_philox(words, answer):
    assert tuple(philox(*map(np.uint32, words))) == answer
    assert reference.philox_4x32(words[:4], words[4:]) == answer


def noise(shape, seed=3, draw=0, number=0):
    values = torch.zeros(shape)
    kick([values], 1.0, 1.0, Draw(seed, draw, [number]))
    return values


@pytest.mark.parametrize("count", [1, 2048, 5000])
def test_noise_is_a_function_of_seed_draw_tensor_and_place(count):
    seed, draw, number = 2**40 + 7, 12, 5
    ours = noise((count,), seed, draw, number).numpy()
    expected = reference.normals(seed, draw, number, count)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=5e-6)


def test_noise_is_gaussian_and_independent():
    size = 400_000
    draws = [noise((size,)), noise((size,), draw=1), noise((size,), number=1)]
    draws.append(noise((size,), seed=4))
    for z in (z.double() for z in draws):
        assert abs(z.mean()) < 5 / size**0.5
        assert abs(z.square().mean() - 1) < 5 * (2 / size) ** 0.5
        assert abs(z.pow(4).mean() - 3) < 5 * (96 / size) ** 0.5
        assert abs((z[1:] * z[:-1]).mean()) < 5 / size**0.5
    correlations = torch.corrcoef(torch.stack(draws).double()) - torch.eye(4)
    assert correlations.abs().max() < 5 / size**0.5


def test_noise_does_not_depend_on_threads():
    before = torch.get_num_threads()
    values = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        values.append(noise((3, CHUNK)))
    torch.set_num_threads(before)
    assert torch.equal(*values)


def network():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.Flatten(), nn.Linear(180, 3)
    )
    return model.to(memory_format=torch.channels_last)


def train(eps, noise_enters="weights"):
    model = network()
    optimizer = EntropySGD(
        model.parameters(), partial(torch.optim.SGD, momentum=0.9, nesterov=True), lr=0.7,
        inner_lr=0.05, inner_steps=4, noise=eps, gamma=0.3, noise_enters=noise_enters,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    for step in range(11):
        images = torch.randn(8, 3, 8, 8, generator=generator)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), torch.arange(8) % 3)
        # At every third step one parameter gets no gradient.
        loss.backward()
        if step % 3 == 2:
            model[0].bias.grad = None
        optimizer.step()
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


@pytest.mark.parametrize("noise_enters", ["weights", "gradient"])
def test_plain_torch_with_the_same_normals_takes_the_same_trajectory(monkeypatch, noise_enters):
    """Only rounding differs. The kernel also takes 1×1 convolutions in channels_last."""
    compiled = train(0.3, noise_enters)

    def normals(tensors, draw):
        noise = [torch.zeros_like(t) for t in tensors]
        langevin._in_threads(noise, noise, 0.0, 1.0, 1.0, draw)
        return TensorList(noise)

    monkeypatch.setattr(langevin, "in_one_pass", lambda *_: False)
    monkeypatch.setattr(langevin, "gaussians", normals)
    torch.testing.assert_close(train(0.3, noise_enters), compiled, rtol=0, atol=1e-6)
    assert (train(0.0) - compiled).abs().max() > 0.01


def test_a_weight_that_the_kernel_writes_is_a_changed_weight_for_autograd():
    """As after any in-place operation, autograd refuses the old graph."""
    weight = nn.Parameter(torch.ones(3))
    optimizer = EntropySGD([weight], lr=0.7, inner_lr=0.0, gamma=0.3, noise=0.3)
    loss = (weight**2).sum()
    loss.backward(retain_graph=True)
    before = weight._version
    kick([weight], 1.0, 1.0, Draw(0, 0, [0]))
    assert weight._version > before
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    optimizer.step()


def test_where_the_kernels_do_not_apply():
    x = torch.zeros(4, 4)
    assert in_one_pass([x], [x.clone()]) and in_one_pass([], [])
    assert not in_one_pass([x], [x.t()])
    assert not in_one_pass([x[:, ::2]])
    assert not in_one_pass([x.double()]) and not in_one_pass([x.bfloat16()])


def test_one_draw_makes_independent_normals_in_the_memory_order_of_each_tensor():
    """This path is used where the kernels do not apply, as on a GPU."""
    convolution = torch.empty(8, 4, 3, 3).to(memory_format=torch.channels_last)
    tensors = [
        convolution,
        torch.empty(50, 40),
        torch.empty(60, 7)[:, ::2],
        torch.empty(9).double(),
    ]
    noise = langevin.gaussians(tensors, Draw(1, 0, [0, 1, 2, 3])).tensors
    for z, tensor in zip(noise, tensors, strict=True):
        assert (z.shape, z.dtype) == (tensor.shape, tensor.dtype)
    assert noise[0].stride() == convolution.stride()
    values = torch.cat([z.reshape(-1).double() for z in noise])
    count = len(values)
    assert len(values.unique()) > count - 5  # float32 repeats a value now and then
    assert abs(values.mean()) < 4 / count**0.5 and abs(values.std() - 1) < 4 / (2 * count) ** 0.5
