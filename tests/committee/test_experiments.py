"""Experiments: what is stored, resuming after any interruption, same files however computed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from committee import ALGORITHMS, experiments, local_energy, train
from committee.experiments import Figure1Config, Figure6Config, run_experiment
from committee.results import load_results
from message_passing.local_entropy import ENGINES, local_entropy_curve
from message_passing.problem import LadderResult, ReferenceProblem
from message_passing.tools.files import read_json, read_npz, write_json, write_npz
from tests.cluster import ROOT, Cluster

NAMES = ("sgd-fast", "sgd-slow")


def small(out: Path, **changes: object) -> Figure1Config:
    """Two algorithms on forty patterns: a second."""
    config = Figure1Config(
        out=out,
        restarts=3,
        data="hidden-manifold",
        size=40,
        hidden_units=3,
        algorithms=NAMES,
        engines=("bp",),
        workers=1,
        max_epochs=1500,
    )
    return replace(config, **changes)  # type: ignore[arg-type]


def files(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted")
    run_experiment(small(out))
    return out


def test_what_is_stored(uninterrupted: Path) -> None:
    stored = files(uninterrupted)
    assert len([name for name in stored if name.startswith("machines/")]) == 6
    assert len([name for name in stored if name.startswith("curves/")]) == 6
    config = json.loads(stored["config.json"])
    assert config["settings"]["seed"] == 0
    assert config["settings"]["data"] == config["patterns"]["name"] == "hidden-manifold"
    made = config["made_by"][0]
    assert {"numpy", "torch", "processor", "git_revision"} <= made.keys()


def test_results_are_those_of_the_functions(uninterrupted: Path) -> None:
    results = load_results(uninterrupted)
    patterns = experiments.load_patterns("hidden-manifold", size=40)
    arrays = patterns.train_patterns, patterns.train_labels
    for name, own in results.algorithms.items():
        ensemble = train(patterns, name, 3, hidden_units=3, max_epochs=1500, workers=1)
        np.testing.assert_array_equal(own.weights, ensemble.weights)
        pd.testing.assert_frame_equal(own.to_frame()[[*ensemble.to_frame()]], ensemble.to_frame())
        profile = local_energy(ensemble.weights, *arrays)
        np.testing.assert_array_equal(own.profile.local_energy, profile.local_energy)
        curve = local_entropy_curve(ensemble.weights[2], *arrays, engine="bp")
        np.testing.assert_array_equal(own.curves["bp"][2].local_entropy, curve.local_entropy)
        assert own.curves["bp"][2].engine == "bp"
        grid = np.array([0.05, 0.2])
        np.testing.assert_allclose(own.local_entropy("bp", grid)[2], curve.at(grid))
    np.testing.assert_array_equal(results.patterns.train_patterns, patterns.train_patterns)
    assert results.patterns.description == patterns.description and results.hidden_units == 3


def test_two_workers_write_the_same_files(uninterrupted: Path, tmp_path: Path) -> None:
    run_experiment(small(tmp_path, workers=2))
    assert files(tmp_path) == files(uninterrupted)


@pytest.mark.parametrize("work", ["train_and_profile", "measure_local_entropy"])
def test_resume_after_an_error(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    original = getattr(experiments, work)
    calls = []

    def fail_in_the_middle(*arguments: object, **options: object) -> object:
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(experiments, work, fail_in_the_middle)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(small(tmp_path))
    assert files(tmp_path).items() < files(uninterrupted).items()
    assert len(load_results(tmp_path).algorithms["sgd-slow"].runs) >= 1  # partial results
    run_experiment(small(tmp_path))
    assert files(tmp_path) == files(uninterrupted)
    assert len(calls) == 4 + 3  # three of six were there
    run_experiment(small(tmp_path))
    assert len(calls) == 7  # nothing is computed twice


def test_resume_after_a_kill(uninterrupted: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = (
        "--restarts 3 --data hidden-manifold --size 40 --hidden-units 3 --engines bp "
        "--algorithms sgd-fast sgd-slow --max-epochs 1500 --workers 2"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "committee", "figure1", "--out", str(out), *options.split()],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not list(out.glob("machines/*/*.npz")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    left = {name for name in files(out) if not Path(name).name.startswith(".")}
    assert left and left < files(uninterrupted).keys()
    run_experiment(small(out))
    whole = {k: v for k, v in files(out).items() if not Path(k).name.startswith(".")}
    assert whole == files(uninterrupted)


def test_a_cluster_with_a_killed_worker_writes_the_same_files(
    uninterrupted: Path, tmp_path: Path, cluster: Cluster
) -> None:
    out = tmp_path / "out"
    there: list[int] = []

    def kill_in_the_middle() -> None:
        while not list(out.glob("machines/*/*.npz")):
            time.sleep(0.005)
        cluster.kill_a_worker()
        there.append(len(list(out.glob("machines/*/*.npz"))))

    killer = threading.Thread(target=kill_in_the_middle, daemon=True)
    killer.start()
    run_experiment(small(out, scheduler=cluster.address, restarts=8))
    killer.join()
    assert there[0] < 16
    run_experiment(small(tmp_path / "here", restarts=8))
    assert files(out) == files(tmp_path / "here")


def test_more_restarts_and_algorithms_extend_a_folder(uninterrupted: Path, tmp_path: Path) -> None:
    run_experiment(small(tmp_path, restarts=2, algorithms=("sgd-slow",)))
    results = run_experiment(small(tmp_path))
    assert files(tmp_path).keys() == files(uninterrupted).keys()
    ours, theirs = files(tmp_path), files(uninterrupted)
    assert all(ours[name] == theirs[name] for name in ours if name != "config.json")
    assert list(results.algorithms) == list(NAMES)
    fewer = run_experiment(small(tmp_path, restarts=1, algorithms=("sgd-slow",)))
    assert list(fewer.algorithms) == ["sgd-slow"]
    assert fewer.algorithms["sgd-slow"].runs["restart"].tolist() == [0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"size": 42}, "size is 40 there and 42 here"),
        ({"balanced": True}, "balanced is False there and True here"),
        ({"max_epochs": 10}, r"algorithms.sgd-fast.max_epochs is 1500 there and 10 here"),
        ({"data": "random"}, "data is 'hidden-manifold' there and 'random' here"),
        ({"hidden_units": 5}, "hidden_units is 3 there and 5 here"),
    ],
)
def test_other_settings_are_refused(uninterrupted: Path, change: dict, message: str) -> None:
    before = files(uninterrupted)
    with pytest.raises(ValueError, match=message):
        run_experiment(small(uninterrupted, **change))
    assert files(uninterrupted) == before


def test_auto_keeps_the_data_of_the_folder(uninterrupted: Path) -> None:
    before = files(uninterrupted)
    results = run_experiment(small(uninterrupted, data="auto"))
    assert results.patterns.name == "hidden-manifold" and files(uninterrupted) == before


def test_machines_with_training_errors_count_their_equals(tmp_path: Path) -> None:
    results = run_experiment(
        small(tmp_path, max_epochs=60, restarts=1, algorithms=("sgd-slow",), engines=("mc",))
    )
    own = results.algorithms["sgd-slow"]
    assert own.runs["train_error"][0] > 0 and not own.runs["converged"][0]
    values = own.local_entropy("mc", np.array([0.05, 0.1]))
    assert np.all(np.isfinite(values)) and np.all(values <= 0)


def test_curves_end_where_they_stop_converging(uninterrupted: Path) -> None:
    own = load_results(uninterrupted).algorithms["sgd-slow"]
    curve = own.curves["bp"][0]
    converged = curve.converged.copy()
    converged[7] = False
    broken = replace(own, curves={"bp": {0: replace(curve, converged=converged)}})
    grid = np.array([0.0, curve.distance[6], curve.distance[7], curve.distance[10]])
    values = broken.local_entropy("bp", grid)
    np.testing.assert_array_equal(np.isnan(values[0]), [False, False, True, True])
    assert np.all(np.isnan(values[1:]))


@dataclass(frozen=True)
class NoisyEngine:
    """An engine that samples: its answer is its seed."""

    seed: int = 0

    def ladder(
        self, problem: ReferenceProblem, variances: np.ndarray, progress: bool
    ) -> LadderResult:
        ones = np.ones(len(variances))
        return LadderResult(
            variance=variances,
            free_entropy=-ones / (2.0 + self.seed),
            displacement=ones,
            converged=ones > 0,
            iterations=ones.astype(np.int64),
            residual=0 * ones,
            free_entropy_error=0 * ones,
            displacement_error=0 * ones,
        )


def test_engines_that_sample_get_a_seed_for_each_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENGINES, "noisy", NoisyEngine)
    run_experiment(small(tmp_path, restarts=2))
    results = run_experiment(small(tmp_path, restarts=2, engines=("noisy",)))
    assert results.engines == ["bp", "noisy"]  # an engine was added to the folder
    seeds = {
        c.free_entropy[0] for v in results.algorithms.values() for c in v.curves["noisy"].values()
    }
    assert len(seeds) == 4
    again = run_experiment(small(tmp_path / "again", restarts=2, engines=("noisy",)))
    assert seeds == {
        c.free_entropy[0] for v in again.algorithms.values() for c in v.curves["noisy"].values()
    }
    monkeypatch.setitem(ENGINES, "noisy", partial(NoisyEngine, seed=5))
    with pytest.raises(ValueError, match=r"engines\.noisy\.seed is 0 there and 5 here"):
        run_experiment(small(tmp_path, restarts=2, engines=("noisy",)))


DAMAGED = ("machines/sgd-fast/000.npz", "curves/sgd-slow/000.bp.npz", "patterns.npz")


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("damage", ["truncated", "emptied", "a part is missing"])
def test_the_advice_about_a_damaged_file_works(tmp_path: Path, name: str, damage: str) -> None:
    run_experiment(small(tmp_path, restarts=1))
    before, path = files(tmp_path), tmp_path / name
    if damage == "a part is missing":
        arrays = read_npz(path)
        arrays.popitem()
        write_npz(path, **arrays)
    else:
        path.write_bytes(path.read_bytes()[:100] if damage == "truncated" else b"")
    for read in (load_results, lambda out: run_experiment(small(out, restarts=1))):
        with pytest.raises(ValueError, match=rf"{path.name}.*Delete it and run the command again"):
            read(tmp_path)
    path.unlink()
    run_experiment(small(tmp_path, restarts=1))
    assert files(tmp_path) == before


def test_patterns_made_anew_must_be_those_of_the_machines(tmp_path: Path) -> None:
    run_experiment(small(tmp_path, restarts=1))
    (tmp_path / "patterns.npz").unlink()
    with pytest.raises(ValueError, match=r"no patterns\.npz. Run the command again"):
        load_results(tmp_path)
    config = read_json(tmp_path / "config.json")
    config["patterns"]["content"] = "another"
    write_json(tmp_path / "config.json", config)
    before = files(tmp_path)
    with pytest.raises(ValueError, match="holds results on other patterns than these: hidden"):
        run_experiment(small(tmp_path, restarts=1))
    assert files(tmp_path) == before


def test_machines_without_their_settings_are_refused(tmp_path: Path) -> None:
    run_experiment(small(tmp_path, restarts=1))
    (tmp_path / "config.json").unlink()
    before = files(tmp_path)
    with pytest.raises(ValueError, match=r"holds machines but no config\.json"):
        run_experiment(small(tmp_path, restarts=1, max_epochs=3))
    assert files(tmp_path) == before


def test_a_folder_of_another_command_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"title": "Local entropy", "settings": {"engines": {}}})
    for start in (load_results, lambda out: run_experiment(small(out, data="auto"))):
        with pytest.raises(ValueError, match=r"config\.json lacks|no patterns\.npz"):
            start(tmp_path)
    with pytest.raises(ValueError, match="results of other settings"):
        run_experiment(small(tmp_path))
    assert os.listdir(tmp_path) == ["config.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scheduler": "tcp://127.0.0.1:9"}, "No Dask scheduler answers|Dask is not installed"),
        ({"data": "fashion-mnist", "data_dir": Path("nowhere")}, "directory is 'nowhere'"),
        ({"algorithms": ("rsgd-fast",), "max_epochs": 10**5}, "exceeds 1 from epoch"),
        ({"size": 41, "balanced": True}, "size is 41; an even number"),
    ],
)
def test_nothing_is_created_before_everything_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict, message: str
) -> None:
    monkeypatch.setattr("message_passing.tools.parallel.CONNECTION_TIMEOUT", 1)
    with pytest.raises((ValueError, OSError, ImportError), match=message):
        run_experiment(small(tmp_path / "out", **change))
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file/out/patterns\.npz cannot be written"):
        run_experiment(small(tmp_path / "file" / "out"))
    with pytest.raises(ValueError, match="file is a file; a folder was expected"):
        run_experiment(small(tmp_path / "file"))


def test_dropout_is_an_algorithm_of_its_own(tmp_path: Path) -> None:
    config = Figure6Config(
        out=tmp_path,
        restarts=1,
        data="hidden-manifold",
        size=30,
        hidden_units=3,
        dropout=(0.0, 0.3),
        workers=1,
        max_epochs=200,
    )
    results = run_experiment(config)
    assert list(results.algorithms) == ["dropout 0", "dropout 0.3"]
    plain, dropped = results.algorithms.values()
    assert np.any(plain.weights != dropped.weights)
    patterns = experiments.load_patterns("hidden-manifold", size=30)
    sgd = replace(ALGORITHMS["sgd-fast"], dropout=0.3, max_epochs=200)
    ensemble = train(patterns, sgd, restarts=1, hidden_units=3, workers=1)
    np.testing.assert_array_equal(dropped.weights, ensemble.weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"restarts": 0}, "restarts is 0"),
        ({"hidden_units": 4}, "hidden_units is 4; an odd"),
        ({"seed": -1}, "seed is -1"),
        ({"workers": 0}, "workers is 0"),
        ({"max_epochs": 0}, "max_epochs is 0"),
        ({"engines": ()}, r"engines is \(\); different ones of bp, ep, mc, at least one"),
        ({"engines": ("bp", "bp")}, "different ones"),
    ],
)
def test_bad_options(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Figure1Config(**change)


def test_bad_curves(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dropout contains 1\.0"):
        Figure6Config(dropout=(1.0,))
    for algorithms in ((), ("sgd-fast", "sgd-fast")):
        with pytest.raises(ValueError, match="different ones, at least one"):
            run_experiment(small(tmp_path, algorithms=algorithms))
    assert os.listdir(tmp_path) == []


def test_no_results_there(tmp_path: Path, uninterrupted: Path) -> None:
    with pytest.raises(ValueError, match=r"a folder with a config\.json was expected"):
        load_results(tmp_path)
    with pytest.raises(ValueError, match="algorithms contains 'esgd'"):
        load_results(uninterrupted, algorithms=["esgd"])
