"""``python -m deep table1``: stored and missing runs, the numbers of the table, bad input."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pandas as pd
import pytest

from deep.__main__ import main
from deep.algorithms import ALGORITHMS
from deep.images.datasets import synthetic_images
from deep.recipes import TABLE, recipe
from deep.run import Run, claim, run_folder
from deep.table1 import ROWS, cells, state_of, table1, table1_text
from deep.training import train
from message_passing.tools.files import write_json, write_table
from message_passing.tools.run_folder import RunFolder

ROW = ["--rows", "cifar10-smallconvnet", "--device", "cpu"]


@pytest.fixture(autouse=True)
def small_data(monkeypatch):
    """Three minibatches of 128."""
    data = synthetic_images(train=260, test=40)
    monkeypatch.setattr("deep.training.load_images", lambda *_: data)


def stored(runs, algorithm="sgd", seed=0, error=0.16, seconds=1.0, finished=True, **changes):
    """A run with only the files that the table reads."""
    config = recipe("cifar10", "smallconvnet", algorithm, seed).changed(**changes)
    folder = run_folder(runs, config)
    claim(folder, config)
    if finished:
        result = {"train_error": 0.1, "train_loss": 0.1, "test_error": error, "seconds": seconds}
        write_json(folder / "result.json", result)
    return folder


def table(runs):
    return pd.read_csv(runs / "table1.csv").set_index(["dataset", "model", "algorithm"])


def no_training(*_, **__):
    raise AssertionError("trained")


def one_cell(runs, algorithm="sgd"):
    return table1(runs, cells(ROWS[:1], (algorithm,)))


def test_an_interrupted_run_is_listed_and_the_same_command_resumes(tmp_path, monkeypatch, capsys):
    short = ["table1", *ROW, "--algorithms", "sgd", "rsgd-xy", "--passes", "3", "--runs"]
    first, second = cells(ROWS[:1], ("sgd", "rsgd-xy"), passes=3).values()
    runs = tmp_path / "passes-3"
    images = synthetic_images(train=260, test=40)
    assert train(second, run_folder(runs, second), "cpu", images, stop_after=7) is None
    run = Run(run_folder(runs, second))
    assert (run.state, run.done) == ("interrupted", pytest.approx(2 / 3))
    _, notes = table1(runs, {("cifar10", "smallconvnet", "rsgd-xy"): second})
    assert notes == [f"Not counted: {run.folder}, 66.7 % done."]
    main([*short, str(tmp_path)])
    rows = table(runs)["test_error"]["cifar10", "smallconvnet"]
    for config in (first, second):
        stored = Run(run_folder(runs, config)).result["test_error"]
        assert rows[config.algorithm.name] == pytest.approx(stored)
    # All runs are complete now.
    monkeypatch.setattr("deep.training.train", no_training)
    capsys.readouterr()
    main([*short, str(tmp_path)])
    assert "Short runs for a look: 3 passes" in capsys.readouterr().out


def test_mean_and_standard_error_over_all_stored_seeds(tmp_path, monkeypatch, capsys):
    """Runs of the train command count too. They lie in the same folders."""
    for seed, error in enumerate((0.15, 0.16, 0.19)):
        stored(tmp_path, seed=seed, error=error)
    stored(tmp_path, "esgd", seed=7, error=0.147)
    monkeypatch.setattr("deep.training.train", no_training)
    main(["table1", *ROW, "--algorithms", "sgd", "--runs", str(tmp_path)])
    rows = table(tmp_path)
    assert list(rows.index) == [(*names, a) for names in TABLE for a in ALGORITHMS]
    sgd, esgd = (rows.loc["cifar10", "smallconvnet", a] for a in ("sgd", "esgd"))
    # Variance ((5/3)² + (2/3)² + (7/3)²)/2 · 10⁻⁴ = 13/3 · 10⁻⁴.
    assert (sgd["n"], sgd["passes"], sgd["data"]) == (3, 300, "cifar10")
    assert sgd["test_error"] == pytest.approx(1 / 6, rel=1e-5)
    assert sgd["test_error_standard_error"] == pytest.approx(math.sqrt(13) / 300, rel=1e-5)
    assert (sgd["published"], sgd["published_standard_error"]) == (16.5, 0.2)
    assert (esgd["n"], esgd["test_error"]) == (1, 0.147)
    lines = capsys.readouterr().out.splitlines()
    assert [item.strip() for item in lines[2].split("|")[1:-1]] == [
        "cifar10", "smallconvnet", "here", "16.67 ± 1.20 (n=3)", "–", "14.70 (n=1)", "–",
    ]  # fmt: skip
    assert [item.strip() for item in lines[3].split("|")[3:-1]] == [
        "paper", "16.5 ± 0.2", "15.6 ± 0.3", "14.7 ± 0.3", "14.9 ± 0.2",
    ]  # fmt: skip
    note = "- Test error in percent; here: mean ± standard error over n seeds."
    written = (tmp_path / "table1.md").read_text().splitlines()
    assert written == [*lines[: lines.index("")], "", note]


def test_published_numbers_and_blanks():
    rows, notes = table1(Path("nowhere"), cells())
    assert len(rows) == 32 and (rows["n"] == 0).all() and not notes
    text = table1_text(rows)
    assert text.count("–") == 32 + 2 and "12.7 " in text


def test_another_run_is_refused_and_never_counted(tmp_path):
    folder = stored(tmp_path, lr=0.3)
    sentence = f"{folder} holds results of other settings: lr is 0.3 there and 0.01 here"
    with pytest.raises(SystemExit, match=re.escape(sentence)):
        main(["table1", *ROW, "--runs", str(tmp_path)])
    short = stored(tmp_path, "rsgd", passes=2, lr_drops=(1,))
    rows, (note,) = one_cell(tmp_path, "rsgd")
    assert rows["n"][0] == 0 and f"Not counted: {short} holds results of other" in note
    (short / "config.json").unlink()
    rows, (note,) = one_cell(tmp_path, "rsgd")
    assert rows["n"][0] == 0 and "but no config.json, so that its settings are unknown" in note


def test_archives_are_marked_and_may_move(tmp_path, monkeypatch, capsys):
    archive, moved = tmp_path / "there/cifar10-jpeg.tar", tmp_path / "here/cifar10-jpeg.tar"
    for path in (archive, moved):
        path.parent.mkdir()
        path.write_bytes(b"images")
    stored(tmp_path, dataset=str(archive), error=0.17)
    stored(tmp_path, error=0.16)
    monkeypatch.setattr("deep.training.train", no_training)
    arguments = [*ROW, "--algorithms", "sgd", "--runs", str(tmp_path)]
    main(["table1", *arguments, "--archives", "cifar10", str(moved)])
    printed = capsys.readouterr().out
    assert "| cifar10 \\*" in printed and "17.00 (n=1)" in printed
    assert "the image-folder archive cifar10-jpeg.tar, the paper on the original" in printed
    data = table(tmp_path)["data"]
    assert data["cifar10", "smallconvnet", "sgd"] == "cifar10-jpeg.tar"
    assert data["cifar100", "pyramidnet272", "sgd"] == "cifar100"
    # The run on the original data set is a separate one.
    main(["table1", *arguments])
    printed = capsys.readouterr().out
    assert "\\*" not in printed and "16.00 (n=1)" in printed and "17.00" not in printed


def test_runs_of_other_processes_and_diverged_ones_are_left_alone(tmp_path, capsys):
    busy, diverged = cells(ROWS[:1], ("sgd", "rsgd"), passes=2).values()
    runs = tmp_path / "passes-2"
    folder = run_folder(runs, diverged)
    claim(folder, diverged)
    log = pd.DataFrame([{"passes": 1.0, "train_loss": math.nan, "seconds": 1.0}])
    write_table(folder / "log.csv", log)
    arguments = [*ROW, "--algorithms", "sgd", "rsgd", "--passes", "2", "--runs", str(tmp_path)]
    with RunFolder(run_folder(runs, busy)).in_use():
        main(["table1", *arguments])
    printed = capsys.readouterr().out
    assert "is in use: another process works there" in printed
    assert f"Not counted: {folder} diverged; delete it to try again." in printed
    assert not (folder / "checkpoint.pt").exists()
    assert state_of(run_folder(runs, busy)) == "missing"
    with RunFolder(folder).in_use(), pytest.raises(SystemExit, match="is in use"):
        main(["train", "--algorithm", "rsgd", "--passes", "2", "--runs", str(runs)])


def test_dry_run_lists_all_cells(tmp_path, monkeypatch, capsys):
    """It builds no network."""
    monkeypatch.setattr("deep.models.build_model", None)
    stored(tmp_path)
    begun = stored(tmp_path, "rsgd", finished=False)
    log = pd.DataFrame([{"passes": 200.0, "train_loss": 1.0, "seconds": 1.0}])
    write_table(begun / "log.csv", log)
    main(["table1", "--dry-run", "--seeds", "0", "1", "--runs", str(tmp_path)])
    printed = capsys.readouterr().out.splitlines()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed]
    assert [tuple(line[:3]) for line in lines[2::2] if line] == [*cells()]
    assert [line[3:] for line in lines[2:6]] == [
        ["0", "complete", "1"], ["1", "missing", "0"],
        ["0", "interrupted", "0.6667"], ["1", "missing", "0"],
    ]  # fmt: skip
    assert not (tmp_path / "table1.csv").exists()


def test_bad_input(tmp_path, capsys):
    for arguments, sentence in (
        (["--passes", "-1"], "passes is -1.0; a positive number"),
        (["--archives", "cifar10", "nowhere.tar"], "archives is 'nowhere.tar'; an existing path"),
        (["--seeds"], "seeds is (); at least one was expected"),
    ):
        with pytest.raises(SystemExit, match=re.escape(sentence)):
            main(["table1", *arguments, "--runs", str(tmp_path)])
    for arguments, word in (
        (["--rows", "cifar10-resnet19"], "cifar10-resnet18"),
        (["--algorithms", "adam"], "rsgd-xy"),
        (["--archives", "mnist", str(tmp_path)], "cifar100"),
    ):
        with pytest.raises(SystemExit) as error:
            main(["table1", *arguments])
        assert error.value.code == 2 and word in capsys.readouterr().err
