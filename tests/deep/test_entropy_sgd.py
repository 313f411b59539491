"""Entropy-SGD: equality with Algorithm 1 and with Lookahead, exact resume, parameter handling."""

from __future__ import annotations

import io
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from committee.schedules import Exponential
from deep import AutomaticFocusing, EntropySGD
from deep.optimizers import langevin as noise
from deep.optimizers.gamma import StabilityWarning
from tests.deep.networks import CommitteeMachine, batch, loss, perceptron, sign_patterns
from tests.reference import entropic_algorithms

MOMENTUM = partial(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=1e-2)


def train(model, optimizer, steps, start=0):
    for step in range(start, start + steps):
        x, t = batch(step)
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(model(x), t)
        value.backward()
        optimizer.step(loss=value)


@pytest.mark.parametrize("noise_enters", ["weights", "gradient"])
def test_follows_algorithm_1_literally(noise_enters):
    L, outer_steps, seed = 4, 6, 11
    machine = CommitteeMachine()
    start = machine.weight.detach().numpy().copy()
    schedule = Exponential(0.7, 0.1)
    optimizer = EntropySGD(
        machine.parameters(), lr=0.6, inner_lr=0.05, inner_steps=L, noise=0.3, averaging=0.75,
        gamma=schedule, noise_enters=noise_enters, seed=seed,
    )  # fmt: skip

    def gradients(w, t):
        other = CommitteeMachine()
        other.weight.data = torch.from_numpy(w)
        x, y = sign_patterns(10, 7, seed=t)
        loss(other(x), y).backward()
        return other.weight.grad.numpy()

    for t in range(L * outer_steps):
        x, y = sign_patterns(10, 7, seed=t)
        optimizer.zero_grad()
        loss(machine(x), y).backward()
        optimizer.step()

    gaussians = [
        noise.gaussians([machine.weight], noise.Draw(seed, t, [0])).tensors[0].numpy()
        for t in range(L * outer_steps)
    ]
    expected = entropic_algorithms.entropy_sgd(
        start, gradients, L=L, lr=0.6, inner_lr=0.05, noise=0.3, averaging=0.75,
        gammas=schedule(np.arange(outer_steps)), gaussians=gaussians,
    )  # fmt: skip
    np.testing.assert_allclose(machine.weight.detach().numpy(), expected, rtol=1e-12, atol=1e-13)
    assert np.abs(expected - start).max() > 0.1


@pytest.mark.parametrize("reset", [False, True])
def test_without_noise_average_and_elastic_term_it_is_lookahead(reset):
    lookahead = pytest.importorskip("pytorch_optimizer").Lookahead
    ours, theirs = perceptron(3).double(), perceptron(3).double()
    eta = 0.4
    esgd = EntropySGD(
        ours.parameters(), MOMENTUM, outer_base=torch.optim.SGD, lr=eta, inner_lr=0.05,
        inner_steps=5, noise=0.0, averaging=0.0, gamma=0.0, reset_inner=reset,
    )  # fmt: skip
    oracle = lookahead(
        MOMENTUM(theirs.parameters(), lr=0.05), k=5, alpha=eta,
        pullback_momentum="reset" if reset else "none",
    )  # fmt: skip
    for step in range(35):
        x, t = batch(step)
        for model, optimizer in ((ours, esgd), (theirs, oracle)):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x.double()), t).backward()
            optimizer.step()
    for mine, his in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, his, rtol=1e-12, atol=1e-13)


