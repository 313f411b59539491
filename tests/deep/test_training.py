"""Training runs: resume bit for bit, equal data, logs, recipes, processes, bad input."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from deep.algorithms import ALGORITHMS, KINDS, algorithm_named
from deep.config import TrainingConfig
from deep.images.datasets import synthetic_images
from deep.images.minibatches import ImageBatches, Minibatches, evaluate
from deep.methods import base_of, gamma_of
from deep.model_state import recalibrated
from deep.optimizers.gamma import StabilityWarning, largest_stable_kick
from deep.optimizers.replicated_sgd import ReplicatedSGD
from deep.recipes import recipe
from deep.run import Run
from deep.training import DivergedError, Training, train
from tests.deep.networks import perceptron

DATA = synthetic_images(train=96, test=40, classes=4, size=16)
SMALL = TrainingConfig(
    dataset="synthetic", model_options={"channels": [4, 6], "hidden": 8, "image_size": 16},
    passes=6, batch_size=16, lr=0.05, lr_drops=(3,), snapshots=(0.5,),
)  # fmt: skip
OWN = {"coupling_period": 2, "gamma": 0.01, "gamma_growth": 10, "lr": 0.05}


def small(algorithm, **changes):
    """``SMALL`` with the settings of ``OWN`` and ``changes`` that the algorithm has."""
    config = SMALL.changed(algorithm=algorithm_named(algorithm))
    changes = OWN | ({"lr": 0.5} if algorithm == "esgd" else {}) | changes
    known = vars(config) | vars(config.algorithm)
    return config.changed(**{name: value for name, value in changes.items() if name in known})


def run(config, folder, **options):
    return train(config, folder, device="cpu", data=DATA, progress=False, **options)


def weights(result):
    return torch.cat([v.reshape(-1).double() for v in model(result).state_dict().values()])


def model(run):
    return run.network().model


def rows(run):
    """The log without the times."""
    return run.log.drop(columns="seconds")


RMSPROP = {"optimizer": "rmsprop", "nesterov": False, "lr": 0.002}
AUGMENTED = {"image_size": 16, "padding": 2, "cutout": 6, "policy": "autoaugment-cifar10"}


# Entropy-SGD diverges here with a measured γ0: see test_a_diverging_run_says_so.
@pytest.mark.parametrize(
    ("algorithm", "changes"),
    [
        *((a, {}) for a in ALGORITHMS),
        *((a, {"gamma": "measured"}) for a in ("rsgd", "rsgd-xy")),
        *((a, RMSPROP) for a in ("sgd", "rsgd")),
        ("sgd", AUGMENTED),
    ],
)
def test_an_interrupted_run_continues_bit_for_bit(tmp_path, algorithm, changes):
    config = small(algorithm, **changes)
    whole = run(config, tmp_path / "whole")
    if changes is RMSPROP:
        assert whole.log["train_loss"].iloc[-1] < whole.log["train_loss"].iloc[0]
    assert run(config, tmp_path / "cut", stop_after=8) is None  # inside a pass and an inner loop
    torch.manual_seed(12345)
    cut = run(config, tmp_path / "cut")
    assert torch.equal(weights(whole), weights(cut))
    assert rows(whole).equals(rows(cut))


def test_bf16_trains_too(tmp_path):
    one = run(small("esgd"), tmp_path / "bf16", precision="bf16")
    two = run(small("esgd"), tmp_path / "float32")
    assert one.result["precision"] == "bf16" and torch.isfinite(weights(one)).all()
    difference = (weights(one) - weights(two)).norm() / weights(two).norm()
    assert 0 < difference < 0.2


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_a_compiled_network_is_trained_alike(tmp_path, mode):
    config = small("rsgd", passes=2, lr_drops=(), replicas=2)
    plain = run(config, tmp_path / "a")
    compiled = run(config, tmp_path / "b", compile_mode=mode)
    torch.testing.assert_close(weights(compiled), weights(plain), rtol=1e-4, atol=1e-6)


def test_a_diverging_run_says_so(tmp_path):
    with (
        pytest.warns(StabilityWarning, match="the inner loop may diverge"),
        pytest.raises(DivergedError, match="The training loss became nan before step"),
    ):
        run(small("esgd", gamma="measured"), tmp_path)
    assert (tmp_path / "log.csv").exists()


def test_a_finished_run_is_only_read(tmp_path):
    first = run(small("rsgd"), tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.json")}
    again = run(small("rsgd"), tmp_path)
    assert torch.equal(weights(first), weights(again))
    assert again.result == json.loads((tmp_path / "result.json").read_text())
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.json")}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_run_leaves_what_it_says(tmp_path, algorithm):
    result = run(small(algorithm), tmp_path)
    log = result.log
    # 6 passes of 6 minibatches. Three replicas share them (rsgd) or each makes all (rsgd-xy).
    steps, passes = {"rsgd": (12, 6), "rsgd-xy": (36, 18)}.get(algorithm, (36, 6))
    assert log["step"].iloc[-1] == steps and log["passes"].iloc[-1] == passes
    assert log["lr"].iloc[0] == pytest.approx(10 * log["lr"].iloc[-1])
    growth = log["gamma"].iloc[-1] / 0.01 if algorithm != "sgd" else 10
    # The 36 minibatches are 7.2 outer loops of Entropy-SGD, and γ grows with the 7 finished ones.
    assert growth == pytest.approx(10 ** (7 / 7.2) if algorithm == "esgd" else 10, rel=1e-5)
    assert len(list((tmp_path / "snapshots").iterdir())) == 1
    loss, error = evaluate(model(result), ImageBatches(DATA, DATA.preprocessing(), "test"))
    assert error == result.result["test_error"] == log["test_error"].iloc[-1]
    assert loss == pytest.approx(result.result["test_loss"], rel=1e-5)


class WithBatchNorm(torch.nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(
            torch.nn.Flatten(), torch.nn.Linear(768, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(),
            torch.nn.Linear(8, num_classes),
        )  # fmt: skip


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_log_has_the_test_error_with_recalibrated_batch_norm(tmp_path, monkeypatch, algorithm):
    """The statistics are measured, as centre and anchor make no forward pass in training."""
    build = lambda name, classes, **_: WithBatchNorm(classes)  # noqa: E731
    for module in ("training", "models"):  # for training and for reading
        monkeypatch.setattr(f"deep.{module}.build_model", build)
    networks = []

    def spy(network, batches):
        networks.append(recalibrated(network, batches))
        return networks[-1]

    monkeypatch.setattr("deep.training.recalibrated", spy)
    config = small(algorithm, model_options={}, batch_size=4)
    result = run(config, tmp_path / "a")
    if algorithm == "sgd":
        assert "test_error_recalibrated" not in result.log
        return
    logged = result.log["test_error_recalibrated"].to_list()
    test = ImageBatches(DATA, DATA.preprocessing(), "test")
    assert [evaluate(network, test)[1] for network in networks[:-1]] == pytest.approx(logged)
    # The last row of the log and the result use the statistics of all 96 augmented images.
    ((images, _),) = ImageBatches(DATA, DATA.preprocessing(), "train", augment=True)
    values = model(result)[1](images.flatten(1))
    for network in networks[-2:]:
        torch.testing.assert_close(network[2].running_mean, values.mean(0), rtol=0, atol=1e-5)
        torch.testing.assert_close(network[2].running_var, values.var(0), rtol=1e-4, atol=0)
    # They are measured on a copy, so they do not change the run.
    assert not torch.allclose(model(result)[2].running_mean, values.mean(0), rtol=0, atol=1e-3)
    monkeypatch.setattr("deep.training.recalibrated", lambda network, batches: network)
    assert torch.equal(weights(result), weights(run(config, tmp_path / "b")))


def test_training_learns(tmp_path):
    """Every algorithm learns the training images, and the replicas collapse."""
    for algorithm in ("sgd", "rsgd", "esgd"):
        lr = 0.5 if algorithm == "esgd" else 0.02
        config = small(
            algorithm, passes=90, lr=lr, lr_drops=(), padding=0, flip=False, gamma=1.0,
            gamma_growth=4,
        )  # fmt: skip
        result = run(config, tmp_path / algorithm)
        assert result.result["train_error"] < 0.1, algorithm
        assert result.log["distance"].iloc[-1] < 0.01


def test_every_pass_shows_every_image_once_and_replicas_differ():
    prepare = DATA.preprocessing(padding=0, flip=False)
    one, two = (Minibatches(DATA, prepare, 20, seed=3, replica=r) for r in (0, 1))
    assert one.per_pass == 5
    labels = torch.cat([one(step)[1] for step in range(5)])
    assert torch.equal(labels.sort().values, DATA.train_labels.sort().values)
    assert not torch.equal(one(0)[0], one(5)[0])
    assert not torch.equal(one(0)[0], two(0)[0])
    assert torch.equal(one(0)[0], Minibatches(DATA, prepare, 20, seed=3)(0)[0])


def test_held_out_images_take_the_place_of_the_test_images(tmp_path):
    """The held-out images are the same for all seeds. The test images are not used."""
    held = DATA.held_out(30)
    both = torch.cat([held.train_images, held.test_images]).flatten(1)
    assert len(held.test_labels) == 30 and len(both) == 96
    assert torch.equal(both.unique(dim=0), DATA.train_images.flatten(1).unique(dim=0))
    assert torch.equal(held.test_images, DATA.held_out(30).test_images)
    nothing = replace(DATA, test_images=DATA.test_images[:0], test_labels=DATA.test_labels[:0])
    result = train(
        small("sgd", validation_images=30), tmp_path, "cpu", data=nothing, progress=False
    ).result
    batches = ImageBatches(held, held.preprocessing(), "test")
    assert result["test_error"] == evaluate(Run(tmp_path).network().model, batches)[1]
    with pytest.raises(ValueError, match="validation_images is 96; a number below 96"):
        DATA.held_out(96)


def test_a_run_stops_at_a_training_loss(tmp_path, monkeypatch):
    """An interruption just before the result is written changes nothing."""
    config = small("sgd", passes=40, lr=0.02, lr_drops=(), padding=0, flip=False)
    early = run(config.changed(stop_loss=0.8), tmp_path / "a")
    losses = early.log["fixed_images_loss"]
    assert losses.iloc[-1] <= 0.8 < losses.iloc[:-1].min()
    assert losses.iloc[-1] == pytest.approx(early.result["train_loss"])
    assert early.result["passes"] == len(losses) < 40 and early.state == "complete"
    whole = run(config, tmp_path / "b")
    pd.testing.assert_series_equal(
        whole.log["train_loss"][: len(losses)], early.log["train_loss"], check_exact=True
    )
    monkeypatch.setattr(Training, "finish", lambda self, folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(config.changed(stop_loss=0.8), tmp_path / "c")
    monkeypatch.undo()
    again = run(config.changed(stop_loss=0.8), tmp_path / "c")
    assert torch.equal(weights(again), weights(early)) and rows(again).equals(rows(early))


def test_the_learning_rate_follows_the_published_drops():
    config = recipe("cifar10", "smallconvnet", "esgd")
    steps = config.steps(391)
    assert steps == 300 * 391
    rates = [config.learning_rate(step / steps) for step in (0, 149 * 391, 150 * 391, 225 * 391)]
    np.testing.assert_allclose(rates, [0.5, 0.5, 0.05, 0.005])
    third = recipe("cifar10", "smallconvnet", "rsgd")
    assert third.steps(391) == 100 * 391
    np.testing.assert_allclose(
        [third.learning_rate(s / 39100) for s in (50 * 391 - 1, 50 * 391)], [0.05, 0.005]
    )
    warm = recipe("cifar10", "resnet110", "sgd")
    steps = warm.steps(391)
    np.testing.assert_allclose(
        [warm.learning_rate(s / steps) for s in (0, 390, 391)], [0.01, 0.01, 0.1]
    )


@pytest.mark.parametrize("model", ["smallconvnet", "resnet110"])
def test_published_couplings_are_stable_all_the_way(model):
    """This holds for the printed γ0. SmallConvNet's measured γ0 = 0.036 is unstable at K = 10."""
    for algorithm in ("rsgd", "esgd"):
        config = recipe("cifar10", model, algorithm)
        steps = config.steps(391)
        own = config.algorithm
        gamma = gamma_of(own, steps if algorithm == "rsgd" else steps / own.inner_steps)
        period = own.coupling_period if algorithm == "rsgd" else 1
        limit = largest_stable_kick(config.momentum, config.nesterov, period)
        for fraction in np.linspace(0, 1, 1000, endpoint=False):
            if algorithm == "rsgd":
                kick = config.learning_rate(fraction) * period * float(gamma(fraction * steps))
            else:
                kick = own.inner_lr * float(gamma(fraction * steps / own.inner_steps))
            assert kick < limit


