"""Experiments: stored files, resuming after any interruption, the same files for any workers."""

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

from committee import ALGORITHMS, experiments, local_energy, rounds, train
from committee.experiments import Figure1Config, Figure6Config, run_experiment
from committee.results import load_results
from message_passing.local_entropy import ENGINES, local_entropy_curve
from message_passing.problem import LadderResult, ReferenceProblem
from message_passing.tools.files import read_json, read_npz, write_json, write_npz
from tests.cluster import ROOT, Cluster

NAMES = ("sgd-fast", "sgd-slow")
ONE = {"draws": 1, "restarts": 1}


def small(out: Path, **changes: object) -> Figure1Config:
    """Two algorithms on forty patterns, which take a second."""
    config = Figure1Config(
        out=out,
        draws=2,
        restarts=2,
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


def machines_and_curves(out: Path) -> dict[str, bytes]:
    return {
        name: content
        for name, content in files(out / "draws").items()
        if not Path(name).name.startswith(".")  # a temporary file of a killed process
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted")
    run_experiment(small(out))
    return out


def test_what_is_stored(uninterrupted: Path) -> None:
    stored = files(uninterrupted)
    for draw in ("00", "01"):
        own = [name for name in stored if name.startswith(f"draws/{draw}/")]
        machines = [f"draws/{draw}/machines/{name}/00{i}.npz" for name in NAMES for i in (0, 1)]
        curves = [f"draws/{draw}/curves/{name}/00{i}.bp.npz" for name in NAMES for i in (0, 1)]
        assert sorted(own) == sorted([*machines, *curves, f"draws/{draw}/patterns.npz"])
    config = json.loads(stored["config.json"])
    assert config["settings"]["seed"] == 0
    assert config["settings"]["data"] == config["patterns"]["1"]["name"] == "hidden-manifold"
    made = config["made_by"][0]
    assert {"numpy", "torch", "processor", "git_revision"} <= made.keys()


def test_results_are_those_of_the_functions(uninterrupted: Path) -> None:
    """Draw j equals a separate experiment with seed j."""
    results = load_results(uninterrupted)
    assert list(results.patterns) == [0, 1] and results.hidden_units == 3
    for draw, patterns in results.patterns.items():
        expected = experiments.load_patterns("hidden-manifold", size=40, seed=draw)
        np.testing.assert_array_equal(patterns.train_patterns, expected.train_patterns)
        assert patterns.description == expected.description
        arrays = patterns.train_patterns, patterns.train_labels
        for name, own in results.algorithms.items():
            rows = (own.runs["draw"] == draw).to_numpy()
            assert own.runs["restart"][rows].tolist() == [0, 1]
            ensemble = train(
                patterns, name, 2, hidden_units=3, seed=draw, max_epochs=1500, workers=1
            )
            np.testing.assert_array_equal(own.weights[rows], ensemble.weights)
            table, theirs = own.to_frame()[rows].reset_index(drop=True), ensemble.to_frame()
            pd.testing.assert_frame_equal(table[[*theirs]], theirs)
            profile = local_energy(ensemble.weights, *arrays)
            np.testing.assert_array_equal(own.profile.local_energy[rows], profile.local_energy)
            curve = local_entropy_curve(ensemble.weights[1], *arrays, engine="bp")
            stored = own.curves["bp"][draw, 1]
            np.testing.assert_array_equal(stored.local_entropy, curve.local_entropy)
            assert stored.engine == "bp"
            grid = np.array([0.05, 0.2])
            np.testing.assert_allclose(own.local_entropy("bp", grid)[rows][1], curve.at(grid))
    assert list(results.to_frame())[:3] == ["algorithm", "draw", "restart"]
    assert repr(results).startswith("ExperimentResults(PatternSet('hidden-manifold', P=40")


def test_two_workers_write_the_same_files(uninterrupted: Path, tmp_path: Path) -> None:
    run_experiment(small(tmp_path, workers=2))
    assert files(tmp_path) == files(uninterrupted)


@pytest.mark.parametrize("work", ["train_and_profile", "curve_arrays"])
def test_resume_after_an_error(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    original = getattr(rounds, work)
    calls = []

    def fail_in_the_middle(*arguments: object, **options: object) -> object:
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(rounds, work, fail_in_the_middle)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(small(tmp_path))
    assert files(tmp_path).items() < files(uninterrupted).items()
    assert len(load_results(tmp_path).algorithms["sgd-slow"].runs) >= 1  # partial results
    run_experiment(small(tmp_path))
    assert files(tmp_path) == files(uninterrupted)
    assert len(calls) == 4 + 5  # three of eight were stored
    run_experiment(small(tmp_path))
    assert len(calls) == 9  # nothing is computed twice


def test_resume_after_a_kill(uninterrupted: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = (
        "--draws 2 --restarts 2 --data hidden-manifold --size 40 --hidden-units 3 --engines bp "
        "--algorithms sgd-fast sgd-slow --max-epochs 1500 --workers 2"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "committee", "figure1", "--out", str(out), *options.split()],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not list(out.glob("draws/*/machines/*/*.npz")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    left = machines_and_curves(out)
    assert left and left.items() < machines_and_curves(uninterrupted).items()
    run_experiment(small(out))
    assert machines_and_curves(out) == machines_and_curves(uninterrupted)


def test_a_cluster_with_a_killed_worker_writes_the_same_files(
    uninterrupted: Path, tmp_path: Path, cluster: Cluster
) -> None:
    out = tmp_path / "out"
    there: list[int] = []

    def kill_in_the_middle() -> None:
        while not list(out.glob("draws/*/machines/*/*.npz")):
            time.sleep(0.005)
        cluster.kill_a_worker()
        there.append(len(list(out.glob("draws/*/machines/*/*.npz"))))

    killer = threading.Thread(target=kill_in_the_middle, daemon=True)
    killer.start()
    run_experiment(small(out, scheduler=cluster.address, draws=1, restarts=8))
    killer.join()
    assert there[0] < 16
    run_experiment(small(tmp_path / "here", draws=1, restarts=8))
    assert files(out) == files(tmp_path / "here")


@pytest.mark.parametrize(
    "fewer", [{"draws": 1}, {"restarts": 1}, {"algorithms": ("sgd-slow",)}], ids=str
)
def test_more_draws_restarts_and_algorithms_extend_a_folder(
    uninterrupted: Path, tmp_path: Path, fewer: dict
) -> None:
    before = run_experiment(small(tmp_path, **fewer)).to_frame()
    assert len(before) == 4
    results = run_experiment(small(tmp_path))
    assert machines_and_curves(tmp_path) == machines_and_curves(uninterrupted)
    assert list(results.algorithms) == list(NAMES) and len(results.to_frame()) == 8
    pd.testing.assert_frame_equal(run_experiment(small(tmp_path, **fewer)).to_frame(), before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"size": 42}, "size is 40 there and 42 here"),
        ({"balanced": True}, "balanced is False there and True here"),
        ({"max_epochs": 10}, r"algorithms.sgd-fast.max_epochs is 1500 there and 10 here"),
        ({"data": "random"}, "data is 'hidden-manifold' there and 'random' here"),
        ({"hidden_units": 5}, "hidden_units is 3 there and 5 here"),
        (
            {"classes": ("Coat", "Bag")},
            r"classes is \['Dress', 'Coat'\] there and \['Coat', 'Bag'\]",
        ),
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
    assert results.patterns[1].name == "hidden-manifold" and files(uninterrupted) == before


def test_machines_with_training_errors_count_their_equals(tmp_path: Path) -> None:
    results = run_experiment(
        small(tmp_path, max_epochs=60, algorithms=("sgd-slow",), engines=("mc",), **ONE)
    )
    own = results.algorithms["sgd-slow"]
    assert own.runs["train_error"][0] > 0 and not own.runs["converged"][0]
    values = own.local_entropy("mc", np.array([0.05, 0.1]))
    assert np.all(np.isfinite(values)) and np.all(values <= 0)


def test_curves_end_where_they_stop_converging(uninterrupted: Path) -> None:
    own = load_results(uninterrupted).algorithms["sgd-slow"]
    curve = own.curves["bp"][0, 0]
    converged = curve.converged.copy()
    converged[7] = False
    broken = replace(own, curves={"bp": {(0, 0): replace(curve, converged=converged)}})
    grid = np.array([0.0, curve.distance[6], curve.distance[7], curve.distance[10]])
    values = broken.local_entropy("bp", grid)
    np.testing.assert_array_equal(np.isnan(values[0]), [False, False, True, True])
    assert np.all(np.isnan(values[1:]))


@dataclass(frozen=True)
class NoisyEngine:
    """A sampling engine whose answer depends on its seed alone."""

    seed: int = 0

    def ladder(
        self, problem: ReferenceProblem, variances: np.ndarray, progress: bool = False
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
    run_experiment(small(tmp_path, draws=1))
    results = run_experiment(small(tmp_path, draws=1, engines=("noisy",)))
    assert results.engines == ["bp", "noisy"]  # an engine was added to the folder
    seeds = {
        c.free_entropy[0] for v in results.algorithms.values() for c in v.curves["noisy"].values()
    }
    assert len(seeds) == 4
    again = run_experiment(small(tmp_path / "again", draws=1, engines=("noisy",)))
    assert seeds == {
        c.free_entropy[0] for v in again.algorithms.values() for c in v.curves["noisy"].values()
    }
    monkeypatch.setitem(ENGINES, "noisy", partial(NoisyEngine, seed=5))
    with pytest.raises(ValueError, match=r"engines\.noisy\.seed is 0 there and 5 here"):
        run_experiment(small(tmp_path, draws=1, engines=("noisy",)))


DAMAGED = tuple(
    f"draws/01/{name}"
    for name in ("machines/sgd-fast/000.npz", "curves/sgd-slow/000.bp.npz", "patterns.npz")
)


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
    (tmp_path / "draws/01/patterns.npz").unlink()
    with pytest.raises(ValueError, match=r"no patterns\.npz. Run the command again"):
        load_results(tmp_path)
    config = read_json(tmp_path / "config.json")
    config["patterns"]["1"]["content"] = "another"
    write_json(tmp_path / "config.json", config)
    before = files(tmp_path)
    with pytest.raises(ValueError, match="holds results on other patterns than these: hidden"):
        run_experiment(small(tmp_path, restarts=1))
    assert files(tmp_path) == before


def test_machines_without_their_settings_are_refused(tmp_path: Path) -> None:
    run_experiment(small(tmp_path, restarts=1))
    (tmp_path / "config.json").unlink()
    before = files(tmp_path)
    with pytest.raises(ValueError, match=r"holds draws but no config\.json"):
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
        ({"classes": ("Coat", "Bag")}, "but 'hidden-manifold' has no images of classes"),
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
    with pytest.raises(OSError, match=r"file/out/config\.json cannot be written"):
        run_experiment(small(tmp_path / "file" / "out"))
    with pytest.raises(ValueError, match="file is a file; a folder was expected"):
        run_experiment(small(tmp_path / "file"))


def test_dropout_is_an_algorithm_of_its_own(tmp_path: Path) -> None:
    config = Figure6Config(
        out=tmp_path,
        draws=1,
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
        ({"draws": 0}, "draws is 0"),
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