@pytest.mark.filterwarnings("ignore::deep.optimizers.gamma.StabilityWarning")
@pytest.mark.parametrize("base", [MOMENTUM, torch.optim.AdamW])
@pytest.mark.parametrize("cut", [10, 13])
def test_resumes_bit_for_bit_inside_an_inner_loop(base, cut):
    def build(seed):
        model = perceptron(seed)
        optimizer = EntropySGD(
            model.parameters(), base, lr=0.5, inner_lr=0.02, noise=1e-2, seed=seed, outer_base=base,
            gamma=AutomaticFocusing(growth=10, total=6),
        )  # fmt: skip
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 8)
        return model, optimizer, schedule

    def run(model, optimizer, schedule, steps, start=0):
        for step in range(start, start + steps):
            train(model, optimizer, 1, step)
            schedule.step()

    whole = build(1)
    run(*whole, 24)

    model, optimizer, schedule = first = build(1)
    run(*first, cut)
    file = io.BytesIO()
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    torch.save({name: part.state_dict() for name, part in parts.items()}, file)
    file.seek(0)
    stored = torch.load(file, weights_only=True)

    model, optimizer, schedule = second = build(2)
    model.load_state_dict(stored["model"])
    optimizer.load_state_dict(stored["optimizer"])
    schedule.load_state_dict(stored["schedule"])
    run(*second, 24 - cut, start=cut)

    for a, b in zip(whole[0].parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert whole[1].gamma == optimizer.gamma > 0


@pytest.mark.filterwarnings("ignore::deep.optimizers.gamma.StabilityWarning")
def test_measures_gamma0_in_a_first_loop_without_elastic_term():
    model, plain = perceptron(5), perceptron(5)
    start = [p.detach().clone() for p in model.parameters()]
    options = {"lr": 1.0, "inner_lr": 0.1, "inner_steps": 3, "noise": 0.0}
    optimizer = EntropySGD(
        model.parameters(), gamma=AutomaticFocusing(growth=10, total=5), **options
    )
    x, t = batch(0)
    first_loss = nn.functional.cross_entropy(model(x), t).item()
    train(model, optimizer, 3)

    sgd = torch.optim.SGD(plain.parameters(), lr=0.1)
    for step in range(3):
        x, t = batch(step)
        sgd.zero_grad()
        nn.functional.cross_entropy(plain(x), t).backward()
        sgd.step()
    distance = 0.5 * sum(
        ((p - s) ** 2).sum().item() for p, s in zip(plain.parameters(), start, strict=True)
    )
    assert optimizer.gamma0 == pytest.approx(first_loss / distance, rel=1e-5)
    assert optimizer.gamma == pytest.approx(optimizer.gamma0 * 10 ** (1 / 5))


def test_an_inner_loop_beyond_its_limit_is_announced():
    """Vanilla steps run away with η'γ > 2 but not below, and only then is there a warning."""
    for kick, stable in ((1.9, True), (2.1, False)):
        weight = nn.Parameter(torch.ones(3))
        optimizer = EntropySGD(
            [weight], lr=1.0, inner_lr=0.1, inner_steps=300, gamma=kick / 0.1, noise=0.0
        )
        if stable:
            assert optimizer.check_stability()
        else:
            with pytest.warns(StabilityWarning, match=r"is 2\.1, beyond its limit of stability 2;"):
                assert not optimizer.check_stability()
        for _ in range(299):
            weight.grad = torch.full_like(weight, 1e-3)
            optimizer.step()
        assert ((weight - 1).abs().max() < 1e-3) == stable


def test_frozen_and_unused_parameters_stay_where_they_are():
    model = perceptron(6)
    unused = nn.Parameter(torch.ones(2))
    for p in model[0].parameters():
        p.requires_grad_(False)
    before = [p.detach().clone() for p in model[0].parameters()]
    optimizer = EntropySGD(
        [*model.parameters(), unused], MOMENTUM, outer_base=MOMENTUM, lr=0.5, inner_lr=0.05,
        noise=0.1, gamma=1.0,
    )  # fmt: skip
    moving_before = model[3].weight.detach().clone()
    train(model, optimizer, 10)
    for p, value in zip(model[0].parameters(), before, strict=True):
        assert torch.equal(p, value)
    assert torch.equal(unused, torch.ones(2))
    assert not torch.equal(model[3].weight, moving_before)


def test_two_groups_have_their_own_rates_and_options():
    """A group with both rates zero does not move; the other moves as if it were alone."""

    def groups(model):
        return [
            {"params": model[0].parameters(), "lr": 0.0, "inner_lr": 0.0, "weight_decay": 0.0},
            {"params": model[3].parameters(), "weight_decay": 0.1},
        ]

    model, frozen = perceptron(7), perceptron(7)
    options = {"lr": 0.7, "inner_lr": 0.05, "noise": 0.0, "gamma": 0.3}
    train(model, EntropySGD(groups(model), MOMENTUM, outer_base=MOMENTUM, **options), 12)
    frozen[0].requires_grad_(False)
    alone = partial(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=0.1)
    train(frozen, EntropySGD(frozen[3].parameters(), alone, outer_base=alone, **options), 12)
    for a, b in zip(model.parameters(), frozen.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_closure_gives_the_same_steps():
    one, two = perceptron(9), perceptron(9)
    options = {"lr": 0.5, "inner_lr": 0.1, "gamma": 0.1, "noise": 0.1}
    train(one, EntropySGD(one.parameters(), **options), 7)
    optimizer = EntropySGD(two.parameters(), **options)
    for step in range(7):
        x, t = batch(step)

        def closure(x=x, t=t):
            optimizer.zero_grad()
            value = nn.functional.cross_entropy(two(x), t)
            value.backward()
            return value

        assert optimizer.step(closure).item() > 0
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_noise_has_the_variance_of_algorithm_1():
    """With a zero gradient, w' − w after one step is √η' ε N(0, I)."""
    weight = nn.Parameter(torch.zeros(200_000))
    optimizer = EntropySGD([weight], lr=1.0, inner_lr=0.04, noise=0.5, gamma=0.0)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    scale = weight.std().item()
    assert scale == pytest.approx(0.04**0.5 * 0.5, abs=4 * 0.1 / (2 * 200_000) ** 0.5)


class WithoutRate(torch.optim.Optimizer):
    def __init__(self, params, lr=None):
        super().__init__(params, {})

    def step(self, closure=None):
        return None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"inner_steps": 0}, "inner_steps is 0"),
        ({"lr": -1.0}, "-1.0; a number"),
        ({"inner_lr": float("nan")}, "inner_lr is nan"),
        ({"averaging": 1.0}, r"averaging is 1.0; a number in \[0, 1\)"),
        ({"noise": -1e-4}, "noise is -0.0001"),
        ({"gamma": -0.5}, "gamma is -0.5"),
        ({"noise_enters": "both"}, "noise_enters is 'both'"),
        ({"base": WithoutRate}, "has no 'lr'"),
        ({"base": torch.optim.LBFGS}, "needs a closure"),
        ({"base": lambda groups: None}, "could not be called"),
    ],
)
def test_bad_input(change, words):
    options = {"lr": 0.5, "inner_lr": 0.1, "gamma": 0.1} | change
    with pytest.raises(ValueError, match=words):
        EntropySGD(perceptron().parameters(), **options)


def test_automatic_gamma_without_a_loss_is_refused():
    model = perceptron()
    optimizer = EntropySGD(
        model.parameters(), lr=0.5, inner_lr=0.1, gamma=AutomaticFocusing(10, 10)
    )
    model(batch(0)[0]).sum().backward()
    with pytest.raises(ValueError, match="step got no loss"):
        optimizer.step()


def test_the_state_of_another_model_is_refused():
    optimizer = EntropySGD(perceptron().parameters(), lr=0.5, inner_lr=0.1, gamma=0.1)
    other = EntropySGD(nn.Linear(3, 2).parameters(), lr=0.5, inner_lr=0.1, gamma=0.1)
    with pytest.raises(ValueError, match="another model"):
        optimizer.load_state_dict(other.state_dict())
