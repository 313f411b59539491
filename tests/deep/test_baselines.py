"""The baselines: equal numbers of gradients, exact resume, limits, and a twin of each method."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from deep.config import ALGORITHMS, PEERS, TrainingConfig
from deep.images.datasets import synthetic_images
from deep.images.minibatches import ImageBatches, evaluate
from deep.optimizers.baselines import build_baseline, check_libraries
from deep.place import Place
from deep.recipes import TABLE, recipe
from deep.training import train
from deep.training_run import TrainingRun

DATA = synthetic_images(train=96, test=40, classes=4, size=16)
SMALL = TrainingConfig(
    dataset="synthetic", model_options={"channels": [4, 6], "hidden": 8, "image_size": 16},
    passes=4, batch_size=16, lr=0.05, lr_drops=(2,), snapshots=(0.75,), lookahead_steps=5,
    gamma=0.01, gamma_growth=10,
)  # fmt: skip

ALMOST_ONE = 1 - 2**-40  # in float32 no other slow step than 1, which the library refuses


class WithBatchNorm(nn.Sequential):
    def __init__(self, classes):
        super().__init__(
            nn.Flatten(), nn.Linear(768, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.ReLU(),
            nn.Linear(8, classes),
        )  # fmt: skip


@pytest.fixture
def batch_norm(monkeypatch):
    monkeypatch.setattr(
        "deep.training_run.build_model", lambda name, classes, **_: WithBatchNorm(classes)
    )


def small(algorithm, **changes):
    if algorithm == "schedulefree":
        changes = {"lr_drops": (), "nesterov": False} | changes
    return replace(SMALL, algorithm=algorithm, **changes)


def run(config, folder, **options):
    return train(config, folder, device="cpu", data=DATA, progress=False, **options)


def weights(result):
    return torch.cat([v.reshape(-1).double() for v in result.model.state_dict().values()])


@pytest.mark.parametrize("algorithm", PEERS)
def test_an_interrupted_run_continues_bit_for_bit(tmp_path, batch_norm, algorithm):
    config = small(algorithm)
    steps = config.steps(6)
    whole = run(config, tmp_path / "whole")
    for place in (3, steps // 2 + 2, steps - 1):  # before the first average, and after
        assert run(config, tmp_path / "cut", stop_after=place) is None
        torch.manual_seed(12345)
    cut = run(config, tmp_path / "cut")
    assert torch.equal(weights(whole), weights(cut))
    assert [{**r, "seconds": 0} for r in whole.log] == [{**r, "seconds": 0} for r in cut.log]
    assert whole.result["test_error"] == cut.result["test_error"]


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, *PEERS])
def test_runs_of_equal_passes_evaluate_equally_many_gradients(tmp_path, monkeypatch, algorithm):
    gradients = []
    backward = TrainingRun._backward
    monkeypatch.setattr(
        TrainingRun,
        "_backward",
        lambda self, *rest: (gradients.append(len(rest[2])), backward(self, *rest))[1],
    )
    result = run(small(algorithm, replicas=3), tmp_path)
    copies = 3 if algorithm == "rsgd-xy" else 1  # each replica makes all passes
    assert sum(gradients) == copies * 4 * 96
    assert result.log[-1]["passes"] == result.result["passes"] == copies * 4


@pytest.mark.parametrize("algorithm", PEERS)
def test_the_stored_network_is_the_one_that_was_evaluated(tmp_path, batch_norm, algorithm):
    """Slow weights, averages; with BatchNorm statistics that belong to them."""
    result = run(small(algorithm), tmp_path)
    test = ImageBatches(DATA, DATA.preprocessing(), "test")
    loss, error = evaluate(result.model, test)
    assert error == result.result["test_error"] == result.log[-1]["test_error"]
    assert loss == pytest.approx(result.result["test_loss"], rel=1e-5)
    if algorithm in ("sam", "asam"):
        return
    # Statistics of a minibatch of all augmented images, under the weights that are stored.
    ((images, _),) = ImageBatches(DATA, DATA.preprocessing(), "train", augment=True)
    values = result.model[1](images.flatten(1))
    torch.testing.assert_close(result.model[2].running_mean, values.mean(0), rtol=0, atol=1e-5)
    torch.testing.assert_close(result.model[2].running_var, values.var(0), rtol=1e-4, atol=0)


def trained(config):
    """The weights in training after every step, and the run."""
    training = TrainingRun(config, DATA, Place("cpu"))
    path = []
    for step in range(training.steps):
        training.step(step)
        path.append(flat(training.models[0]))
    return path, training


def flat(model):
    return torch.cat([p.detach().reshape(-1).clone() for p in model.parameters()])


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
    ids=lambda config: config.algorithm,
)
def test_limits_are_sgd(config):
    """k = α = 1; ρ = 0 (with twice the gradients); an average of the last weights only."""
    path, training = trained(config)
    plain, sgd = trained(small("sgd"))
    assert len(path) == len(plain) == 24
    assert all(torch.equal(a, b) for a, b in zip(path, plain, strict=True))
    assert torch.equal(evaluated(training), evaluated(sgd))


def test_the_average_of_constant_weights_is_these():
    path, training = trained(small("swa", lr=0.0, swa_from=0.0))
    assert torch.equal(evaluated(training), path[0])


def test_lookahead_moves_the_slow_weights():
    """φ ← φ + α (w − φ) at every k-th step; between these the slow weights count."""
    config = small("lookahead", lookahead_steps=4, lookahead_rate=0.5, passes=1, lr_drops=())
    plain = replace(config, lookahead_rate=ALMOST_ONE)  # the base optimizer alone, in 4 steps
    start = flat(TrainingRun(config, DATA, Place("cpu")).models[0])
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
    training = TrainingRun(config, DATA, Place("cpu"))
    model = training.models[0]
    images, labels = training.batches[0](0)

    def gradients():
        return torch.autograd.grad(
            nn.functional.cross_entropy(model(images), labels), list(model.parameters())
        )

    before = [p.detach().clone() for p in model.parameters()]
    scale = [p.abs() if algorithm == "asam" else torch.ones_like(p) for p in before]
    first = gradients()
    norm = sum((s * g).square().sum() for s, g in zip(scale, first, strict=True)).sqrt()
    with torch.no_grad():
        for p, s, g in zip(model.parameters(), scale, first, strict=True):
            p.add_(0.3 * s**2 * g / norm)
    second = gradients()
    with torch.no_grad():
        for p, value in zip(model.parameters(), before, strict=True):
            p.copy_(value)
    training.step(0)
    for p, value, g in zip(model.parameters(), before, second, strict=True):
        torch.testing.assert_close(p.detach(), value - 0.1 * g)
    assert any(not torch.allclose(a, b) for a, b in zip(first, second, strict=True))


def test_schedule_free_evaluates_the_average_of_z():
    """x is the mean of z weighted by η²; y between them; weight decay is none here."""
    config = small("schedulefree", weight_decay=0.0, passes=1, schedulefree_warmup=0.0)
    training = TrainingRun(config, DATA, Place("cpu"))
    z = x = y = flat(training.models[0])
    for step in range(6):
        training.step(step)
        gradient = torch.cat([p.grad.reshape(-1) for p in training.models[0].parameters()])
        z = z - 0.05 * gradient
        x = x + (z - x) / (step + 1)
        y = 0.1 * z + 0.9 * x
        torch.testing.assert_close(flat(training.models[0]), y, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(evaluated(training), x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("algorithm", PEERS)
def test_evaluation_does_not_touch_training(batch_norm, algorithm):
    path, _ = trained(small(algorithm))
    training = TrainingRun(small(algorithm), DATA, Place("cpu"))
    for step, wanted in enumerate(path):
        training.step(step)
        buffers = [b.clone() for b in training.models[0].buffers()]
        training.row(step + 1, 0.0)
        for b, kept in zip(training.models[0].buffers(), buffers, strict=True):
            assert torch.equal(b, kept)
        assert torch.equal(flat(training.models[0]), wanted)


def test_the_second_gradient_of_sam_leaves_the_running_statistics(batch_norm):
    """They are those of the unperturbed weights, as with SGD's same minibatch."""
    sam, sgd = (TrainingRun(small(a, sam_radius=3.0), DATA, Place("cpu")) for a in ("sam", "sgd"))
    for training in (sam, sgd):
        training.step(0)
    assert torch.equal(sam.models[0][2].running_mean, sgd.models[0][2].running_mean)
    assert not torch.equal(flat(sam.models[0]), flat(sgd.models[0]))


