"""Replicated-SGD: equality with Algorithm 2, limits, focusing, stability, centre, resume."""

from __future__ import annotations

import io
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from committee.schedules import Cosine, Exponential
from deep import AutomaticFocusing, ReplicatedSGD
from deep.optimizers.gamma import StabilityWarning, largest_stable_kick
from deep.optimizers.replicas import spread
from tests.deep.networks import CommitteeMachine, batch, loss, perceptron, sign_patterns
from tests.reference import entropic_algorithms

MOMENTUM = partial(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=1e-2)


def train(models, optimizer, steps, start=0):
    for step in range(start, start + steps):
        optimizer.zero_grad()
        for index, model in enumerate(models):
            x, t = batch(100 * step + index)
            nn.functional.cross_entropy(model(x), t).backward()
        optimizer.step()


def coast(models, optimizer, steps):
    """Steps without a loss."""
    for _ in range(steps):
        for p in (p for model in models for p in model.parameters()):
            p.grad = torch.zeros_like(p)
        optimizer.step()


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_follows_algorithm_2_literally():
    y, K, steps = 3, 4, 26
    machines = [CommitteeMachine(seed=a) for a in range(y)]
    starts = [machine.weight.detach().numpy().copy() for machine in machines]
    schedule = Exponential(0.05, 0.1)

    def gradients(w, a, t):
        other = CommitteeMachine()
        other.weight.data = torch.from_numpy(w)
        patterns, labels = sign_patterns(10, 7, seed=100 * a + t)
        loss(other(patterns), labels).backward()
        return other.weight.grad.numpy()

    optimizer = ReplicatedSGD(machines, lr=0.05, gamma=schedule, coupling_period=K)
    for t in range(steps):
        optimizer.zero_grad()
        for a, machine in enumerate(machines):
            patterns, labels = sign_patterns(10, 7, seed=100 * a + t)
            loss(machine(patterns), labels).backward()
        optimizer.step()
    expected = entropic_algorithms.replicated_sgd(
        starts, gradients, lr=0.05, gammas=schedule(np.arange(steps)), K=K
    )
    for machine, w in zip(machines, expected, strict=True):
        np.testing.assert_allclose(machine.weight.detach().numpy(), w, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("coupling", ["explicit", "implicit"])
@pytest.mark.parametrize(("y", "gamma"), [(1, 0.5), (3, 0.0)])
@pytest.mark.parametrize("base", [MOMENTUM, torch.optim.AdamW])
def test_one_replica_or_no_coupling_is_the_base_optimizer(y, gamma, coupling, base):
    models, alone = [perceptron(a) for a in range(y)], [perceptron(a) for a in range(y)]
    train(models, ReplicatedSGD(models, base, lr=0.05, gamma=gamma, coupling_period=2,
                                coupling=coupling), 20)  # fmt: skip
    for index, model in enumerate(alone):
        optimizer = base(model.parameters(), lr=0.05)
        for step in range(20):
            x, t = batch(100 * step + index)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), t).backward()
            optimizer.step()
        for mine, plain in zip(models[index].parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(mine, plain, rtol=0, atol=1e-7 if y == 1 else 0)


def test_without_a_loss_the_implicit_kick_contracts_by_the_stated_factor():
    models = [perceptron(a).double() for a in range(3)]
    optimizer = ReplicatedSGD(models, lr=0.3, gamma=4.0, coupling_period=5, coupling="implicit")
    before = optimizer.squared_distance()
    coast(models, optimizer, 10)
    factor = 1 / (1 + 0.3 * 5 * 4.0)
    assert optimizer.squared_distance() == pytest.approx(before * factor**4, rel=1e-10)


def test_implicit_and_explicit_kicks_agree_when_small():
    distances = []
    for coupling in ("explicit", "implicit"):
        models = [perceptron(a).double() for a in range(3)]
        optimizer = ReplicatedSGD(models, lr=1e-3, gamma=1.0, coupling_period=1, coupling=coupling)
        coast(models, optimizer, 500)
        distances.append(optimizer.squared_distance())
    assert distances[0] == pytest.approx(distances[1], rel=2e-3)


@pytest.mark.parametrize(
    ("momentum", "nesterov", "period", "limit"),
    [(0.9, True, 10, 0.37), (0.9, True, 3, 0.83), (0.9, True, 1, 1.36), (0.0, False, 10, 2.0),
     (0.9, False, 1, 3.8)],
)  # fmt: skip
def test_limit_of_stability(momentum, nesterov, period, limit):
    assert largest_stable_kick(momentum, nesterov, period) == pytest.approx(limit, abs=5e-3)


@pytest.mark.parametrize(("period", "grows"), [(10, 0.97), (10, 1.03), (1, 0.97), (1, 1.03)])
def test_replicas_really_grow_apart_beyond_the_limit(period, grows):
    lr, base = 0.1, partial(torch.optim.SGD, momentum=0.9, nesterov=True)
    kick = grows * largest_stable_kick(0.9, True, period)
    models = [perceptron(a).double() for a in range(3)]
    optimizer = ReplicatedSGD(
        models, base, lr=lr, gamma=kick / (lr * period), coupling_period=period
    )
    before = optimizer.squared_distance()
    coast(models, optimizer, 600 * period)
    assert (optimizer.squared_distance() > before) == (grows > 1)


def test_the_schedule_is_checked_before_training():
    models = [perceptron(a) for a in range(2)]
    optimizer = ReplicatedSGD(models, MOMENTUM, lr=0.05, gamma=Cosine(1.0, 100))
    with pytest.warns(StabilityWarning, match="from step 70 of 100"):
        step, kick, limit = optimizer.check_stability(100)
    assert kick > limit and step == 69
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert optimizer.check_stability(100, lambda step: 0.03) is None
        optimizer.coupling = "implicit"
        assert optimizer.check_stability(100) is None


def test_measures_gamma0_with_batch_statistics_and_leaves_no_trace():
    models = [perceptron(a, batch_norm=True) for a in range(3)]
    models[1].eval()
    optimizer = ReplicatedSGD(models, lr=0.1, gamma=AutomaticFocusing(growth=1e4, total=100))
    buffers = [b.clone() for model in models for b in model.buffers()]
    x, t = batch(0, size=64)
    random_state = torch.get_rng_state()
    gamma0 = optimizer.measure_gamma0(lambda model: nn.functional.cross_entropy(model(x), t))
    assert torch.equal(random_state, torch.get_rng_state())
    assert [model.training for model in models] == [True, False, True]
    for b, old in zip((b for m in models for b in m.buffers()), buffers, strict=True):
        assert torch.equal(b, old)

    for model in models:
        model.train()
    losses = sum(nn.functional.cross_entropy(model(x), t).item() for model in models)
    flat = torch.stack([nn.utils.parameters_to_vector(m.parameters()) for m in models]).double()
    distance = 0.5 * ((flat - flat.mean(0)) ** 2).sum().item()
    assert gamma0 == pytest.approx(losses / distance, rel=1e-5)
    optimizer.steps_done = 100
    assert optimizer.gamma == pytest.approx(1e4 * gamma0)


def test_equal_replicas_cannot_be_balanced():
    models = [perceptron(0), perceptron(0)]
    optimizer = ReplicatedSGD(models, lr=0.1, gamma=AutomaticFocusing(1e4, 100))
    with pytest.raises(ValueError, match="the distance 0"):
        optimizer.measure_gamma0(lambda model: 1.0)
    with pytest.raises(RuntimeError, match="call measure_gamma0"):
        optimizer.step()


def test_the_centre_has_mean_weights_and_statistics_and_is_taken_out():
    models = [perceptron(a, batch_norm=True) for a in range(3)]
    optimizer = ReplicatedSGD(models, lr=0.1, gamma=0.1)
    train(models, optimizer, 5)
    states = [{k: v.clone() for k, v in model.state_dict().items()} for model in models]
    with optimizer.centre() as model:
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                mean = sum(state[key] for state in states) / 3
                torch.testing.assert_close(value, mean, rtol=1e-6, atol=1e-7)
        with optimizer.centre():
            pass
        with pytest.raises(RuntimeError, match="holds the weights to evaluate"):
            optimizer.step()
    exported = optimizer.centre_model()
    for model, state in zip(models, states, strict=True):
        for key, value in model.state_dict().items():
            assert torch.equal(value, state[key])
    assert not same(exported, models[0])


@pytest.mark.parametrize("base", [MOMENTUM, torch.optim.AdamW])
def test_resumes_bit_for_bit(base):
    def build(seed):
        models = [perceptron(seed + a) for a in range(3)]
        optimizer = ReplicatedSGD(
            models, base, lr=0.02, coupling_period=3, gamma=AutomaticFocusing(10, 30)
        )
        return models, optimizer

    def measure(optimizer):
        x, t = batch(7)
        optimizer.measure_gamma0(lambda model: nn.functional.cross_entropy(model(x), t))

    whole, optimizer = build(0)
    measure(optimizer)
    train(whole, optimizer, 20)

    models, optimizer = build(0)
    measure(optimizer)
    train(models, optimizer, 7)
    file = io.BytesIO()
    torch.save(
        {"models": [m.state_dict() for m in models], "optimizer": optimizer.state_dict()}, file
    )
    file.seek(0)
    stored = torch.load(file, weights_only=True)
    models, optimizer = build(50)
    for model, state in zip(models, stored["models"], strict=True):
        model.load_state_dict(state)
    optimizer.load_state_dict(stored["optimizer"])
    train(models, optimizer, 13, start=7)
    assert all(same(a, b) for a, b in zip(whole, models, strict=True))


def test_schedulers_drive_all_replicas():
    models = [perceptron(a) for a in range(3)]
    optimizer = ReplicatedSGD(models, MOMENTUM, lr=0.1, gamma=0.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    train(models, optimizer, 1)
    schedule.step()
    assert [base.param_groups[0]["lr"] for base in optimizer.bases] == [0.05] * 3


def test_frozen_parameters_and_two_groups():
    models = [perceptron(a) for a in range(2)]
    for model in models:
        model[0].requires_grad_(False)
    frozen = [model[0].weight.clone() for model in models]
    slow = [model[3].bias.detach().clone() for model in models]

    def groups(model):
        return [
            {"params": [*model[0].parameters(), model[3].weight]},
            {"params": [model[3].bias], "lr": 0.0},
        ]

    optimizer = ReplicatedSGD(models, lr=0.1, gamma=0.5, coupling_period=2, groups=groups)
    weights = [model[3].weight.detach().clone() for model in models]
    train(models, optimizer, 6)
    for model, value, bias, weight in zip(models, frozen, slow, weights, strict=True):
        assert torch.equal(model[0].weight, value)
        assert torch.equal(model[3].bias, bias)
        assert not torch.equal(model[3].weight, weight)


def test_bad_input():
    model = perceptron()
    for models, options, words in (
        ([], {}, "models is empty"),
        ([model, model], {}, "shares parameters"),
        ([model, nn.Linear(3, 2)], {}, "other parameters"),
        ([model, perceptron(1).to("meta")], {}, "different devices"),
        ([model], {"coupling_period": 0}, "coupling_period is 0"),
        ([model], {"coupling": "both"}, "coupling is 'both'"),
    ):
        with pytest.raises(ValueError, match=words):
            ReplicatedSGD(models, lr=0.1, gamma=0.1, **options)
    one = ReplicatedSGD([model], lr=0.1, gamma=0.1)
    two = ReplicatedSGD([perceptron(1), perceptron(2)], lr=0.1, gamma=0.1)
    with pytest.raises(ValueError, match="8 parameter tensors in 2 groups, the model 4 in 1"):
        one.load_state_dict(two.state_dict())
    other = ReplicatedSGD([nn.Linear(3, 2)], lr=0.1, gamma=0.1)
    with pytest.raises(ValueError, match="another model"):
        one.load_state_dict(other.state_dict())


def test_replicas_are_spread_evenly_over_processes():
    assert [list(spread(3, 2, rank)) for rank in range(2)] == [[0], [1, 2]]
    assert [len(spread(7, 3, rank)) for rank in range(3)] == [2, 2, 3]
    with pytest.raises(ValueError, match="4 processes were started for 3 replicas"):
        spread(3, 4, 0)
