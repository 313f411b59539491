"""The compiled passes of Entropy-SGD: their noise, and the same weights as without them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from deep import EntropySGD
from deep.optimizers import langevin, sgd_inner_step
from deep.optimizers._kernels_langevin import add_noise, philox
from deep.optimizers.cpu_passes import CHUNK, in_one_pass
from deep.optimizers.langevin import LangevinNoise
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
    source = LangevinNoise([torch.zeros(1)], seed)
    source.draws = draw
    values = torch.zeros(shape)
    source.add_to([values], 1.0, 1.0, [number])
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


class OtherSGD(torch.optim.SGD):
    """The same steps, by an optimizer of which the package knows nothing."""


NESTEROV = {"momentum": 0.9, "nesterov": True}


def train(eps, noise_enters="weights", steps=11, base=OtherSGD, **options):
    model = network()
    optimizer = EntropySGD(
        model.parameters(), partial(base, **(options or NESTEROV)), lr=0.7,
        inner_lr=0.05, inner_steps=4, noise=eps, gamma=0.3, noise_enters=noise_enters,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        images = torch.randn(8, 3, 8, 8, generator=generator)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), torch.arange(8) % 3)
        # Sometimes a parameter has no part in the loss.
        loss.backward()
        if step % 3 == 2:
            model[0].bias.grad = None
        optimizer.step()
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def test_without_noise_the_kernels_change_no_bit(monkeypatch):
    fused = train(0.0)
    calls = []
    monkeypatch.setattr(langevin, "in_one_pass", lambda *lists: calls.append(lists))
    assert torch.equal(train(0.0), fused)
    # The kernels would have taken all of them: 1×1 convolutions in channels_last too. At the
    # first of every 4 inner steps there is nothing to pull; two outer steps.
    assert len(calls) == 11 + (11 - 3) + 2 and all(in_one_pass(*lists) for lists in calls)


@pytest.mark.parametrize("noise_enters", ["weights", "gradient"])
def test_with_noise_they_are_told_the_same_numbers(monkeypatch, noise_enters):
    """The general path, given the kernels' normals, takes the same trajectory."""
    fused = train(0.3, noise_enters)
    shapes = [p.shape for p in network().parameters()]
    assert len(set(shapes)) == len(shapes)

    def gaussian(self, p):
        z = np.zeros(p.numel(), np.float32)
        number = np.uint32(shapes.index(p.shape))
        add_noise(z, np.float32(1), self.seed, np.uint32(self.draws), number, 0)
        return torch.empty_like(p).set_(
            torch.from_numpy(z).untyped_storage(), 0, p.shape, p.stride()
        )

    def gaussians(self, tensors):
        return TensorList(gaussian(self, p) for p in tensors)

    monkeypatch.setattr(langevin, "in_one_pass", lambda *_: False)
    monkeypatch.setattr(LangevinNoise, "gaussians", gaussians)
    torch.testing.assert_close(train(0.3, noise_enters), fused, rtol=0, atol=1e-6)
    assert (train(0.0) - fused).abs().max() > 0.01


@pytest.mark.parametrize("eps", [0.0, 0.3])
@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        {"momentum": 0.9},
        {"momentum": 0.0, "weight_decay": 0.01},
        NESTEROV | {"fused": True},
    ],
)
def test_sgd_in_one_pass_takes_the_same_trajectory(monkeypatch, options, eps):
    """Up to rounding: torch fuses a multiplication and an addition here and there."""
    around = train(eps, **options | {"fused": None})  # which has no place for late gradients
    steps = []
    step = sgd_inner_step.step
    monkeypatch.setattr(sgd_inner_step, "step", lambda *a: (steps.append(1), step(*a)))
    torch.testing.assert_close(
        train(eps, base=torch.optim.SGD, **options), around, rtol=0, atol=2e-6
    )
    assert len(steps) == 11
    assert (around - train(eps, base=torch.optim.SGD, momentum=0.5)).abs().max() > 0.01


