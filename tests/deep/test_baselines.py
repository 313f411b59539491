"""The baselines: equal numbers of gradients, exact resume, limits, and a twin of each method."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import nn

from deep.algorithms import ALGORITHMS, BASELINES
from deep.baselines import equal_budget
from deep.device import Device
from deep.images.minibatches import ImageBatches, evaluate
from deep.methods import build_method
from deep.recipes import TABLE, recipe
from deep.training import Training
from tests.deep import test_training
from tests.deep.test_training import DATA, model, run, weights

ALMOST_ONE = 1 - 2**-40  # equals 1 in float32; the library refuses 1 itself


class WithBatchNorm(nn.Sequential):
    def __init__(self, classes):
        super().__init__(
            nn.Flatten(), nn.Linear(768, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.ReLU(),
            nn.Linear(8, classes),
        )  # fmt: skip


@pytest.fixture
def batch_norm(monkeypatch):
    for module in ("training", "models"):
        monkeypatch.setattr(f"deep.{module}.build_model", lambda _, n, **__: WithBatchNorm(n))


def small(algorithm, **changes):
    changes = {"passes": 4, "lr_drops": (2,), "snapshots": (0.75,), "lr": 0.05} | changes
    if algorithm == "schedulefree":
        changes |= {"lr_drops": (), "nesterov": False}
    return test_training.small(algorithm, **changes)


@pytest.mark.parametrize("algorithm", BASELINES)
def test_an_interrupted_run_continues_bit_for_bit(tmp_path, batch_norm, algorithm):
    config = small(algorithm)
    steps = config.steps(6)
    whole = run(config, tmp_path / "whole")
    for place in (3, steps // 2 + 2, steps - 1):  # before the first average, and after
        assert run(config, tmp_path / "cut", stop_after=place) is None
        torch.manual_seed(12345)
    cut = run(config, tmp_path / "cut")
    assert torch.equal(weights(whole), weights(cut))
    assert whole.log.drop(columns="seconds").equals(cut.log.drop(columns="seconds"))
    assert whole.result["test_error"] == cut.result["test_error"]


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, *BASELINES])
def test_runs_of_equal_passes_evaluate_equally_many_gradients(tmp_path, monkeypatch, algorithm):
    gradients = []
    backward = Training._backward
    monkeypatch.setattr(
        Training,
        "_backward",
        lambda self, *rest: (gradients.append(len(rest[2])), backward(self, *rest))[1],
    )
    result = run(small(algorithm), tmp_path)
    copies = 3 if algorithm == "rsgd-xy" else 1  # each replica makes all passes
    assert sum(gradients) == copies * 4 * 96
    assert result.log["passes"].iloc[-1] == result.result["passes"] == copies * 4


@pytest.mark.parametrize("algorithm", BASELINES)
def test_the_stored_network_is_the_one_that_was_evaluated(tmp_path, batch_norm, algorithm):
    """It has the slow or averaged weights and the BatchNorm statistics of these weights."""
    result = run(small(algorithm), tmp_path)
    test = ImageBatches(DATA, DATA.preprocessing(), "test")
    loss, error = evaluate(model(result), test)
    assert error == result.result["test_error"] == result.log["test_error"].iloc[-1]
    assert loss == pytest.approx(result.result["test_loss"], rel=1e-5)
    if algorithm in ("sam", "asam"):
        return
    # The statistics come from one batch of all augmented images and the stored weights.
    ((images, _),) = ImageBatches(DATA, DATA.preprocessing(), "train", augment=True)
    values = model(result)[1](images.flatten(1))
    torch.testing.assert_close(model(result)[2].running_mean, values.mean(0), rtol=0, atol=1e-5)
    torch.testing.assert_close(model(result)[2].running_var, values.var(0), rtol=1e-4, atol=0)


def trained(config):
    """The training weights after every step, and the ``Training``."""
    training = Training(config, DATA, Device("cpu"))
    path = []
    for step in range(training.steps):
        training.step(step)
        path.append(flat(training.models[0]))
    return path, training


def flat(network):
    return torch.cat([p.detach().reshape(-1).clone() for p in network.parameters()])


def evaluated(training):
    with training.network() as network:
        return flat(network)


@pytest.mark.parametrize(
    "config",
    [
        small("lookahead", lookahead_steps=1, lookahead_rate=ALMOST_ONE),
        small("sam", sam_radius=0.0, passes=8, lr_drops=(4,)),
        small("asam", sam_radius=0.0, passes=8, lr_drops=(4,)),
        small("swa", swa_from=1.0),
    ],
    ids=lambda config: config.algorithm.name,
)
def test_limits_are_sgd(config):
    """Lookahead with k = α = 1, SAM with ρ = 0 (twice the gradients), SWA of the last weights."""
    path, training = trained(config)
    plain, sgd = trained(small("sgd"))
    assert len(path) == len(plain) == 24
    assert all(torch.equal(a, b) for a, b in zip(path, plain, strict=True))
    assert torch.equal(evaluated(training), evaluated(sgd))


def test_the_average_of_constant_weights_is_these():
    path, training = trained(small("swa", lr=0.0, swa_from=0.0))
    assert torch.equal(evaluated(training), path[0])


def test_lookahead_moves_the_slow_weights():
    """φ ← φ + α (w − φ) at every k-th step. The slow weights are the ones evaluated."""
    config = small("lookahead", lookahead_steps=4, lookahead_rate=0.5, passes=1, lr_drops=())
    plain = config.changed(lookahead_rate=ALMOST_ONE)  # 4 steps of the base optimizer alone
    start = flat(Training(config, DATA, Device("cpu")).models[0])
    path, training = trained(config)
    fast, _ = trained(plain)
    slow = start + 0.5 * (fast[3] - start)
    torch.testing.assert_close(path[3], slow)
    torch.testing.assert_close(evaluated(training), slow)
    assert not torch.allclose(path[5], slow)


def test_swa_is_the_mean_over_the_last_passes():
    path, training = trained(small("swa", swa_from=0.5))
    mean = torch.stack([path[i - 1] for i in (12, 18, 24)]).mean(0)
    torch.testing.assert_close(evaluated(training), mean)
    assert not torch.allclose(mean, path[-1])


@pytest.mark.parametrize("algorithm", ["sam", "asam"])
def test_sam_descends_along_the_gradient_at_the_perturbed_weights(algorithm):
    config = small(
        algorithm, sam_radius=0.3, lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0,
        passes=2, lr_drops=(),
    )  # fmt: skip
    training = Training(config, DATA, Device("cpu"))
    network = training.models[0]
    images, labels = training.batches[0](0)

    def gradients():
        return torch.autograd.grad(
            nn.functional.cross_entropy(network(images), labels), list(network.parameters())
        )

    before = [p.detach().clone() for p in network.parameters()]
    scale = [p.abs() if algorithm == "asam" else torch.ones_like(p) for p in before]
    first = gradients()
    norm = sum((s * g).square().sum() for s, g in zip(scale, first, strict=True)).sqrt()
    with torch.no_grad():
        for p, s, g in zip(network.parameters(), scale, first, strict=True):
            p.add_(0.3 * s**2 * g / norm)
    second = gradients()
    with torch.no_grad():
        for p, value in zip(network.parameters(), before, strict=True):
            p.copy_(value)
    training.step(0)
    for p, value, g in zip(network.parameters(), before, second, strict=True):
        torch.testing.assert_close(p.detach(), value - 0.1 * g)
    assert any(not torch.allclose(a, b) for a, b in zip(first, second, strict=True))


def test_schedule_free_evaluates_the_average_of_z():
    """x is the mean of z weighted by η², and y lies between them (without weight decay)."""
    config = small("schedulefree", weight_decay=0.0, passes=1, schedulefree_warmup=0.0)
    training = Training(config, DATA, Device("cpu"))
    z = x = y = flat(training.models[0])
    for step in range(6):
        training.step(step)
        gradient = torch.cat([p.grad.reshape(-1) for p in training.models[0].parameters()])
        z = z - 0.05 * gradient
        x = x + (z - x) / (step + 1)
        y = 0.1 * z + 0.9 * x
        torch.testing.assert_close(flat(training.models[0]), y, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(evaluated(training), x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("algorithm", BASELINES)
def test_evaluation_does_not_touch_training(batch_norm, algorithm):
    path, _ = trained(small(algorithm))
    training = Training(small(algorithm), DATA, Device("cpu"))
    for step, wanted in enumerate(path):
        training.step(step)
        buffers = [b.clone() for b in training.models[0].buffers()]
        training.row(step + 1)
        for b, kept in zip(training.models[0].buffers(), buffers, strict=True):
            assert torch.equal(b, kept)
        assert torch.equal(flat(training.models[0]), wanted)


def test_the_second_gradient_of_sam_leaves_the_running_statistics(batch_norm):
    """They equal SGD's on the same minibatch, which uses the unperturbed weights."""
    configs = small("sam", sam_radius=3.0), small("sgd")
    sam, sgd = (Training(config, DATA, Device("cpu")) for config in configs)
    for training in (sam, sgd):
        training.step(0)
    assert torch.equal(sam.models[0][2].running_mean, sgd.models[0][2].running_mean)
    assert not torch.equal(flat(sam.models[0]), flat(sgd.models[0]))


