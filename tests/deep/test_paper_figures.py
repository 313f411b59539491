"""Figures 2 to 5 from stored runs: means over seeds, epochs, panels, bad input."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from deep.__main__ import main
from deep.algorithms import ALGORITHMS
from deep.device import Device
from deep.figures import plot_curves
from deep.measurements import FlatnessOptions, Images, measure_flatness
from deep.paper_figures import error_curves, flatness_curves
from deep.run import Run, open_runs, run_folder
from deep.training import train
from message_passing.tools.files import write_json
from tests.deep.test_training import DATA, small

OPTIONS = FlatnessOptions(sigmas=(0.0, 0.4), samples=3)


def config_of(algorithm, seed, **changes):
    return small(algorithm, seed=seed, lr_drops=(), snapshots=(0.25, 0.5, 0.9), **changes)


def make(runs, config, stop_after=None):
    folder = run_folder(runs, config)
    train(config, folder, "cpu", DATA, stop_after=stop_after, progress=False)
    return folder


def measure(folder, options):
    run = Run(folder)
    for name in run.networks:
        measure_flatness(run, name, options, Images(Device("cpu"), DATA))


@pytest.fixture(scope="module")
def all_runs(tmp_path_factory):
    """Two seeds of each algorithm, measured."""
    runs = tmp_path_factory.mktemp("runs")
    for algorithm in ALGORITHMS:
        for seed in (0, 1):
            measure(make(runs, config_of(algorithm, seed)), OPTIONS)
    return runs


@pytest.fixture
def runs(all_runs, tmp_path):
    return shutil.copytree(all_runs, tmp_path / "runs")


def seeds_of(runs, algorithm):
    return sorted(runs.glob(f"*-16-{algorithm}/seed-*"))


def folders(runs):
    return sorted(path.parent for path in runs.glob("*/*/config.json"))


def halves(one, other):
    """The mean of two numbers and its standard error, which is half their difference."""
    return (one + other) / 2, abs(one - other) / 2


def test_error_curves_are_means_over_seeds(runs):
    table = error_curves(open_runs(folders(runs)))
    assert list(table["panel"].unique()) == ["smallconvnet, synthetic"]
    labels = [f"{name} (n = 2)" for name in ("SGD", "rSGD", "eSGD", "rSGD×y")]
    assert list(table["label"].unique()) == labels
    for algorithm, curve in table.groupby("algorithm"):
        one, other = (Run(f).log["test_error"].to_numpy() for f in seeds_of(runs, algorithm))
        mean, error = halves(one, other)
        np.testing.assert_allclose(curve["test_error"], mean)
        np.testing.assert_allclose(curve["test_error_standard_error"], error, atol=1e-12)
        # Epochs count the data used. rSGD's replicas share each pass, but rSGD×y's do not.
        epochs = (3, 6) if algorithm == "rsgd" else range(1, 7)
        np.testing.assert_allclose(curve["epochs"], epochs)


def test_unfinished_runs_count_as_far_as_all_seeds_go(runs):
    third = make(runs, config_of("sgd", 2), stop_after=13)
    found = open_runs(seeds_of(runs, "sgd"))
    table = error_curves(found)
    assert len(table) == 2 and (table["label"] == "SGD (n = 3)").all()
    with pytest.raises(ValueError, match=re.escape(f"{third} is not finished; `python")):
        flatness_curves(found)


def test_flatness_panels(runs):
    found = open_runs(folders(runs))
    table = flatness_curves(found, along=True)
    name = "smallconvnet, synthetic"
    panels = [f"{name}, {t}" for t in ("25 % of training", "50 % of training", "at the end")]
    # After 90 % all runs are at their last row, which is the end. rSGD logs only two rows, so it
    # reaches 25 % and 50 % in the same row.
    shown = {p: list(own["algorithm"].unique()) for p, own in table.groupby("panel", sort=False)}
    expected = [["sgd", "esgd", "rsgd-xy"], [*ALGORITHMS], [*ALGORITHMS]]
    assert shown == dict(zip(panels, expected, strict=True))
    for algorithm in ALGORITHMS:
        curve = table[(table["panel"] == panels[-1]) & (table["algorithm"] == algorithm)]
        two = [Run(folder) for folder in seeds_of(runs, algorithm)]
        mean, error = halves(*(run.flatness().local_energy for run in two))
        np.testing.assert_allclose(curve["sigma"], (0, 0.4))
        np.testing.assert_allclose(curve["local_energy"], mean)
        np.testing.assert_allclose(curve["local_energy_standard_error"], error, atol=1e-12)
        last = curve.iloc[-1]
        train_error = np.mean([run.flatness().reference_error for run in two])
        test_error = np.mean([run.result["test_error"] for run in two])
        errors = f"({100 * train_error:.1f}, {100 * test_error:.1f})"
        assert last["label"].endswith(f", 6 {errors}, n = 2")
        losses = [run.result["train_loss"] for run in two]
        assert last["train_loss"] == pytest.approx(np.mean(losses))
        assert (last["epoch"], last["n"], last["noise_vectors"]) == (6, 2, 3)
        assert last["images"] == "cropped and flipped images"
    final = flatness_curves(found)
    assert list(final["panel"].unique()) == [name] and final["algorithm"].nunique() == 4


def test_the_band_of_a_single_run_is_that_of_the_noise(runs):
    run = Run(seeds_of(runs, "sgd")[0])
    error = flatness_curves([run])["local_energy_standard_error"]
    np.testing.assert_allclose(error, run.flatness().standard_error)
    table = error_curves([run])
    assert table["test_error_standard_error"].isna().all()
    assert (table["label"] == "SGD (n = 1)").all()


def test_the_networks_need_not_be_kept(runs):
    """The figures need only configuration, log, result and measured flatness."""
    before = flatness_curves(open_runs(folders(runs)), along=True)
    # While networks are kept, a measurement without its network does not count.
    folder = folders(runs)[0] / "flatness"
    shutil.copy(next(folder.glob("passes-*.json")), folder / "passes-0002.5.json")
    assert flatness_curves(open_runs(folders(runs)), along=True).equals(before)
    (folder / "passes-0002.5.json").unlink()
    for network in runs.glob("*/*/**/*.pt"):
        network.unlink()
    assert flatness_curves(open_runs(folders(runs)), along=True).equals(before)


@pytest.mark.parametrize("number", ["2", "3", "4"])
def test_commands_write_figures_and_numbers(runs, tmp_path, capsys, number):
    cells = sorted({f.parent for f in folders(runs)})
    main(["figure", number, *map(str, cells), "--out", str(tmp_path / "out")])
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        f"figure{number}.{kind}" for kind in ("csv", "pdf", "png")
    }
    printed = capsys.readouterr().out
    said = "δE and train error: cropped and flipped images, 3 noise vectors."
    assert (said in printed) == (number != "2")


def test_runs_without_a_row_of_their_log_are_left_out(runs, tmp_path):
    folder = seeds_of(runs, "sgd")[0]
    content = json.loads((folder / "config.json").read_text())
    content["settings"] |= {"model": "resnet110", "model_options": {}}
    other = shutil.copytree(folder, runs / "synthetic-resnet110-sgd/seed-0")
    write_json(other / "config.json", content)
    content["settings"]["seed"] = 1
    write_json(other.parent / "seed-1/config.json", content)
    main(["figure", "5", str(other.parent), "--out", str(tmp_path / "out")])
    assert (pd.read_csv(tmp_path / "out/figure5.csv")["n"] == 1).all()
    with pytest.raises(ValueError, match="one data set and model were expected"):
        flatness_curves(open_runs([folder, other]), along=True)


def test_what_does_not_fit_is_refused(runs):
    one, two = seeds_of(runs, "sgd")
    measure(two, replace(OPTIONS, samples=2))
    with pytest.raises(ValueError, match=r"with samples 3, the flatness of .* with 2; measure"):
        flatness_curves(open_runs([one, two]))
    (one / "flatness/final.json").unlink()
    with pytest.raises(ValueError, match=re.escape(f"measured; `python -m deep flatness {one}`")):
        flatness_curves(open_runs([one]))
    other = make(runs / "other", config_of("sgd", 5, lr_factor=0.2))
    with pytest.raises(
        ValueError, match=r"the seed only were expected; lr_factor is 0\.1 and 0\.2 in"
    ):
        error_curves(open_runs([one, other]))
    with pytest.raises(ValueError, match="and the same seed"):
        error_curves([Run(one), Run(one)])
    (one / "log.csv").unlink()
    with pytest.raises(ValueError, match=r"has no log\.csv yet; `python -m deep train`"):
        error_curves(open_runs([one]))


def test_panels_share_axes_and_say_what_was_measured():
    table = pd.DataFrame({
        "panel": np.repeat([*"abcde"], 2), "dataset": "d", "model": "m", "algorithm": "esgd",
        "label": "one", "sigma": [0.0, 1.0] * 5, "n": 1, "local_energy": np.arange(10) / 100,
        "local_energy_standard_error": [0.1, np.nan] * 5, "images": "images as they are",
        "noise_vectors": 10,
    })  # fmt: skip
    axes = plot_curves(table)
    assert [ax.get_title() for ax in axes] == [*"abcde"]
    np.testing.assert_allclose(axes[0].lines[0].get_xydata(), [[0, 0], [1, 1]])
    assert axes[0].lines[0].get_color() == "C2"
    assert len({ax.get_ylim() for ax in axes}) == len({ax.get_xlim() for ax in axes}) == 1
    *_, note = axes[0].figure.axes
    assert "δE and train error: images as they are" in note.texts[0].get_text()
    assert not note.axison