def test_cosine_learning_rates():
    config = small("sgd", lr_schedule="cosine", lr_drops=(), warmup_passes=0.6, warmup_lr=0.01)
    rates = [config.learning_rate(t) for t in (0, 0.1, 0.25, 0.5, 1)]
    halves = [0.5 * (1 + np.cos(np.pi * t)) for t in (0.1, 0.25, 0.5, 1)]
    np.testing.assert_allclose(rates, [0.01, *(0.05 * h for h in halves)], atol=1e-12)


def test_the_coupling_period_changes_late(tmp_path, monkeypatch):
    """In 12 steps, K is 4 and from the seventh on 2, also in an interrupted run."""
    config = small("rsgd", coupling_period=4, late_coupling_period=2, late_coupling_from=3)
    assert config.stretched(12).algorithm.late_coupling_from == 6
    couplings = []
    pull = ReplicatedSGD._pull

    def spy(self, gamma):
        couplings.append((self.steps_done + 1, self.coupling_period))
        pull(self, gamma)

    monkeypatch.setattr(ReplicatedSGD, "_pull", spy)
    whole = run(config, tmp_path / "whole")
    assert couplings == [(4, 4), (8, 2), (10, 2), (12, 2)]
    run(config, tmp_path / "cut", stop_after=7)
    assert torch.equal(weights(whole), weights(run(config, tmp_path / "cut")))


