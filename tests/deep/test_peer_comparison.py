"""The command ``peers``: equal budgets, means and errors, what it writes, resume, bad input."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from deep.peer_comparison import equal_budget, summary
from deep.peer_figure import plot_peers
from deep.standard_error import standard_error
from deep.stored_runs import load_network

from deep.__main__ import main
from deep.config import PEERS
from deep.flatness import local_energy
from deep.images.datasets import synthetic_images
from deep.images.minibatches import ImageBatches

DATA = synthetic_images(train=140, test=40)
ALGORITHMS = ["sgd", "sam", "swa", "rsgd"]


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    monkeypatch.setattr("deep.training.load_images", lambda *_: DATA)
    monkeypatch.setattr("deep.stored_runs.load_images", lambda *_: DATA)
    return [
        "peers", "--dataset", "synthetic", "--algorithms", *ALGORITHMS, "--seeds", "0", "1",
        "--passes", "3", "--sigmas", "0.1", "0.5", "--samples", "2", "--images", "50",
        "--device", "cpu", "--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "peers"),
    ]  # fmt: skip


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_table_is_what_the_runs_say_and_nothing_is_done_twice(
    tmp_path, arguments, monkeypatch, capsys
):
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    table, rows = (read(tmp_path / f"peers/{name}.csv") for name in ("peers", "runs"))
    assert [row["algorithm"] for row in table] == ALGORITHMS
    for line in table:
        assert line["n"] == "2" and float(line["passes"]) == 3
        folders = [
            tmp_path / f"runs/synthetic-smallconvnet-{line['algorithm']}/seed-{seed}"
            for seed in (0, 1)
        ]
        errors = [
            100 * json.loads((folder / "result.json").read_text())["test_error"]
            for folder in folders
        ]
        assert float(line["test_error_percent"]) == pytest.approx(np.mean(errors))
        assert float(line["test_error_percent_se"]) == pytest.approx(
            np.std(errors, ddof=1) / 2**0.5, abs=1e-9
        )
        assert f"{np.mean(errors):.2f} ± " in printed
        assert float(line["memory_MiB"]) > 5 and float(line["seconds_per_gradient"]) > 0
    # A number of the table, measured by hand.
    network = load_network(tmp_path / "runs/synthetic-smallconvnet-swa/seed-1/final.pt")
    batches = ImageBatches(DATA, network.config.preprocessing(DATA), "test", images=50)
    profile = local_energy(network.model, batches, (0.1, 0.5), samples=2)
    (row,) = (r for r in rows if (r["algorithm"], r["seed"]) == ("swa", "1"))
    assert float(row["test_local_energy_percent_0.5"]) == pytest.approx(
        100 * profile.local_energy[1], rel=1e-5
    )
    about = json.loads((tmp_path / "peers/peers.json").read_text())
    assert len(about["runs"]) == 8 and "torch" in next(iter(about["runs"].values()))["machine"]
    assert (tmp_path / "peers/peers.png").exists() and (tmp_path / "peers/peers.pdf").exists()

    def fail(*_):
        raise AssertionError("done twice")

    monkeypatch.setattr("deep.stored_runs.local_energy", fail)
    monkeypatch.setattr("deep.training_run.TrainingRun.step", fail)
    before = (tmp_path / "peers/peers.csv").read_bytes()
    assert main(arguments) == 0
    assert (tmp_path / "peers/peers.csv").read_bytes() == before


def test_all_algorithms_have_the_same_budget():
    configs = equal_budget("cifar10", "resnet110", ("sgd", "esgd", "rsgd", *PEERS), 10)
    for config in configs:
        gradients = config.steps(391) * config.gradients_per_step
        assert abs(gradients - 3910) <= config.gradients_per_step / 2
        assert config.batch_size == 128
    # Without a number it is that of SGD's recipe, also for eSGD, whose own has 160 passes.
    assert {c.passes for c in equal_budget("cifar10", "resnet110", ("sgd", "esgd"))} == {164}


def test_means_and_standard_errors():
    def row(seed, error, algorithm="sam"):
        return {
            "algorithm": algorithm, "seed": seed, "passes": 3.0, "test_error_percent": error,
            "train_local_energy_percent_0.2": 2 * error, "seconds_per_gradient": 0.5,
            "hours": 1.0, "memory_MiB": 7.0, "device": "cpu",
        }  # fmt: skip

    table = summary([row(0, 10.0), row(0, 5.0, "sgd"), row(1, 14.0)])
    assert [(line["algorithm"], line["n"], line["hours"]) for line in table] == [
        ("sam", 2, 2.0),
        ("sgd", 1, 1.0),
    ]
    assert (table[0]["test_error_percent"], table[0]["test_error_percent_se"]) == (12.0, 2.0)
    assert table[0]["train_local_energy_percent_0.2"] == 24.0
    assert table[1]["test_error_percent_se"] is None
    assert standard_error([1.0, 2.0, 3.0]) == pytest.approx(1 / 3**0.5)
    axes = plot_peers(table, 0.2)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "sam, n = 2",
        "sgd, n = 1",
    ]
    np.testing.assert_allclose(axes.containers[0].lines[0].get_xydata(), [[24.0, 12.0]])


def test_bad_commands(arguments, capsys):
    def message(*changes):
        assert main([*arguments, *changes]) == 1
        return capsys.readouterr().err

    assert "algorithms has 'rsgd-xy', whose replicas" in message("--algorithms", "sgd", "rsgd-xy")
    assert "different names were expected" in message("--algorithms", "sgd", "sgd")
    assert "passes is 0.0; a positive number" in message("--passes", "0")
    assert "seeds is (1, 1); different numbers" in message("--seeds", "1", "1")
    assert "strictly increasing numbers were expected" in message("--sigmas", "0.5", "0.1")
