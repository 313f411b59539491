"""Stored runs and the commands on them: reading, tables, flatness, correlations."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import deep
from deep.__main__ import main
from deep.benchmark import BenchmarkOptions, benchmark
from deep.device import Device
from deep.images.datasets import synthetic_images
from deep.measurements import (
    FlatnessOptions,
    Images,
    LocalEntropyOptions,
    measure_flatness,
    measure_local_entropy,
)
from deep.run import Run, runs
from deep.training import train
from message_passing import ladder
from message_passing.tools.files import write_npz
from tests.deep.test_training import SMALL, small

ROOT = Path(__file__).parents[2]
SETTINGS = [
    "--dataset", "synthetic", "--batch-size", "25", "--passes", "3", "--snapshots", "0.5",
    "--device", "cpu",
]  # fmt: skip
FLATNESS = [
    "--sigmas", "0", "0.3", "0.5", "--samples", "2", "--images", "40", "--device", "cpu",
    "--hessian", "--hessian-options.eigenvalues", "2", "--hessian-options.images", "20",
    "--hessian-options.trace-samples", "2", "--hessian-options.tolerance", "0.5",
]  # fmt: skip


def said(arguments, words):
    """The command fails with a one-line error that contains these words."""
    with pytest.raises(SystemExit, match=re.escape(words)) as error:
        main(arguments)
    assert str(error.value).startswith("Error: ") and "\n" not in str(error.value)


@pytest.fixture
def small_data(monkeypatch):
    data = synthetic_images(train=100, test=40)
    monkeypatch.setattr("deep.training.load_images", lambda *_: data)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Five measured runs (five learning rates, two seeds) and their table of flatness."""
    folder = tmp_path_factory.mktemp("runs")
    data = synthetic_images(train=60, test=40, size=16)
    paths = [folder / f"lr-{lr}" for lr in (0.001, 0.003, 0.01, 0.03, 0.1)]
    for i, path in enumerate(paths):
        lr = float(path.name.removeprefix("lr-"))
        config = SMALL.changed(passes=2, batch_size=20, lr_drops=(), lr=lr, seed=i % 2)
        train(config, path, device="cpu", data=data, progress=False)
    (folder / "empty").mkdir()  # the command skips it
    command = ["flatness", *map(str, [*paths, folder / "empty"]), *FLATNESS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deep.images.datasets.load_images", lambda *_: data)
        main([*command, "--out", str(folder / "out")])
        for name in ("weight_noise.local_energy", "hessian.hessian_spectrum"):
            patch.setattr(f"deep.{name}", None)
        main([*command, "--out", str(folder / "again")])
        with pytest.raises(TypeError, match="not callable"):  # it measures again
            main([*command, "--hessian-options.images", "30", "--out", str(folder / "again")])
    return paths, pd.read_csv(folder / "out/flatness.csv")


def test_train_sums_up_and_resumes(small_data, tmp_path, capsys):
    command = ["train", *SETTINGS, "--runs", str(tmp_path), "--seeds", "0", "1"]
    main(command)
    folder = tmp_path / "synthetic-smallconvnet-sgd"
    summary, table = pd.read_csv(folder / "summary.csv"), deep.runs(folder / "seed-*")
    assert list(summary["seed"]) == [0, 1] and (folder / "training.pdf").exists()
    np.testing.assert_allclose(summary["test_error"], table["test_error"], rtol=1e-5)
    # The published drops at 150 and 225 of 300 passes, rescaled to 3 passes.
    assert Run(folder / "seed-1").config.lr_drops == (1.5, 2.25)
    capsys.readouterr()
    main(command)
    printed = capsys.readouterr().out
    mean = f"{100 * table['test_error'].mean():.2f}"
    assert f"3 passes: test error {mean} " in printed and "%, n = 2" in printed
    # All seeds are checked before the first one trains.
    said([*command, "--seeds", "7", "1", "--lr", "0.3"], "of other settings: lr is 0.01 there and")
    assert not (folder / "seed-7").exists()


def test_options_of_the_model_and_settings_of_the_algorithm(small_data, tmp_path):
    command = ["train", *SETTINGS, "--runs", str(tmp_path), "--model-options"]
    main([*command, "hidden", "7", "--algorithm", "rsgd", "--gamma", "0.1", "--replicas", "2"])
    run = Run(tmp_path / "synthetic-smallconvnet-hidden-7-rsgd/seed-0")
    assert run.network().model.classifier[0].out_features == 7
    # The recipe gives the other settings, here SmallConvNet's learning rate for rSGD.
    assert (run.config.lr, run.config.algorithm.gamma, run.config.algorithm.replicas) == (
        0.05, 0.1, 2,
    )  # fmt: skip
    said([*command, "stem", "cifar"], "smallconvnet has no option 'stem'")


def test_bad_commands(tmp_path):
    runs_here = ["--runs", str(tmp_path / "runs")]
    for arguments, words in [
        (["train", "--model", "resnet19"], "model is 'resnet19'; one of"),
        (["train", *SETTINGS, "--device", "tpu", *runs_here], "device is 'tpu'"),
        (["train", "--dataset", "foo", *runs_here], "dataset is 'foo'"),
        (["train", "--seeds", *runs_here], "seeds is (); at least one was expected"),
        (["flatness", str(tmp_path)], "holds no run; the folders of runs were expected"),
        (["runs"], "no folder was given"),
        (["correlations"], "no folder was given"),
    ]:
        said(arguments, words)
    assert not (tmp_path / "runs").exists()
    for arguments, code in ((["trian"], 2), ([], 2), (["--help"], 0)):
        with pytest.raises(SystemExit) as error:
            main(arguments)
        assert error.value.code == code


def test_help_does_without_torch():
    program = (
        "import sys; from deep.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "try: main(['train', '--help'])\n"
        "finally: print([m for m in ('torch', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--rdzv-endpoint" in done.stdout and "--lookahead-rate" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_terminated_command_says_that_it_resumes(small_data, tmp_path, monkeypatch, capsys):
    step = deep.training.Training.step

    def terminated(self, number):
        if number == 5:
            signal.raise_signal(signal.SIGTERM)
        step(self, number)

    monkeypatch.setattr("deep.training.Training.step", terminated)
    with pytest.raises(SystemExit) as error:
        main(["train", *SETTINGS, "--runs", str(tmp_path)])
    assert error.value.code == 128 + signal.SIGTERM
    assert "Terminated. The same command continues from what is stored." in capsys.readouterr().err
    run = Run(tmp_path / "synthetic-smallconvnet-sgd/seed-0")
    assert run.state == "interrupted" and run.log["step"].iloc[-1] == 4


def test_a_run_is_read_back(stored, tmp_path):
    run = Run(stored[0][0])
    assert run.networks == ["passes-0001.0", "final"] and run.state == "complete"
    assert run.network().row["test_error"] == run.result["test_error"]
    weights = [p.detach().reshape(-1) for p in run.network().model.parameters()]
    assert run.row()["weight_norm"] == pytest.approx(torch.cat(weights).norm().item())
    assert re.fullmatch(
        r"<Run .*lr-0\.001: synthetic, .*, complete, test error [\d.]+ %>", repr(run)
    )
    profile = run.flatness()
    assert profile.images == "40 cropped and flipped images" and "2 noise vectors" in repr(profile)
    assert list(profile.to_frame()["sigma"]) == [0, 0.3, 0.5]
    assert len(profile.plot().lines) == len(run.plot().lines) == 1
    with pytest.raises(ValueError, match=r"last\.pt does not exist; one of \['passes"):
        run.network("last")
    with pytest.raises(ValueError, match=r"holds no config\.json; a run's folder was expected"):
        Run(tmp_path)


def test_a_network_that_has_changed_is_measured_again(stored, tmp_path):
    """A network is known by its content, not by its name or size."""
    run = Run(shutil.copytree(stored[0][0], tmp_path / "run"))
    other = Run(stored[0][1])
    assert run.measured() is not None
    shutil.copy(other.path("final"), run.path("final"))
    assert run.measured() is None and np.isnan(run.row()["local_energy_0.5"])
    options = FlatnessOptions((0.5,), 2, images=20)
    data = Images(Device("cpu"), synthetic_images(train=60, test=40, size=16))
    assert measure_flatness(run, "final", options, data).sigma == [0.5]
    assert run.measured()["test_error"] == other.result["test_error"]


def test_the_hessian_and_the_images_stand_beside_the_local_energy(stored):
    paths, rows = stored
    assert len(rows) == 5 * 2 * 3  # runs, networks, sigmas
    assert (rows["images"] == "40 cropped and flipped images").all()
    assert rows[rows["passes"] == 1]["hessian_trace"].isna().all()
    for path, run in zip(paths, rows["run"].unique(), strict=True):
        hessian = Run(path).measured(kind="hessian")
        final = rows[(rows["run"] == run) & (rows["passes"] == 2)]
        eigenvalues = final[["hessian_eigenvalue_1", "hessian_eigenvalue_2"]].iloc[0]
        np.testing.assert_allclose(eigenvalues, hessian["spectrum"]["eigenvalues"], rtol=1e-4)
        assert final["hessian_converged"].all()
        np.testing.assert_allclose(final["hessian_trace"], hessian["trace"]["trace"], rtol=1e-4)


@pytest.mark.filterwarnings("ignore:engine slices did not converge")
def test_local_entropy_of_final_networks_is_measured_once(stored, tmp_path, monkeypatch):
    data = synthetic_images(train=60, test=40, size=16)
    monkeypatch.setattr("deep.images.datasets.load_images", lambda *_: data)
    options = {"images": 20, "draws": 64, "chains": 4, "steps": 4}
    flags = [f"--local-entropy-options.{k}={v}" for k, v in options.items()]
    flags += ["--local-entropy-options.variances", "1e-6", "2e-6"]
    command = ["flatness", *map(str, stored[0][:2]), *FLATNESS, "--local-entropy", *flags]
    main([*command, "--out", str(tmp_path)])
    table = pd.read_csv(tmp_path / "local_entropy.csv")
    assert table["run"].nunique() == 2 and len(table) == 4
    assert (table["training_errors"] == table["allowed_errors"]).all()
    assert (table["free_entropy"] <= 0).all() and table["converged"].dtype == bool
    assert (tmp_path / "local_entropy.pdf").exists()
    monkeypatch.setattr("deep.local_entropy.local_entropy_curve", None)
    main([*command, "--out", str(tmp_path)])


@pytest.mark.filterwarnings("ignore:engine slices did not converge")
def test_an_interrupted_local_entropy_resumes_from_its_last_rung(stored, tmp_path, monkeypatch):
    run = Run(shutil.copytree(stored[0][0], tmp_path / "run"))
    images = Images(Device("cpu"), synthetic_images(train=60, test=40, size=16))
    options = LocalEntropyOptions(20, variances=(1e-3, 1e-2), draws=64, chains=4, steps=4)
    # Only the first point comes from direct draws, so the second needs a rung.
    monkeypatch.setattr(
        ladder, "start", lambda *a, direct=ladder.start: direct(*a[:2], a[2][:1], a[3])
    )
    whole = measure_local_entropy(run, "final", options, images)
    (file,) = (run.folder / "local_entropy").iterdir()
    file.unlink()
    written = []

    def stop_after_a_rung(path, **arrays):
        written.append(write_npz(path, **arrays))
        if len(written) == 2:  # the first comes from the direct draws
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ladder, "write_npz", stop_after_a_rung)
        with pytest.raises(KeyboardInterrupt):
            measure_local_entropy(run, "final", options, images)
    assert written[-1].is_file() and not file.exists()
    monkeypatch.setattr(ladder, "start", None)  # it must not start again
    assert measure_local_entropy(run, "final", options, images) == whole
    assert [*(run.folder / "local_entropy").iterdir()] == [file]


def test_correlations_over_runs(stored, tmp_path, capsys):
    paths, _ = stored
    main(["correlations", *map(str, paths), "--out", str(tmp_path / "report.csv")])
    rows = pd.read_csv(tmp_path / "report.csv")
    measures = ["local_energy_0.3", "local_energy_0.5", "weight_norm"]
    measures += ["hessian_eigenvalue", "hessian_trace"]
    assert list(rows["measure"].unique()) == measures
    # The runs differ in the seed too, but it is no hyper-parameter.
    kinds = ["pearson", "spearman", "kendall", "granulated kendall", "kendall along lr"]
    assert list(rows["kind"][:5]) == kinds and len(rows) == 5 * 2 * 5
    table = runs(paths)
    assert list(table["seed"]) == [0, 1, 0, 1, 0]
    row = rows[(rows["measure"] == "hessian_trace") & (rows["error"] == "gap")].iloc[0]
    expected = np.corrcoef(table["hessian_trace"], table["gap"])[0, 1]
    assert row["correlation"] == pytest.approx(expected, rel=1e-4)
    assert "hessian_trace" in capsys.readouterr().out
    said(["correlations", *map(str, paths), "--sigmas", "2"], "sigma is 2.0")


def test_runs_side_by_side_with_errors_over_seeds(stored, tmp_path, capsys):
    folders = []
    for i, (error, passes) in enumerate([(0.2, 2), (0.3, 2.0), (0.4, 2)]):
        folders.append(shutil.copytree(stored[0][0], tmp_path / str(i)))
        config = json.loads((folders[-1] / "config.json").read_text())
        decay = 0.1 if i == 2 else 0.0
        config["settings"] |= {"seed": i, "passes": passes, "weight_decay": decay}
        (folders[-1] / "config.json").write_text(json.dumps(config))
        result = {"train_error": 0.1, "train_loss": 0, "test_error": error}
        (folders[-1] / "result.json").write_text(json.dumps(result))
    shutil.rmtree(folders[2] / "flatness")
    command = ["runs", *map(str, folders), "--out", str(tmp_path / "runs.csv")]
    main(command)
    first, second = capsys.readouterr().out.splitlines()[2:4]
    cells = [cell.strip() for cell in first.strip("|").split("|")]
    # Mean and standard error of 20 and 30 %. The two networks are equal otherwise.
    assert cells[:5] == ["0", "2", "10.00", "25.0 ± 5.0", "15.0 ± 5.0"]
    assert [c.strip() for c in second.split("|")[1:8]] == [
        "0.1", "1", "10.00", "40.00", "30.00", "–", "–",
    ]  # fmt: skip
    rows = pd.read_csv(tmp_path / "runs.csv")
    assert list(rows)[:3] == ["run", "weight_decay", "seed"] and len(rows) == 3
    assert rows["local_energy_0.5"][1] == pytest.approx(Run(folders[1]).flatness().at(0.5))
    assert rows.loc[2, ["local_energy_0.5", "weight_norm"]].isna().all()
    # An unfinished run does not count, and the command names it.
    (folders[2] / "result.json").unlink()
    main(command)
    assert f"Not counted: {folders[2]} is interrupted." in capsys.readouterr().err
    shutil.copytree(folders[0], tmp_path / "twin")
    said(
        ["runs", *map(str, [*folders, tmp_path / "twin"])],
        "have the same settings and the same seed",
    )


def test_the_benchmark_counts_memory():
    """SGD stores weights, gradients, momentum. eSGD adds anchor, average, second momentum."""
    options = BenchmarkOptions("smallconvnet", batch_size=2, steps=2, repeats=2, device="cpu")
    table = benchmark(options)
    one = 657_080 * 4 / 2**20
    np.testing.assert_allclose(table["memory_MiB"], [3 * one, 6 * one, 9 * one], rtol=1e-3)
    assert table["overhead_percent"][0] == 0 and table["milliseconds"][1] > 0
    with pytest.raises(ValueError, match="repeats is 1; at least 2 was expected"):
        BenchmarkOptions(repeats=1)


def test_runs_of_an_algorithm_are_known_by_their_own_settings():
    """γ counts as a difference only between runs of the same algorithm."""
    from deep.run import SETTINGS, differing

    def table(*configs):
        from deep.run import _cell

        rows = [vars(c) | vars(c.algorithm) | {"algorithm": c.algorithm.name} for c in configs]
        return pd.DataFrame([{k: _cell(row.get(k)) for k in SETTINGS} for row in rows])

    assert differing(table(small("sgd"), small("rsgd"))) == ["algorithm"]
    both = table(small("rsgd"), small("rsgd", gamma=0.1), small("sgd"))
    assert differing(both) == ["algorithm", "gamma"]
