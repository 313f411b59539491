"""The command line, stored runs and figures, on small synthetic data."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from deep.commands.train import published_line
from deep.stored_runs import FlatnessOptions, load_network, measure_flatness, networks_of

from deep.__main__ import main
from deep.benchmark import BenchmarkOptions, benchmark
from deep.images.datasets import synthetic_images
from deep.recipes import recipe

SETTINGS = [
    "--dataset", "synthetic", "--batch-size", "25", "--passes", "3", "--replicas", "2",
    "--snapshots", "0.5", "--device", "cpu",
]  # fmt: skip


@pytest.fixture(autouse=True)
def small_data(monkeypatch):
    data = synthetic_images(train=100, test=40)
    monkeypatch.setattr("deep.training.load_images", lambda *_: data)
    monkeypatch.setattr("deep.stored_runs.load_images", lambda *_: data)


@pytest.fixture
def runs(tmp_path):
    for algorithm in ("sgd", "rsgd"):
        arguments = [*SETTINGS, "--algorithm", algorithm, "--runs", str(tmp_path / "runs")]
        seeds = ["--seeds", "0", "1"] if algorithm == "sgd" else []
        assert main(["train", *arguments, *seeds]) == 0
    return tmp_path / "runs"


def test_train_sums_up_and_continues(runs, capsys):
    folder = runs / "synthetic-smallconvnet-sgd"
    rows = list(csv.DictReader((folder / "summary.csv").open()))
    assert [row["seed"] for row in rows] == ["0", "1"]
    results = [json.loads((folder / f"seed-{s}/result.json").read_text()) for s in (0, 1)]
    for row, result in zip(rows, results, strict=True):
        assert float(row["test_error_percent"]) == pytest.approx(100 * result["test_error"])
    config = json.loads((folder / "seed-1/config.json").read_text())
    # The published drops at 150 and 225 of 300 passes, moved along.
    assert config["seed"] == 1 and config["lr_drops"] == [1.5, 2.25]
    assert (folder / "training.pdf").exists()
    capsys.readouterr()
    again = [*SETTINGS, "--algorithm", "sgd", "--runs", str(runs), "--seeds", "0", "1"]
    assert main(["train", *again]) == 0
    mean = np.mean([float(row["test_error_percent"]) for row in rows])
    printed = capsys.readouterr().out
    assert f"n = 2: test error {mean:.2f} ± " in printed and "published" not in printed


def test_options_of_the_model(tmp_path, capsys):
    arguments = [*SETTINGS, "--runs", str(tmp_path), "--model-options", "hidden", "7"]
    assert main(["train", *arguments]) == 0
    network = networks_of(tmp_path / "synthetic-smallconvnet-hidden-7-sgd/seed-0")[-1]
    assert network.model.classifier[0].out_features == 7
    assert main(["train", *arguments[:-2], "stem", "cifar"]) == 1
    assert "smallconvnet has no option 'stem'" in capsys.readouterr().err


def test_the_published_error_is_that_of_the_data_set():
    def line(dataset, model, algorithm):
        return published_line(recipe(dataset, model, algorithm))

    assert line("x/cifar10-jpeg.tar.xz", "resnet18", "sgd").endswith("images): 13.1 ± 0.3 %")
    assert line("cifar100", "pyramidnet272", "rsgd-xy").endswith(
        "cifar100 (the original images): 12.7 %"
    )
    assert line("cifar100", "resnet18", "sgd") is None
    assert line("cifar10", "pyramidnet272", "esgd") is None


def test_flatness_of_runs_is_measured_once(runs, tmp_path, monkeypatch):
    folders = [str(runs / f"synthetic-smallconvnet-{a}/seed-0") for a in ("sgd", "rsgd")]
    output = tmp_path / "flatness"
    arguments = [
        "flatness", *folders, "--sigmas", "0", "0.5", "--samples", "2", "--images", "50",
        "--output", str(output), "--device", "cpu",
    ]  # fmt: skip
    assert main(arguments) == 0
    rows = list(csv.DictReader((output / "flatness.csv").open()))
    assert len(rows) == 2 * 2 * 2  # runs, networks, sigmas
    assert [row["passes"] for row in rows[:4]] == ["2", "2", "3", "3"]
    assert float(rows[0]["local_energy"]) == 0.0
    assert {p.suffix for p in output.glob("flatness.*")} == {".csv", ".pdf", ".png"}

    def fail(*_):
        raise AssertionError("measured twice")

    monkeypatch.setattr("deep.stored_runs.local_energy", fail)
    assert main(arguments) == 0
    with pytest.raises(AssertionError, match="measured twice"):
        measure_flatness(folders[0], FlatnessOptions(sigmas=(0.1,), samples=2, images=50), "cpu")


def test_stored_networks_are_read_back(runs):
    folder = runs / "synthetic-smallconvnet-rsgd/seed-0"
    snapshot, final = networks_of(folder)
    assert snapshot.path.parent.name == "snapshots" and final.passes == 3
    assert final.test_error == json.loads((folder / "result.json").read_text())["test_error"]
    with pytest.raises(ValueError, match="holds no stored network"):
        networks_of(runs)
    with pytest.raises(ValueError, match="there is no stored network"):
        load_network(folder / "last.pt")
    with pytest.raises(ValueError, match="a stored network was expected"):
        load_network(folder / "checkpoint.pt")


def test_bad_commands(tmp_path, capsys):
    assert main(["trian"]) == 2
    assert main(["train", "--model", "resnet19"]) == 1
    assert "model is 'resnet19'; one of" in capsys.readouterr().err
    assert main(["train", *SETTINGS, "--device", "tpu", "--runs", str(tmp_path)]) == 1
    assert "device is 'tpu'" in capsys.readouterr().err
    assert main(["flatness", str(tmp_path)]) == 1
    assert "holds no stored network" in capsys.readouterr().err
    assert main([]) == 2 and main(["--help"]) == 0


def test_the_benchmark_counts_memory():
    """Weights, gradients, momentum; Entropy-SGD adds anchor, average and a second momentum."""
    options = BenchmarkOptions(
        model="smallconvnet", batch_size=2, steps=2, repeats=2, replicas=2, device="cpu"
    )
    plain, esgd, rsgd = benchmark(options)
    one = 657_080 * 4 / 2**20
    assert plain["memory_MiB"] == pytest.approx(3 * one, rel=1e-3)
    assert esgd["memory_MiB"] == pytest.approx(6 * one, rel=1e-3)
    assert rsgd["memory_MiB"] == pytest.approx(6 * one, rel=1e-3)
    assert plain["overhead_percent"] == 0 and esgd["milliseconds"] > 0
    with pytest.raises(ValueError, match="repeats is 1; at least 2 was expected"):
        BenchmarkOptions(repeats=1)
