"""Table 1: every cell has a recipe with the published numbers that takes its first steps."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from deep import build_model
from deep.algorithms import ALGORITHMS
from deep.config import TrainingConfig
from deep.images.datasets import synthetic_images
from deep.methods import base_of, gamma_of
from deep.recipes import TABLE, recipe
from deep.training import train

# [P21] App. C: classes, side of the images, then the baseline's epochs, batch size, learning
# rate, drops, weight decay.
ROWS = {
    ("cifar10", "smallconvnet"): (10, 32, 300, 128, 0.01, (150, 225), 1e-4),
    ("cifar10", "resnet18"): (10, 32, 160, 128, 0.01, (110,), 5e-4),
    ("cifar10", "resnet110"): (10, 32, 164, 128, 0.1, (82, 124), 1e-4),
    ("cifar10", "pyramidnet272"): (10, 32, 300, 64, 0.05, (), 5e-5),
    ("cifar100", "pyramidnet272"): (100, 32, 300, 64, 0.05, (), 5e-5),
    ("cifar100", "efficientnet_b0"): (100, 32, 350, 64, 0.01, tuple(range(2, 350, 2)), 1e-5),
    ("tinyimagenet", "resnet50"): (200, 64, 270, 128, 0.05, (90, 180, 240), 1e-4),
    ("tinyimagenet", "densenet121"): (200, 64, 200, 128, 0.05, (100, 150), 1e-4),
}
# eSGD: epochs, η, drops, η', γ0. rSGD: learning rate, γ0, K.
ESGD = {
    ("cifar10", "smallconvnet"): (60, 0.5, (30, 45), 0.02, 0.5),
    ("cifar10", "resnet18"): (32, 0.25, (16, 25), 0.01, "measured"),
    ("cifar10", "resnet110"): (32, 0.9, (17, 25), 0.02, 0.1),
    ("cifar100", "efficientnet_b0"): (70, 0.5, tuple(range(2, 70, 2)), 0.05, "measured"),
    ("tinyimagenet", "resnet50"): (50, 0.8, (18, 36, 48), 0.02, "measured"),
    ("tinyimagenet", "densenet121"): (40, 0.5, (25, 30), 0.02, 1.0),
}
RSGD = {
    ("cifar10", "smallconvnet"): (0.05, 0.001, 10),
    ("cifar10", "resnet18"): (0.02, "measured", 1),
    ("cifar10", "resnet110"): (0.1, 5e-4, 10),
    ("cifar10", "pyramidnet272"): (0.05, 0.1, 10),
    ("cifar100", "pyramidnet272"): (0.05, 0.1, 10),
    ("cifar100", "efficientnet_b0"): (0.01, 5e-6, 10),
    ("tinyimagenet", "resnet50"): (0.05, "measured", 10),
    ("tinyimagenet", "densenet121"): (0.05, "measured", 10),
}
CELLS = [(*names, algorithm) for names in ROWS for algorithm in ALGORITHMS]
# The first steps of these networks take seconds.
BIG = {"pyramidnet272", "efficientnet_b0", "resnet50", "densenet121"}
BIG_CELLS_BY_DEFAULT = {
    ("cifar100", "efficientnet_b0", "rsgd"), ("tinyimagenet", "densenet121", "esgd"),
}  # fmt: skip


def test_every_cell_has_a_recipe():
    assert list(TABLE) == list(ROWS) == list(RSGD)
    for dataset, model, algorithm in CELLS:
        config = recipe(dataset, model, algorithm, seed=3)
        assert (config.dataset, config.model) == (dataset, model)
        assert config.algorithm.name == algorithm
        assert config.seed == 3
        assert TrainingConfig.from_settings(json.loads(json.dumps(config.settings()))) == config
        # Table 1 is blank there.
        untested = model == "pyramidnet272" and algorithm == "esgd"
        assert (algorithm in TABLE[dataset, model].published) != untested


@pytest.mark.parametrize(("dataset", "model"), ROWS)
def test_published_settings(dataset, model):
    _, _, epochs, batch, lr, drops, decay = ROWS[dataset, model]
    row = {algorithm: recipe(dataset, model, algorithm) for algorithm in ALGORITHMS}
    baseline = row["sgd"]
    assert (baseline.passes, baseline.batch_size, baseline.lr) == (epochs, batch, lr)
    assert (baseline.lr_drops, baseline.weight_decay, baseline.momentum) == (drops, decay, 0.9)
    for config in row.values():
        # Every algorithm has the baseline's data and augmentation.
        for name in ("batch_size", "weight_decay", "momentum", "image_size", "padding", "flip"):
            assert getattr(config, name) == getattr(baseline, name)
        assert (config.policy, config.cutout) == (baseline.policy, baseline.cutout)
    for name in ("rsgd", "rsgd-xy"):
        config = row[name]
        own = config.algorithm
        assert (config.lr, own.gamma, own.coupling_period) == RSGD[dataset, model]
        assert (own.replicas, own.coupling) == (3, "explicit")
        assert (config.passes, config.lr_drops) == (epochs, drops)
        assert (config.optimizer, config.nesterov) == (baseline.optimizer, baseline.nesterov)
        assert own.gamma_growth == 1e4
    if (dataset, model) in ESGD:
        config = row["esgd"]
        passes, outer, outer_drops, inner, gamma = ESGD[dataset, model]
        own = config.algorithm
        assert (config.passes, config.lr, own.inner_lr) == (5 * passes, outer, inner)
        assert (own.inner_steps, own.noise, own.averaging) == (5, 1e-4, 0.75)
        assert config.lr_drops == tuple(5 * drop for drop in outer_drops)
        assert (own.gamma, own.gamma_growth) == (gamma, 10)
        assert config.optimizer == "sgd" and config.nesterov


def test_what_only_some_rows_have():
    for dataset, model, algorithm in CELLS:
        config = recipe(dataset, model, algorithm)
        # Only ResNet-110's baseline has a warm-up.
        warm = (model, algorithm) == ("resnet110", "sgd")
        assert (config.warmup_passes, config.warmup_lr) == (
            (1, 0.01) if warm else (0, config.warmup_lr)
        )
        assert (config.lr_schedule == "cosine") == (model == "pyramidnet272")
        focused = model == "pyramidnet272" and algorithm in ("rsgd", "rsgd-xy")
        own = vars(config.algorithm)
        assert (own.get("focusing") == "cosine") == focused
        assert (own.get("late_coupling_from", 0) > 0) == (focused and dataset == "cifar10")
        rmsprop = model == "efficientnet_b0" and algorithm != "esgd"
        assert (config.optimizer == "rmsprop") == rmsprop
        assert config.cutout == (16 if model == "pyramidnet272" else 0)
        assert config.image_size == (224 if model == "efficientnet_b0" else 0)
        padding = {"tinyimagenet": 8}.get(dataset, 32 if model == "efficientnet_b0" else 4)
        assert config.padding == padding
    pyramid = recipe("cifar10", "pyramidnet272", "rsgd")
    period_at = pyramid.algorithm.coupling_period_at
    periods = [period_at(epoch, 300) for epoch in (0, 219.9, 220, 300)]
    assert periods == [10, 10, 3, 3]
    gamma = gamma_of(pyramid.algorithm, 1000)
    values = [float(gamma(step)) for step in (0, 500, 1000)]
    np.testing.assert_allclose(values, [0, 0.05, 0.1], atol=1e-12)
    rates = [pyramid.learning_rate(t) for t in (0, 0.5, 1)]
    np.testing.assert_allclose(rates, [0.05, 0.025, 0], atol=1e-12)
    decays = recipe("cifar100", "efficientnet_b0", "sgd")
    rates = [decays.learning_rate(epoch / 350) for epoch in (0, 1.9, 2, 349)]
    np.testing.assert_allclose(rates, [0.01, 0.01, 0.0097, 0.01 * 0.97**174])
    outer = recipe("cifar100", "efficientnet_b0", "esgd")
    assert outer.learning_rate(10 / 350) == pytest.approx(0.5 * 0.92)


def test_other_data_have_the_settings_of_the_model():
    elsewhere = recipe("cifar10-jpeg.tar.xz", "pyramidnet272", "rsgd")
    assert elsewhere == replace(
        recipe("cifar10", "pyramidnet272", "rsgd"), dataset="cifar10-jpeg.tar.xz"
    )


@pytest.mark.parametrize(("dataset", "model"), ROWS)
def test_every_cell_can_be_built(dataset, model):
    classes, side, *_ = ROWS[dataset, model]
    baseline = recipe(dataset, model, "sgd")
    with torch.device("meta"):
        network = build_model(model, classes, **baseline.model_options)
        images = torch.empty(2, 3, *[baseline.image_size or side] * 2)
    assert network(images).shape == (2, classes)
    for algorithm in ALGORITHMS:
        config = recipe(dataset, model, algorithm)
        assert config.model_options == baseline.model_options
        optimizer = base_of(config)([torch.nn.Parameter(torch.zeros(3))], lr=config.lr)
        assert optimizer.param_groups[0]["weight_decay"] == config.weight_decay


def marks(cell):
    slow = cell[1] in BIG and cell not in BIG_CELLS_BY_DEFAULT
    return [pytest.mark.slow] if slow else []


@pytest.mark.parametrize(
    ("dataset", "model", "algorithm"), [pytest.param(*c, marks=marks(c)) for c in CELLS]
)
def test_every_cell_takes_two_steps(tmp_path, monkeypatch, dataset, model, algorithm):
    """The images are synthetic, with the right shape and classes, augmented as published."""
    (tmp_path / "fast-autoaugment-archive.py").write_text(
        "def fa_resnet50_rimagenet():\n"
        '    p = [[["ShearY", 0.9, 0.9], ["Cutout", 0.9, 0.5]], [["Color", 0.9, 0.1]]]\n'
        "    return p\n"
    )
    monkeypatch.setenv("WIDE_FLAT_MINIMA_DATA", str(tmp_path))
    classes, side, *_ = ROWS[dataset, model]
    batch = 2 if model in BIG else 8
    data = synthetic_images(train=3 * batch, test=2, classes=classes, size=side)
    config = recipe(dataset, model, algorithm).changed(batch_size=batch, snapshots=())
    few = {"replicas": 2, "inner_steps": 2, "coupling_period": 1}
    config = config.changed(**{k: v for k, v in few.items() if k in vars(config.algorithm)})
    assert train(config, tmp_path / "run", "cpu", data, stop_after=2, progress=False) is None
    stored = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    assert stored["progress"]["step"] == 2
    assert len(stored["models"]) == config.algorithm.networks
    assert all(torch.isfinite(v).all() for state in stored["models"] for v in state.values())
