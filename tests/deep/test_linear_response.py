"""The equivalent SGD: published settings, measured drift and decay, and a network that trains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from deep.__main__ import main
from deep.algorithms import Esgd, Lookahead, Rsgd
from deep.config import TrainingConfig
from deep.linear_response import equivalent_sgd
from deep.methods import build_method
from deep.recipes import recipe
from deep.run import open_runs
from tests.deep.networks import batch, flat, perceptron

SETTINGS = [
    {}, {"decay_in": "inner"}, {"decay_in": "outer"}, {"nesterov": False}, {"gamma": 0.0},
    {"outer_form": "code"}, {"momentum": 0.0, "nesterov": False}, {"averaging": 0.0, "gamma": 20.0},
]  # fmt: skip


def entropic(gamma=3.0, **changes):
    own = Esgd(gamma=gamma, gamma_growth=1.0, noise=0.0)
    config = TrainingConfig(algorithm=own, lr=0.5, weight_decay=3e-4, lr_drops=())
    return config.changed(**changes)


@pytest.mark.parametrize(
    ("model", "lrs", "ratios"),
    [("smallconvnet", (0.016, 0.012), (7.3, 9.4)), ("resnet110", (0.030, 0.028), (7.2, 7.5))],
)
def test_the_published_settings_decay_weights_many_times_faster(model, lrs, ratios):
    config = recipe("cifar10", model, "esgd")
    for fraction, lr, ratio in zip((0, 1), lrs, ratios, strict=True):
        found = equivalent_sgd(config, fraction)
        assert round(found.lr, 3) == lr
        # The ratio is decay per unit of learning. SGD needs a slightly smaller λ for the same.
        assert found.weight_decay / config.weight_decay == pytest.approx(ratio, rel=0.01)
    first, mean, last = (equivalent_sgd(config, fraction) for fraction in (0, None, 1))
    assert last.lr < mean.lr < first.lr
    assert first.weight_decay < mean.weight_decay < last.weight_decay


def trajectory(config, model, loss, gradients):
    """The evaluated weights after every outer step of 5 gradients."""
    method = build_method(config, [model], gradients, gradients)
    method.set_rate(config.lr, 0)
    weights = []
    for step in range(gradients):
        method.optimizer.zero_grad()
        loss(model, step).backward()
        method.step(torch.zeros(()), tuple)
        if step % 5 == 4:
            with method.network():
                weights.append(flat(model).clone())
    return torch.stack(weights)


class Point(nn.Module):
    """One weight, in double precision."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dtype=torch.float64))


@pytest.mark.parametrize("changes", SETTINGS)
def test_measured_drift_and_decay(changes):
    """The rates hold for a constant gradient, for decay alone, and on a flat quadratic."""
    config = entropic(**changes)
    found = equivalent_sgd(config)
    per_gradient = found.lr / (1 - config.momentum)
    free = config.changed(weight_decay=0.0)
    drift = trajectory(free, Point(), lambda m, _: 1e-3 * m.weight.sum(), 600)
    slope = float(drift[-2, 0] - drift[-1, 0]) / 5
    assert slope == pytest.approx(1e-3 * per_gradient, rel=1e-4)
    decayed = trajectory(config, Point(), lambda m, _: 0 * m.weight.sum(), 600)
    rate = float((decayed[-2] / decayed[-1]).log()) / 5
    plain = TrainingConfig(
        lr=found.lr, weight_decay=found.weight_decay, lr_drops=(), momentum=config.momentum,
        nesterov=config.nesterov,
    )  # fmt: skip
    same = trajectory(plain, Point(), lambda m, _: 0 * m.weight.sum(), 600)
    assert rate == pytest.approx(float((same[-2] / same[-1]).log()) / 5, rel=1e-4)
    # A quadratic's gradient changes in the inner loop, so this holds to first order in curvature.
    curved = trajectory(free, Point(), lambda m, _: 1e-4 * m.weight.square().sum(), 600)
    rate = float((curved[-2] / curved[-1]).log()) / 5
    assert rate == pytest.approx(2e-4 * per_gradient, rel=0.01)


@pytest.mark.parametrize(("decay_in", "decay"), [("both", 3e-4), ("inner", 0.02)])
def test_a_small_network_goes_the_same_way(decay_in, decay):
    """At small rates Entropy-SGD and its equivalent SGD end at the same weights."""
    images, labels = batch(0, 64)

    def loss(model, _):
        return nn.functional.cross_entropy(model(images), labels)

    config = entropic(decay_in=decay_in, lr=0.1, inner_lr=0.002, weight_decay=decay)
    equivalent = equivalent_sgd(config)
    plain = TrainingConfig(lr=equivalent.lr, weight_decay=equivalent.weight_decay, lr_drops=())
    twice = replace(plain, weight_decay=2 * equivalent.weight_decay)
    start = flat(perceptron(3))
    ways = [trajectory(c, perceptron(3), loss, 1500)[-1] for c in (config, plain, twice)]
    moved = float((ways[0] - start).norm())
    assert float((ways[1] - ways[0]).norm()) < 0.03 * moved
    assert float((ways[2] - ways[0]).norm()) > 0.3 * moved


def test_other_algorithms():
    replicated = TrainingConfig(algorithm=Rsgd(replicas=3), lr=0.06, lr_drops=())
    assert equivalent_sgd(replicated) == pytest.approx((0.02, 1e-4))
    for config, words in [
        (entropic(optimizer="rmsprop", nesterov=False), "optimizer is 'rmsprop'; 'sgd' was"),
        (entropic(gamma="measured"), "gamma is 'measured'; a number was"),
        (TrainingConfig(algorithm=Lookahead()), "algorithm is 'lookahead'; sgd, swa"),
    ]:
        with pytest.raises(ValueError, match=words):
            equivalent_sgd(config)


def test_options_of_entropy_sgd(monkeypatch):
    """Each option reaches the optimizer. γ = 0 is refused with the authors' outer form."""
    optimizers = {
        kick: build_method(entropic(kick=kick, noise=0.1), [perceptron()], 10, 10).optimizer
        for kick in ("algorithm", "code")
    }
    assert optimizers["code"].noise == pytest.approx(np.sqrt(2) * optimizers["algorithm"].noise)
    method = build_method(entropic(decay_in="outer"), [perceptron()], 10, 10)
    decays = [base.param_groups[0]["weight_decay"] for base in
              (method.optimizer.inner, method.optimizer.outer)]  # fmt: skip
    assert decays == [0, 3e-4]
    with pytest.raises(ValueError, match="gamma is 0 with outer_form 'code'"):
        entropic(gamma=0.0, outer_form="code")
    with pytest.raises(ValueError, match="decay_in is 'loop'; 'both' or"):
        entropic(decay_in="loop")


def test_the_options_are_on_the_command_line(tmp_path):
    options = {"decay-in": "inner", "kick": "code", "outer-form": "code", "gamma": "0.5"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    main([
        "train", "--dataset", "synthetic", "--algorithm", "esgd", "--passes", "0.1", *words,
        "--validation-images", "1900", "--model-options", "width", "0.25", "--runs", str(tmp_path),
    ])  # fmt: skip
    (config,) = (run.config for run in open_runs(tmp_path.glob("*/seed-0")))
    own = config.algorithm
    assert (own.decay_in, own.kick, own.outer_form, own.gamma) == ("inner", "code", "code", 0.5)
    assert config.model_options == {"width": 0.25} and config.validation_images == 1900