def large_steps(base, threads=1):
    """A tensor of several pieces after three inner steps and an outer one."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(2)
    weight = nn.Parameter(torch.randn(2 * CHUNK + 5000, generator=generator))
    optimizer = EntropySGD(
        [weight], partial(base, **NESTEROV), lr=0.7, inner_lr=0.05, inner_steps=3, noise=0.3,
        gamma=0.3,
    )  # fmt: skip
    for _ in range(4):
        weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()
    torch.set_num_threads(before)
    return weight.detach()


def test_sgd_in_one_pass_over_several_pieces_and_threads():
    whole = large_steps(torch.optim.SGD)
    torch.testing.assert_close(whole, large_steps(OtherSGD), rtol=0, atol=4e-6)
    assert torch.equal(whole, large_steps(torch.optim.SGD, threads=3))


def test_the_momentum_is_kept_where_sgd_keeps_it():
    """Also where it is not reset, and where a parameter gets its first gradient late."""
    states = []
    for base in (torch.optim.SGD, OtherSGD):
        model = network()
        optimizer = EntropySGD(
            model.parameters(), partial(base, **NESTEROV), lr=0.7, inner_lr=0.05, inner_steps=4,
            noise=0.0, gamma=0.3, reset_inner=False,
        )  # fmt: skip
        for step in range(7):
            for i, p in enumerate(model.parameters()):
                p.grad = torch.full_like(p, 1 + step + i) if i > 1 or step > 4 else None
            optimizer.step()
        states.append(optimizer.inner.state_dict()["state"])
    assert states[0].keys() == states[1].keys() and len(states[0]) == 6
    for i, state in states[0].items():
        assert state["momentum_buffer"].abs().min() > 1
        torch.testing.assert_close(state["momentum_buffer"], states[1][i]["momentum_buffer"])


@pytest.mark.parametrize(
    "change", ["nothing", "subclass", "dampening", "maximize", "hook", "step", "double"]
)
def test_only_a_plain_sgd_is_taken_in_one_pass(change):
    kind = OtherSGD if change == "subclass" else torch.optim.SGD
    options = {"dampening": 0.1} if change == "dampening" else {}
    dtype = torch.float64 if change == "double" else torch.float32
    weight = nn.Parameter(torch.ones(3, dtype=dtype))
    optimizer = EntropySGD(
        [weight], partial(kind, momentum=0.9, maximize=change == "maximize", **options),
        lr=0.7, inner_lr=0.05, gamma=0.3,
    )  # fmt: skip
    hooked = []
    if change == "hook":
        optimizer.inner.register_step_pre_hook(lambda *_: hooked.append(1))
    if change == "step":
        torch.optim.lr_scheduler.StepLR(optimizer.inner, 8)
    for _ in range(2):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    parts = [optimizer._loop.active(0, 0.75)]
    assert sgd_inner_step.applies(optimizer.inner, parts) == (change == "nothing")
    assert len(hooked) == 2 * (change == "hook")


def test_where_the_kernels_do_not_apply():
    x = torch.zeros(4, 4)
    assert in_one_pass([x], [x.clone()]) and in_one_pass([], [])
    assert not in_one_pass([x], [x.t()])
    assert not in_one_pass([x[:, ::2]])
    assert not in_one_pass([x.double()]) and not in_one_pass([x.bfloat16()])


def test_one_draw_makes_independent_normals_in_the_memory_order_of_each_tensor():
    """Where the kernels do not apply, as on a GPU."""
    convolution = torch.empty(8, 4, 3, 3).to(memory_format=torch.channels_last)
    tensors = [
        convolution,
        torch.empty(50, 40),
        torch.empty(60, 7)[:, ::2],
        torch.empty(9).double(),
    ]
    noise = LangevinNoise(tensors, seed=1).gaussians(tensors).tensors
    for z, tensor in zip(noise, tensors, strict=True):
        assert (z.shape, z.dtype) == (tensor.shape, tensor.dtype)
    assert noise[0].stride() == convolution.stride()
    values = torch.cat([z.reshape(-1).double() for z in noise])
    count = len(values)
    assert len(values.unique()) > count - 5  # float32 repeats a value now and then
    assert abs(values.mean()) < 4 / count**0.5 and abs(values.std() - 1) < 4 / (2 * count) ** 0.5
