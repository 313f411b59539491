"""The command ``baselines``: equal budgets, means and errors, files, resuming, bad input."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from deep.__main__ import main
from deep.algorithms import BASELINES
from deep.baselines import equal_budget
from deep.figures import plot_baselines
from deep.images.datasets import synthetic_images
from deep.images.minibatches import ImageBatches
from deep.run import Run, runs
from deep.weight_noise import local_energy

DATA = synthetic_images(train=140, test=40)
ALGORITHMS = ["sgd", "sam", "swa", "rsgd"]


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    monkeypatch.setattr("deep.training.load_images", lambda *_: DATA)
    monkeypatch.setattr("deep.images.datasets.load_images", lambda *_: DATA)
    return [
        "baselines", "--dataset", "synthetic", "--algorithms", *ALGORITHMS, "--seeds", "0", "1",
        "--passes", "3", "--sigmas", "0.1", "0.5", "--samples", "2", "--images", "50",
        "--device", "cpu", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"),
    ]  # fmt: skip


def test_the_table_is_what_the_runs_say_and_nothing_is_done_twice(
    tmp_path, arguments, monkeypatch, capsys
):
    main(arguments)
    assert "| sam " in capsys.readouterr().out
    table, rows = (pd.read_csv(tmp_path / f"out/{name}.csv") for name in ("baselines", "runs"))
    assert list(table["algorithm"]) == ALGORITHMS
    for _, line in table.iterrows():
        assert (line["n"], line["passes"]) == (2, 3)
        stored = runs(tmp_path / f"runs/synthetic-smallconvnet-{line['algorithm']}/seed-*")
        assert line["test_error"] == pytest.approx(stored["test_error"].mean(), rel=1e-5)
        error = np.std(stored["test_error"], ddof=1) / 2**0.5
        assert line["test_error_standard_error"] == pytest.approx(error, rel=1e-5, abs=1e-9)
        assert line["memory_MiB"] > 5 and line["seconds_per_gradient"] > 0
    # A number of the table, measured by hand.
    run = Run(tmp_path / "runs/synthetic-smallconvnet-swa/seed-1")
    batches = ImageBatches(DATA, DATA.preprocessing(), "test", images=50)
    profile = local_energy(run.network().model, batches, sigmas=(0.1, 0.5), samples=2)
    (value,) = rows.query("algorithm == 'swa' and seed == 1")["test_local_energy_0.5"]
    assert value == pytest.approx(profile.local_energy[1], rel=1e-5)
    assert (tmp_path / "out/baselines.png").exists() and (tmp_path / "out/baselines.pdf").exists()

    monkeypatch.setattr("deep.weight_noise.local_energy", None)
    monkeypatch.setattr("deep.training.Training", None)
    before = (tmp_path / "out/baselines.csv").read_bytes()
    main(arguments)
    assert (tmp_path / "out/baselines.csv").read_bytes() == before


def test_all_algorithms_have_the_same_budget():
    configs = equal_budget("cifar10", "resnet110", ("sgd", "esgd", "rsgd", *BASELINES), 10)
    for config in configs:
        gradients = config.steps(391) * config.algorithm.gradients_per_step
        assert abs(gradients - 3910) <= config.algorithm.gradients_per_step / 2
        assert config.batch_size == 128
    # By default all get the 164 passes of SGD's recipe. The recipe of eSGD has 160.
    assert {c.passes for c in equal_budget("cifar10", "resnet110", ("sgd", "esgd"))} == {164}


def test_the_figure_shows_the_means():
    table = pd.DataFrame({
        "algorithm": ["sam", "sgd"], "n": [2, 1], "passes": 3.0, "test_error": [0.12, 0.05],
        "test_error_standard_error": [0.02, np.nan], "train_local_energy_0.2": [0.24, 0.1],
        "train_local_energy_0.2_standard_error": [0.04, np.nan],
    })  # fmt: skip
    axes = plot_baselines(table, "train_local_energy_0.2")
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["SAM, n = 2", "SGD, n = 1"]
    np.testing.assert_allclose(axes.containers[0].lines[0].get_xydata(), [[24.0, 12.0]])


def test_bad_commands(tmp_path, arguments, monkeypatch):
    def said(words, *changes):
        with pytest.raises(SystemExit, match=re.escape(words)):
            main([*arguments, *changes])

    said("rsgd, whose replicas share the passes was expected", "--algorithms", "sgd", "rsgd-xy")
    said("a list of different names was expected", "--algorithms", "sgd", "sgd")
    said("passes is 0.0; a positive number", "--passes", "0")
    said("seeds is (1, 1); at least one was expected, each once", "--seeds", "1", "1")
    said("strictly increasing numbers were expected", "--sigmas", "0.5", "0.1")
    assert not (tmp_path / "runs").exists()
    # All runs are checked before the first one trains.
    folder = tmp_path / "runs/synthetic-smallconvnet-rsgd/seed-1"
    main(["train", "--dataset", "synthetic", "--algorithm", "rsgd", "--passes", "1", "--lr", "0.3",
          "--seeds", "1", "--device", "cpu", "--runs", str(tmp_path / "runs")])  # fmt: skip
    said(f"{folder} holds results of other settings: lr is 0.3 there and 0.05 here")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [folder.parent.name]
