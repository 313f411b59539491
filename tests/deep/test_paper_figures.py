"""Figures 2 to 5 from stored runs: means over seeds, epochs, panels, what is refused."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from deep.run_folders import run_folder
from deep.run_logs import find_runs, runs_of
from deep.stored_runs import FlatnessOptions, measure_flatness

from deep.__main__ import main
from deep.config import ALGORITHMS, TrainingConfig
from deep.figures import Curve, plot_curves
from deep.images.datasets import synthetic_images
from deep.paper_figures import error_panels, flatness_along_training, flatness_at_the_end
from deep.training import train
from message_passing.tools.files import write_json

DATA = synthetic_images(train=96, test=40, classes=4, size=16)
CONFIG = TrainingConfig(
    dataset="synthetic", model_options={"channels": [4, 6], "hidden": 8, "image_size": 16},
    passes=6, batch_size=16, lr=0.05, lr_drops=(), coupling_period=2, gamma=0.01,
    gamma_growth=10, snapshots=(0.25, 0.5, 0.9),
)  # fmt: skip
OPTIONS = FlatnessOptions(sigmas=(0.0, 0.4), samples=3)


def config_of(algorithm, seed, **changes):
    lr = 0.5 if algorithm == "esgd" else 0.05
    return replace(CONFIG, algorithm=algorithm, seed=seed, lr=lr, **changes)


def make(runs, config, stop_after=None):
    folder = run_folder(runs, config)
    train(config, folder, "cpu", DATA, stop_after=stop_after, progress=False)
    return folder


@pytest.fixture(scope="module")
def all_runs(tmp_path_factory):
    """Two seeds of each algorithm, measured."""
    runs = tmp_path_factory.mktemp("runs")
    for algorithm in ALGORITHMS:
        for seed in (0, 1):
            folder = make(runs, config_of(algorithm, seed))
            measure_flatness(folder, OPTIONS, "cpu", DATA)
    return runs


@pytest.fixture
def runs(all_runs, tmp_path):
    return shutil.copytree(all_runs, tmp_path / "runs")


def seeds_of(runs, algorithm):
    return sorted(runs.glob(f"*-16-{algorithm}/seed-*"))


def log(folder, name):
    with (folder / "log.csv").open() as file:
        return np.array([float(row[name]) for row in csv.DictReader(file)])


def folders(runs):
    return sorted(path.parent for path in runs.glob("*/*/config.json"))


def test_error_curves_are_means_over_seeds(runs):
    panels, rows = error_panels(runs_of(folders(runs)))
    ((title, curves),) = panels.items()
    assert title == "smallconvnet, synthetic"
    assert [c.algorithm for c in curves] == list(ALGORITHMS)
    assert [c.label for c in curves] == [f"{n} (n = 2)" for n in ("SGD", "rSGD", "eSGD", "rSGD×y")]
    for curve in curves:
        a, b = (100 * log(f, "test_error") for f in seeds_of(runs, curve.algorithm))
        np.testing.assert_allclose(curve.y, (a + b) / 2)
        # Of two numbers the standard error is half their difference.
        np.testing.assert_allclose(curve.error, abs(a - b) / 2, atol=1e-12)
    # The same data consumed: passes are shared by the replicas, but not in rSGD×y.
    sgd, rsgd, esgd, rsgd_xy = (curve.x for curve in curves)
    np.testing.assert_allclose(sgd, range(1, 7))
    np.testing.assert_allclose(rsgd, (3, 6))
    np.testing.assert_allclose(esgd, sgd)
    np.testing.assert_allclose(rsgd_xy, sgd)
    assert len(rows) == 6 + 2 + 6 + 6 and rows[0]["epochs"] == 1 and rows[0]["n"] == 2


def test_unfinished_runs_count_as_far_as_all_seeds_go(runs):
    third = make(runs, config_of("sgd", 2), stop_after=13)
    found = runs_of(seeds_of(runs, "sgd"))
    assert len(found) == 3
    ((curve,),) = error_panels(found)[0].values()
    assert len(curve.x) == 2 and curve.label == "SGD (n = 3)"
    with pytest.raises(ValueError, match=re.escape(f"{third} is not finished; `python")):
        flatness_at_the_end(found)


def test_flatness_panels(runs):
    found = runs_of(folders(runs))
    panels, rows = flatness_along_training(found)
    name = "smallconvnet, synthetic"
    assert list(panels) == [
        f"{name}, {t}" for t in ("25 % of training", "50 % of training", "at the end")
    ]
    # After 90 % all have come to the last row, the end. rSGD, with two rows in its log, passes a
    # quarter and a half at once.
    algorithms = [[c.algorithm for c in curves] for curves in panels.values()]
    assert algorithms == [["sgd", "esgd", "rsgd-xy"], list(ALGORITHMS), list(ALGORITHMS)]
    for algorithm, curve in zip(ALGORITHMS, panels[f"{name}, at the end"], strict=True):
        stored = [
            json.loads((f / "flatness/final.json").read_text()) for f in seeds_of(runs, algorithm)
        ]
        a, b = (100 * np.array(s["profile"]["local_energy"]) for s in stored)
        np.testing.assert_allclose(curve.x, (0, 0.4))
        np.testing.assert_allclose(curve.y, (a + b) / 2)
        np.testing.assert_allclose(curve.error, abs(a - b) / 2, atol=1e-12)
        train_error = 50 * sum(s["profile"]["reference_error"] for s in stored)
        test_error = 50 * sum(s["options"]["test_error"] for s in stored)
        assert curve.label.endswith(f", 6 ({train_error:.1f}, {test_error:.1f}), n = 2")
        losses = [
            json.loads((f / "result.json").read_text())["train_loss"]
            for f in seeds_of(runs, algorithm)
        ]
        last = next(
            r for r in rows if r["panel"].endswith("the end") and r["algorithm"] == algorithm
        )
        assert last["train_loss_at_the_end"] == pytest.approx(np.mean(losses))
        assert (last["epoch"], last["n"], last["noise_vectors"]) == (6, 2, 3)
    (final,) = flatness_at_the_end(found)[0].items()
    assert final[0] == name and len(final[1]) == 4


def test_the_band_of_a_single_run_is_that_of_the_noise(runs):
    folder = seeds_of(runs, "sgd")[0]
    ((curve,),) = flatness_at_the_end(runs_of([folder]))[0].values()
    stored = json.loads((folder / "flatness/final.json").read_text())
    np.testing.assert_allclose(curve.error, 100 * np.array(stored["profile"]["standard_error"]))
    ((curve,),) = error_panels(runs_of([folder]))[0].values()
    assert np.isnan(curve.error).all() and curve.label == "SGD (n = 1)"


def test_the_networks_need_not_be_kept(runs):
    """Configuration, log, result and measured flatness draw the same figures."""
    found = runs_of(folders(runs))
    before = flatness_along_training(found)[1]
    # Where they are kept, what is left of a network that is gone does not count.
    folder = found[0].folder / "flatness"
    shutil.copy(next(folder.glob("passes-*.json")), folder / "passes-0002.5.json")
    assert flatness_along_training(found)[1] == before
    (folder / "passes-0002.5.json").unlink()
    for network in runs.glob("*/*/**/*.pt"):
        network.unlink()
    assert flatness_along_training(found)[1] == before


@pytest.mark.parametrize("command", ["figure2", "figure3", "figure4"])
def test_commands_write_figures_and_numbers(runs, tmp_path, capsys, command):
    cells = sorted({f.parent for f in folders(runs)})
    arguments = [command, *map(str, cells), "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        f"{command}.{kind}" for kind in ("csv", "pdf", "png")
    }
    said = "Cross-entropy on the training set at the end: smallconvnet on synthetic, sgd: "
    assert (said in capsys.readouterr().out) == (command != "figure2")


def test_the_runs_of_a_figure_are_found(runs, tmp_path, capsys):
    assert main(["figure5", "--runs", str(runs)]) == 1
    assert (
        f"{runs} holds no run for this figure; `python -m deep table1 --rows cifar10-resnet110 "
        f"--runs {runs}` makes them." in capsys.readouterr().err
    )
    # Archives of the data set are found too.
    folder = seeds_of(runs, "sgd")[0]
    content = json.loads((folder / "config.json").read_text())
    content |= {"dataset": "x/cifar10-jpeg.tar.xz", "model": "resnet110", "model_options": {}}
    other = runs / "cifar10-jpeg-resnet110-sgd/seed-0"
    shutil.copytree(folder, other)
    write_json(other / "config.json", content)
    begun = runs / "cifar10-jpeg-resnet110-sgd/seed-1"
    write_json(begun / "config.json", content | {"seed": 1})
    assert [run.folder for run in find_runs(runs, [("cifar10", "resnet110")])] == [other]
    assert main(["figure5", "--runs", str(runs), "--output", str(tmp_path / "out")]) == 0
    with pytest.raises(ValueError, match="those of one data set and model were expected"):
        flatness_along_training(runs_of([folder, other]))


def test_what_does_not_fit_is_refused(runs):
    one, two = seeds_of(runs, "sgd")
    measure_flatness(two, replace(OPTIONS, samples=2), "cpu", DATA)
    with pytest.raises(ValueError, match=r"measured with samples 3, that of .* with 2; measure"):
        flatness_at_the_end(runs_of([one, two]))
    (one / "flatness/final.json").unlink()
    with pytest.raises(ValueError, match=re.escape(f"measured; `python -m deep flatness {one}`")):
        flatness_at_the_end(runs_of([one]))
    other = make(runs / "other", config_of("sgd", 5, lr_factor=0.2))
    with pytest.raises(ValueError, match=r"the seed only were expected; .*lr_factor is 0\.1"):
        error_panels(runs_of([one, other]))
    with pytest.raises(ValueError, match="and another run have the seed 0"):
        error_panels(runs_of([one, one]))
    with pytest.raises(ValueError, match=r"holds no config\.json; a run's folder was expected"):
        runs_of([runs])
    (one / "log.csv").unlink()
    with pytest.raises(ValueError, match=r"has no log\.csv yet; `python -m deep train`"):
        runs_of([one])


def test_panels_are_drawn_as_they_are_given():
    x = np.array([0.0, 1.0])
    curve = Curve("esgd", "one", x, x + 1, np.array([0.1, math.nan]))
    axes = plot_curves({str(n): [curve] for n in range(4)}, "x", "y")
    assert [ax.get_title() for ax in axes] == ["0", "1", "2", "3"]
    assert len(axes[0].figure.axes) == 4
    (line,) = axes[0].lines
    np.testing.assert_allclose(line.get_xydata(), [[0, 1], [1, 2]])
    assert line.get_color() == "C2" and axes[0].get_xlabel() == "x"