def test_recipes_differ_from_sgd_in_what_the_method_asks_for():
    for dataset, name in TABLE:
        sgd = recipe(dataset, name, "sgd")
        for algorithm in BASELINES:
            config = recipe(dataset, name, algorithm)
            for setting in ("passes", "batch_size", "weight_decay"):
                assert getattr(config, setting) == getattr(sgd, setting)
            build_method(config, [nn.Linear(2, 2)], 100, 10)
    swa = recipe("cifar10", "smallconvnet", "swa")
    rates = [swa.learning_rate(t) for t in (0, 0.49, 0.5, 1)]
    np.testing.assert_allclose(rates, [0.01, 0.01, 0.002, 0.002])
    assert recipe("cifar10", "smallconvnet", "sam").lr_drops == (150, 225)
    free = recipe("cifar10", "smallconvnet", "schedulefree")
    assert free.learning_rate(0) == free.learning_rate(1) == pytest.approx(0.1)


def test_bad_input(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="sam_radius is -1; a non-negative number"):
        small("sam", sam_radius=-1)
    with pytest.raises(ValueError, match=r"lookahead_rate is 2; a number in \[0, 1\)"):
        small("lookahead", lookahead_rate=2)
    with pytest.raises(ValueError, match=r"swa_from is 1\.5; a number from 0 to 1"):
        small("swa", swa_from=1.5)
    with pytest.raises(ValueError, match=r"optimizer is 'rmsprop' with momentum 0\.9; 'sgd'"):
        small("schedulefree", optimizer="rmsprop")
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(ValueError, match=r"'sam', which needs .* pip install pytorch_optimizer"):
        run(small("sam"), tmp_path)
    assert not tmp_path.joinpath("config.json").exists()
    run(small("swa"), tmp_path / "swa", stop_after=1)  # SWA is torch's own
    with pytest.raises(ValueError, match="'schedulefree', which needs"):
        equal_budget("cifar10", "smallconvnet", ("sgd", "swa", "schedulefree"))