def test_the_stability_check_knows_the_change_of_the_coupling_period():
    models = [perceptron(seed) for seed in (0, 1)]
    optimizer = ReplicatedSGD(models, lr=1.0, gamma=0.25, coupling_period=2)
    assert optimizer.check_stability(20) is None  # ηKγ = 0.5
    with pytest.warns(StabilityWarning, match="from step 20 of 30 on"):
        excess = optimizer.check_stability(30, None, lambda step: 10 if step > 12 else 2)
    assert excess is not None and excess[:2] == (19, 2.5)


def test_rmsprop_is_efficientnets():
    config = small("sgd", optimizer="rmsprop", nesterov=False)
    optimizer = base_of(config)([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    assert isinstance(optimizer, torch.optim.RMSprop)
    assert optimizer.defaults["momentum"] == 0.9 and optimizer.defaults["alpha"] == 0.9


def test_bad_settings():
    for settings, words in [
        ({"passes": 0}, "passes is 0; a positive number"),
        ({"passes": 100}, "numbers between 0 and 100"),
        ({"optimizer": "adam"}, "optimizer is 'adam'; 'sgd' or 'rmsprop'"),
        ({"optimizer": "rmsprop"}, "nesterov is True with optimizer 'rmsprop'"),
        ({"lr_schedule": "linear"}, "lr_schedule is 'linear'"),
        ({"lr_schedule": "cosine"}, r"lr_drops is \(150, 225\); \(\) with cosine"),
    ]:
        with pytest.raises(ValueError, match=words):
            TrainingConfig(**settings)
    with pytest.raises(ValueError, match="cosine focusing needs"):
        KINDS["rsgd"](focusing="cosine")
    with pytest.raises(ValueError, match="gamma is no setting of sgd; its own settings are"):
        SMALL.changed(gamma=1)
    with pytest.raises(ValueError, match="algorithm is 'adam'; one of"):
        recipe("cifar10", "resnet18", "adam")


def test_nothing_is_created_before_everything_is_checked(tmp_path):
    for config, options, words in [
        (small("sgd", policy="autoaugment"), {}, "policy is 'autoaugment'; one of"),
        (small("sgd", model_options={"stem": "x"}), {}, "has no option 'stem'"),
        (small("sgd", dataset="foo"), {"data": None}, "dataset is 'foo'"),
        (SMALL, {"device": "tpu"}, "device is 'tpu'"),
        (SMALL, {"compile_mode": "on"}, "compile_mode is 'on'; 'off' or"),
        (SMALL, {"precision": "fp8"}, "precision is 'fp8'"),
    ]:
        with pytest.raises(ValueError, match=words):
            train(config, tmp_path / "run", **{"device": "cpu", "data": DATA, **options})
        assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="yielded no batch"):
        evaluate(torch.nn.Linear(2, 2), [])


def test_a_folder_belongs_to_its_settings(tmp_path):
    run(small("sgd"), tmp_path, stop_after=2)
    with pytest.raises(ValueError, match=r"of other settings: lr is 0\.05 there and 0\.1 here"):
        run(small("sgd", lr=0.1), tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match=r"checkpoint\.pt but no config\.json, so"):
        run(small("sgd"), tmp_path)


def test_a_finished_run_is_finished(tmp_path, monkeypatch):
    """It does not need its checkpoint. A missing final network is an error."""
    first = weights(run(small("sgd"), tmp_path))
    files = [path for path in tmp_path.iterdir() if path.name != "checkpoint.pt"]
    kept = {path: path.read_bytes() for path in files if path.is_file()}
    (tmp_path / "checkpoint.pt").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("deep.training.Training", None)
        assert torch.equal(weights(run(small("sgd"), tmp_path)), first)
        assert kept == {path: path.read_bytes() for path in kept}
        (tmp_path / "final.pt").unlink()
        with pytest.raises(ValueError, match=r"final\.pt does not exist, though the run is"):
            run(small("sgd"), tmp_path)


@pytest.mark.parametrize(
    "name", ["config.json", "result.json", "final.pt", "checkpoint.pt", "log.csv"]
)
def test_a_damaged_file_is_named(tmp_path, name):
    """A truncated or wrong file is named in the error. A deleted file is made again."""
    done = run(small("sgd", passes=2, lr_drops=()), tmp_path)
    first = weights(done)
    content = (tmp_path / name).read_bytes()
    for damaged in (content[: len(content) // 2], b"[]"):
        (tmp_path / name).write_bytes(damaged)
        if name == "checkpoint.pt":
            (tmp_path / "result.json").unlink(missing_ok=True)
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            found = run(small("sgd", passes=2, lr_drops=()), tmp_path)
            found.log, found.network()
    if name in ("result.json", "final.pt", "log.csv"):
        for path in {name, "result.json"}:
            (tmp_path / path).unlink()
        again = run(small("sgd", passes=2, lr_drops=()), tmp_path)
        assert torch.equal(weights(again), first) and rows(again).equals(rows(done))


def test_a_full_disk_or_a_read_only_folder_is_named(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match=r"config\.json cannot be written \(No space left"):
            run(small("sgd"), tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file is a file; a folder was expected"):
        run(small("sgd"), tmp_path / "file")
    read_only = tmp_path / "read-only"
    read_only.mkdir(mode=0o500)
    with permissions_in_force():
        with pytest.raises(PermissionError, match=r"Permission denied: '.*/read-only/\.lock'"):
            run(small("sgd"), read_only)
        with pytest.raises(PermissionError, match=r"Permission denied: '.*/read-only/run'"):
            run(small("sgd"), read_only / "run")
    assert not [*read_only.iterdir()]


@contextmanager
def permissions_in_force():
    """Drops root's capabilities to override file permissions."""
    if os.geteuid() != 0:
        yield
        return
    libc, header, sets = (
        ctypes.CDLL(None),
        (ctypes.c_uint32 * 2)(0x20080522, 0),
        ctypes.c_uint32 * 6,
    )
    before, without = sets(), sets()
    assert libc.capget(header, before) == libc.capget(header, without) == 0
    without[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, without) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


def test_an_archive_is_known_by_its_content(tmp_path):
    for name, content in (("one", b"a"), ("moved", b"a"), ("other", b"b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "images.tar").write_bytes(content)
    datasets = {name: str(tmp_path / name / "images.tar") for name in ("one", "moved", "other")}
    run(small("sgd", dataset=datasets["one"]), tmp_path / "run", stop_after=2)
    with pytest.raises(ValueError, match="of other settings: archive is"):
        run(small("sgd", dataset=datasets["other"]), tmp_path / "run")
    assert run(small("sgd", dataset=datasets["moved"]), tmp_path / "run").result


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    run(small("rsgd"), tmp_path / "one", stop_after=2)
    other = small("rsgd", model_options={"channels": [4, 5], "hidden": 8, "image_size": 16})
    run(other, tmp_path / "two", stop_after=2)
    (tmp_path / "one/checkpoint.pt").write_bytes((tmp_path / "two/checkpoint.pt").read_bytes())
    with pytest.raises(ValueError, match="belongs to another model"):
        run(small("rsgd"), tmp_path / "one")