def test_recipes_differ_from_sgd_in_what_the_method_asks_for():
    for (dataset, model), row in TABLE.items():
        for algorithm in PEERS:
            config = recipe(dataset, model, algorithm)
            assert config.passes == row["sgd"].passes and config.batch_size == row["sgd"].batch_size
            assert config.weight_decay == row["sgd"].weight_decay
            build_baseline(config, nn.Linear(2, 2), 100, 10)
    swa = recipe("cifar10", "smallconvnet", "swa")
    rates = [swa.learning_rate(t) for t in (0, 0.49, 0.5, 1)]
    np.testing.assert_allclose(rates, [0.01, 0.01, 0.002, 0.002])
    assert recipe("cifar10", "smallconvnet", "sam").lr_drops == (150, 225)
    free = recipe("cifar10", "smallconvnet", "schedulefree")
    assert free.learning_rate(0) == free.learning_rate(1) == pytest.approx(0.1)


def test_a_run_from_before_a_setting_existed_continues(tmp_path):
    """What its configuration does not name had the default; that is compared too."""
    run(small("sgd"), tmp_path, stop_after=2)
    path = tmp_path / "config.json"
    stored = json.loads(path.read_text())
    assert stored.pop("sam_radius") == 0.05
    path.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=r"sam_radius is 0\.05 there and 1 here"):
        run(small("sgd", sam_radius=1), tmp_path)
    assert run(small("sgd"), tmp_path).log[-1]["passes"] == 4
    path.write_text(json.dumps({**stored, "beta": 1}))
    with pytest.raises(ValueError, match="the configuration of the run does not fit"):
        run(small("sgd"), tmp_path)


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
    run(small("swa"), tmp_path / "swa", stop_after=1)  # which is torch's
    with pytest.raises(ValueError, match="'schedulefree', which needs"):
        check_libraries(["sgd", "swa", "schedulefree"])
    check_libraries(["sgd", "swa", "rsgd"])
