"""``python -m deep table1``: what is there, what is trained, what the table says and costs."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from deep.cost import SHAPES, DataShape, Speed, bytes_per_image, gradients, hours, measure_speed
from deep.place import Place
from deep.run_folders import in_use, run_folder

from deep import cost
from deep.__main__ import main
from deep.commands import table1 as command
from deep.images.datasets import synthetic_images
from deep.recipes import PUBLISHED, TABLE, recipe
from deep.table1 import ROWS, cells, state_of, stored_result, table_text
from message_passing.tools.files import write_csv, write_json

ROW = ["--rows", "cifar10-smallconvnet", "--device", "cpu"]


@pytest.fixture(autouse=True)
def small_data(monkeypatch):
    """Three minibatches of 128."""
    data = synthetic_images(train=260, test=40)
    monkeypatch.setattr("deep.training.load_images", lambda *_: data)


def stored(runs, algorithm="sgd", seed=0, error=0.16, **changes):
    """A complete run, as far as the table looks."""
    config = replace(recipe("cifar10", "smallconvnet", algorithm, seed), **changes)
    folder = run_folder(runs, config)
    write_json(folder / "config.json", config.as_json())
    write_json(folder / "result.json", {"test_error": error})
    return folder


def table(runs):
    with (runs / "table1.csv").open() as file:
        return {(r["dataset"], r["model"], r["algorithm"]): r for r in csv.DictReader(file)}


def no_training(*_, **__):
    raise AssertionError("trained")


def weights(folder):
    return torch.load(folder / "final.pt", weights_only=True)["model"]


def test_the_budget_interrupts_and_the_same_command_continues(tmp_path, monkeypatch, capsys):
    """Bit for bit the runs of a command that was not interrupted."""
    short = [*ROW, "--algorithms", "sgd", "rsgd-xy", "--passes", "3"]
    assert main(["table1", *short, "--runs", str(tmp_path / "whole")]) == 0
    # The clock is asked at the start, before each run and at each row of the log: the hour is
    # over in the second row of the second run.
    calls = iter(range(100))
    monkeypatch.setattr(command, "monotonic", lambda: 0 if next(calls) < 7 else 3601)
    cut = [*short, "--runs", str(tmp_path / "cut")]
    assert main(["table1", *cut, "--budget", "1"]) == 0
    printed = capsys.readouterr().out
    assert "The budget of 1 h is used; the same command again continues." in printed
    runs = tmp_path / "cut/passes-3"
    first, second = (c.config for c in cells(ROWS[:1], ("sgd", "rsgd-xy"), passes=3))
    assert state_of(runs, first).kind == "complete"
    state = state_of(runs, second)
    assert (state.kind, state.done) == ("interrupted", pytest.approx(2 / 3))
    assert f"Not counted: {state.folder}, 66.7 % done." in printed
    assert table(runs)["cifar10", "smallconvnet", "rsgd-xy"]["mean"] == ""
    assert main(["table1", *cut]) == 0
    for config in (first, second):
        one = weights(run_folder(tmp_path / "whole/passes-3", config))
        two = weights(run_folder(runs, config))
        assert all(torch.equal(one[name], two[name]) for name in one)
    assert table(runs) == table(tmp_path / "whole/passes-3")
    # All is there now.
    monkeypatch.setattr(command, "train", no_training)
    capsys.readouterr()
    assert main(["table1", *cut]) == 0
    assert "Short runs for a look: 3 passes" in capsys.readouterr().out


def test_a_run_of_the_train_command_counts(tmp_path, monkeypatch):
    arguments = ["--passes", "2", "--device", "cpu", "--runs", str(tmp_path / "passes-2")]
    assert main(["train", "--dataset", "cifar10", "--algorithm", "esgd", *arguments]) == 0
    monkeypatch.setattr(command, "train", no_training)
    arguments = [*ROW, "--algorithms", "esgd", "--passes", "2", "--runs", str(tmp_path)]
    assert main(["table1", *arguments]) == 0
    row = table(tmp_path / "passes-2")["cifar10", "smallconvnet", "esgd"]
    folder = tmp_path / "passes-2/cifar10-smallconvnet-esgd"
    error = json.loads((folder / "seed-0/result.json").read_text())["test_error"]
    assert row["n"] == "1" and float(row["mean"]) == pytest.approx(100 * error)


def test_mean_and_standard_error_over_all_stored_seeds(tmp_path, monkeypatch, capsys):
    for seed, error in enumerate((0.15, 0.16, 0.19)):
        stored(tmp_path, seed=seed, error=error)
    stored(tmp_path, "esgd", seed=7, error=0.147)
    monkeypatch.setattr(command, "train", no_training)
    assert main(["table1", *ROW, "--algorithms", "sgd", "--runs", str(tmp_path)]) == 0
    rows = table(tmp_path)
    assert list(rows) == [(*names, a) for names in TABLE for a in TABLE[names]]
    sgd, esgd = (rows["cifar10", "smallconvnet", a] for a in ("sgd", "esgd"))
    # Variance ((50/3)² + (20/3)² + (70/3)²)/2 · 10⁻² = 13/3 in squared percent.
    assert sgd == {
        "dataset": "cifar10", "model": "smallconvnet", "algorithm": "sgd", "passes": "300",
        "n": "3", "mean": "16.6667", "se": f"{math.sqrt(13 / 3 / 3):.6g}", "published": "16.5",
        "published_se": "0.2", "data": "cifar10",
    }  # fmt: skip
    assert (esgd["n"], esgd["mean"], esgd["se"]) == ("1", "14.7", "")
    lines = capsys.readouterr().out.splitlines()
    assert [item.strip() for item in lines[2].split("|")[1:-1]] == [
        "cifar10", "smallconvnet", "here", "16.67 ± 1.20 (n=3)", "—", "14.70 (n=1)", "—",
    ]  # fmt: skip
    assert [item.strip() for item in lines[3].split("|")[3:-1]] == [
        "paper", "16.5 ± 0.2", "15.6 ± 0.3", "14.7 ± 0.3", "14.9 ± 0.2",
    ]  # fmt: skip
    note = "- Test error in percent; here: mean ± standard error over n seeds."
    written = (tmp_path / "table1.md").read_text().splitlines()
    assert written == [*lines[: lines.index("")], "", note]


def test_published_numbers_and_blanks():
    results = [stored_result(Path("nowhere"), cell) for cell in cells()]
    assert len(results) == 32 and all(r.mean is None for r in results)
    for result in results:
        published = PUBLISHED[result.cell.dataset, result.cell.model]
        assert result.cell.published == published.get(result.cell.config.algorithm)
    text = table_text(results)
    assert text.count("—") == 32 + 2 and "12.7 " in text


def test_another_run_is_refused_and_never_counted(tmp_path, capsys):
    folder = stored(tmp_path, lr=0.3)
    assert main(["table1", *ROW, "--runs", str(tmp_path)]) == 1
    sentence = f"{folder} holds another run: lr is 0.3 there and 0.01 here."
    assert sentence in capsys.readouterr().err
    short = stored(tmp_path, "rsgd", passes=2, lr_drops=(1,))
    (result,) = (stored_result(tmp_path, c) for c in cells(ROWS[:1], ("rsgd",)))
    assert result.mean is None
    assert f"Not counted: {short} holds another run: passes is 2" in table_text([result])
    (short / "config.json").unlink()
    (result,) = (stored_result(tmp_path, c) for c in cells(ROWS[:1], ("rsgd",)))
    assert result.mean is None and "without config.json" in result.states[0].problem


def test_archives_are_marked_and_may_move(tmp_path, monkeypatch, capsys):
    archive = tmp_path / "here/cifar10-jpeg.tar.xz"
    archive.parent.mkdir()
    archive.touch()
    stored(tmp_path, dataset="there/cifar10-jpeg.tar.xz", error=0.17)
    stored(tmp_path, error=0.16)
    monkeypatch.setattr(command, "train", no_training)
    arguments = [*ROW, "--algorithms", "sgd", "--runs", str(tmp_path)]
    assert main(["table1", *arguments, "--archives", "cifar10", str(archive)]) == 0
    printed = capsys.readouterr().out
    assert "| cifar10 \\*" in printed and "17.00 (n=1)" in printed
    assert "the image-folder archive cifar10-jpeg.tar.xz, the paper on the original" in printed
    rows = table(tmp_path)
    assert rows["cifar10", "smallconvnet", "sgd"]["data"] == "cifar10-jpeg.tar.xz"
    assert rows["cifar100", "pyramidnet272", "sgd"]["data"] == "cifar100"
    # The original data set's run is another one.
    assert main(["table1", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "\\*" not in printed and "16.00 (n=1)" in printed and "17.00" not in printed


def test_runs_of_other_processes_and_diverged_ones_are_left_alone(tmp_path, monkeypatch, capsys):
    busy, diverged = (cell.config for cell in cells(ROWS[:1], ("sgd", "rsgd"), passes=2))
    runs = tmp_path / "passes-2"
    folder = run_folder(runs, diverged)
    write_json(folder / "config.json", diverged.as_json())
    write_csv(folder / "log.csv", [{"passes": 1.0, "train_loss": math.nan}])
    arguments = [*ROW, "--algorithms", "sgd", "rsgd", "--passes", "2", "--runs", str(tmp_path)]
    with in_use(run_folder(runs, busy)):
        assert main(["table1", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "is in use: another process trains there" in printed
    assert f"Not counted: {folder} diverged; delete it to try again." in printed
    assert not (folder / "checkpoint.pt").exists()
    assert state_of(runs, busy).kind == "missing"
    with in_use(folder):
        assert main(["train", "--algorithm", "rsgd", "--passes", "2", "--runs", str(runs)]) == 1
    assert "is in use" in capsys.readouterr().err


def test_dry_run_lists_all_cells_and_their_cost(tmp_path, monkeypatch, capsys):
    speeds = []

    def speed(config, shape, place):
        speeds.append(config.model)
        return Speed(gradient=0.01, evaluation=0.002, batch_norm=config.model != "smallconvnet")

    monkeypatch.setattr(command, "measure_speed", speed)
    monkeypatch.setattr(command, "train", no_training)
    stored(tmp_path)
    begun = run_folder(tmp_path, recipe("cifar10", "smallconvnet", "rsgd"))
    write_json(begun / "config.json", recipe("cifar10", "smallconvnet", "rsgd").as_json())
    write_csv(begun / "log.csv", [{"passes": 75.0, "train_loss": 1.0}])
    arguments = ["--dry-run", "--seeds", "0", "1", "--runs", str(tmp_path), "--device", "cpu"]
    assert main(["table1", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = {tuple(line.split()[:2]): line for line in lines if line.startswith(ROWS)}
    assert list(listed) == [(cell.row, cell.config.algorithm) for cell in cells()]
    # PyramidNet appears twice and is timed once.
    assert sorted(speeds) == sorted({model for _, model in TABLE})
    sgd, rsgd = (listed["cifar10-smallconvnet", a] for a in ("sgd", "rsgd"))
    assert sgd.endswith("seed 0 complete, seed 1 missing")
    assert rsgd.endswith("seed 0 interrupted at pass 75 of 300, seed 1 missing")
    # 300 passes of 50,000 gradients and of one test set: 41.67 h + 1.67 h; a third of the rows
    # for three replicas.
    assert sgd.split()[2:6] == ["300", "117300", "43.33", "43.33"]
    assert rsgd.split()[2:6] == ["300", "117300", "42.22", "73.89"]
    total = sum(float(line.split()[5]) for line in listed.values())
    assert float(lines[-1].split()[1]) == pytest.approx(total, abs=0.005 * 33)
    assert lines[-1].startswith("total: ") and not (tmp_path / "table1.csv").exists()


def test_cost_of_a_run():
    shape = DataShape(train=1000, test=100, side=32, classes=10)
    speed = Speed(gradient=3.6, evaluation=0.36, batch_norm=True)
    config = {
        a: recipe("cifar10", "resnet18", a).stretched(6) for a in TABLE["cifar10", "resnet18"]
    }
    assert {a: gradients(c, shape) for a, c in config.items()} == {
        "sgd": 48, "rsgd": 48, "esgd": 48, "rsgd-xy": 144,
    }  # fmt: skip
    # 6000 gradients are 6 h; rows of 100 test images, with 5000 to recalibrate beside sgd.
    for algorithm, gradient_hours, rows, evaluated in (
        ("sgd", 6, 6, 100), ("rsgd", 6, 2, 5100), ("esgd", 6, 6, 5100), ("rsgd-xy", 18, 6, 5100),
    ):  # fmt: skip
        expected = gradient_hours + rows * evaluated * 1e-4
        assert hours(config[algorithm], shape, speed) == pytest.approx(expected), algorithm


def test_a_timing_of_a_network(monkeypatch):
    monkeypatch.setattr(cost, "SECONDS", 0.0)
    config, shape = recipe("cifar10", "smallconvnet", "rsgd"), SHAPES["cifar10"]
    # Input, two convolutions, indices (8 bytes) and results of two poolings, dense layer.
    floats = 3 * 32**2 + 20 * 28**2 + 20 * 14**2 + 50 * 10**2 + 50 * 5**2 + 500
    kept = 4 * floats + 8 * (20 * 14**2 + 50 * 5**2)
    assert bytes_per_image(config, shape) == kept
    sizes = []
    monkeypatch.setattr(
        cost, "synthetic_images", lambda *a: sizes.append(a) or synthetic_images(*a)
    )
    monkeypatch.setattr(cost, "BYTES_ON_A_CPU", 20 * kept)
    speed = measure_speed(config, shape, Place("cpu"))
    assert sizes == [(20, 20, 10, 32)]
    assert speed.gradient > speed.evaluation > 0 and not speed.batch_norm


def test_bad_input(tmp_path, capsys):
    for arguments, sentence in (
        (["--rows", "cifar10-resnet19"], "rows has 'cifar10-resnet19'; of ['cifar10-smallconvnet'"),
        (["--budget", "0"], "budget is 0.0; a positive number of hours"),
        (["--passes", "-1"], "passes is -1.0; a positive number"),
        (["--archives", "cifar10", "nowhere.tar"], "archives has 'nowhere.tar', which is not"),
        (["--archives", "mnist", str(tmp_path)], "archives has 'mnist'; of ['cifar10', 'cifar100'"),
    ):
        assert main(["table1", *arguments, "--runs", str(tmp_path)]) == 1
        assert sentence in capsys.readouterr().err
