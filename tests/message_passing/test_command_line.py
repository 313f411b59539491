"""``python -m message_passing curve``: curves, table, plot, resuming, errors."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from message_passing import curve_runs
from message_passing.__main__ import main
from message_passing.curve_runs import CurveConfig, CurveRun
from message_passing.local_entropy import LocalEntropyCurve, local_entropy_curve, resolve_engine
from message_passing.tools.files import from_arrays, read_npz
from tests.message_passing.machines import random_machine

ROOT = Path(__file__).parents[2]
LADDER = (0.01, 0.05)


@pytest.fixture
def files(tmp_path):
    """Two machines that give the same answers on the patterns, and those patterns."""
    weights, patterns, labels = random_machine(3, 12, 7, seed=1)
    np.savez(tmp_path / "weights.npz", weights=np.stack([weights, 2 * weights + 1e-3]))
    np.savez(tmp_path / "patterns.npz", patterns=patterns, labels=labels)
    return tmp_path


def arguments(files, *more, engine="bp", ladder="--variances"):
    return [
        "curve", f"{files}/weights.npz", "--patterns", f"{files}/patterns.npz", "--engine", engine,
        "--out", f"{files}/out", "--workers", "1", ladder, *map(str, LADDER), *more,
    ]  # fmt: skip


def test_curves_table_and_plot(files, capsys):
    main(arguments(files, engine="all"))
    printed = capsys.readouterr().out
    assert "2 machines, K=3, N=12, P=7" in printed and "at d = " in printed
    out = files / "out"
    for name in ("figure.pdf", "figure.png", "curves.csv", "config.json"):
        assert (out / name).stat().st_size > 100
    rows = list(csv.DictReader((out / "curves.csv").open()))
    assert len(rows) == 3 * 2 * len(LADDER)
    weights = np.load(files / "weights.npz")["weights"]
    data = np.load(files / "patterns.npz")
    for machine in range(2):
        for engine in ("bp", "ep"):
            curve = local_entropy_curve(
                weights[machine], data["patterns"], data["labels"], engine=engine, variances=LADDER
            )
            found = [
                row for row in rows if row["engine"] == engine and row["machine"] == str(machine)
            ]
            for name in ("distance", "variance", "local_entropy", "free_entropy"):
                values = [float(row[name]) for row in found]
                np.testing.assert_allclose(values, getattr(curve, name), rtol=1e-5)
            assert [row["converged"] for row in found] == ["True", "True"]
    errors = [float(row["local_entropy_standard_error"]) for row in rows if row["engine"] == "mc"]
    assert all(error > 0 for error in errors)


def test_a_second_run_computes_nothing_and_a_killed_one_only_what_is_missing(files, monkeypatch):
    measured = []
    measure = curve_runs.measure

    def counted(*arguments):
        measured.append(arguments[-1][1])
        return measure(*arguments)

    monkeypatch.setattr(curve_runs, "measure", counted)
    main(arguments(files))
    before = {path.name: path.read_bytes() for path in (files / "out").rglob("*.npz")}
    assert measured == ["bp", "bp"]
    (files / "out" / "curves" / "001.bp.npz").unlink()
    main(arguments(files))
    assert measured == ["bp"] * 3
    main(arguments(files, engine="ep"))  # one more engine in the same folder
    assert measured == ["bp"] * 3 + ["ep"] * 2
    main(arguments(files, engine="ep"))
    assert measured == ["bp"] * 3 + ["ep"] * 2
    again = {path.name: path.read_bytes() for path in (files / "out").rglob("*.bp.npz")}
    assert before == again


def test_other_input_or_settings_in_the_same_folder_are_refused(files):
    main(arguments(files, engine="mc"))
    with pytest.raises(SystemExit, match=r"engines\.mc\.seed is \d+ there and \d+ here"):
        main(arguments(files, "--seed", "5", engine="mc"))
    with pytest.raises(SystemExit, match=r"variances is \[0\.01, 0\.05\] there and \[0\.3\] here"):
        main([*arguments(files)[:-2], "0.3"])
    data = dict(np.load(files / "patterns.npz"))
    np.savez(files / "patterns.npz", patterns=data["patterns"][1:], labels=data["labels"][1:])
    with pytest.raises(SystemExit, match="holds results of other settings: patterns_hash"):
        main(arguments(files))
    assert len(list((files / "out" / "curves").iterdir())) == 2


def test_distances_in_place_of_variances(files, monkeypatch, capsys):
    main(arguments(files, engine="all", ladder="--distances"))
    rows = list(csv.DictReader((files / "out" / "curves.csv").open()))
    assert {float(row["distance"]) for row in rows} == set(LADDER)
    assert len(rows) == 3 * 2 * len(LADDER)
    # Only measured points are printed.
    printed = capsys.readouterr().out
    assert set(re.findall(r"at d = ([0-9.]+)", printed)) == {f"{d:.3g}" for d in LADDER}
    # The same command resumes. Other distances, or variances instead, are refused.
    monkeypatch.setattr(curve_runs, "measure", lambda *_: pytest.fail("computed twice"))
    main(arguments(files, engine="all", ladder="--distances"))
    with pytest.raises(SystemExit, match=r"distances is \[0\.01, 0\.05\] there and None here"):
        main(arguments(files))
    with pytest.raises(SystemExit, match=r"distances is .* there and \[0\.3\] here"):
        main([*arguments(files, ladder="--distances")[:-2], "0.3"])


def test_machines_have_seeds_of_their_own_whatever_the_number_of_workers(files, tmp_path):
    weights = np.load(files / "weights.npz")["weights"]
    np.savez(files / "weights.npz", weights=np.stack([weights[0], weights[0]]))
    found = []
    for workers in (1, 2):
        config = CurveConfig(
            files / "weights.npz",
            files / "patterns.npz",
            engine="mc",
            out=tmp_path / f"workers{workers}",
            variances=LADDER,
            seed=3,
            workers=workers,
        )
        curves, refused = CurveRun.prepare(config).run()
        assert not refused
        found.append([curves["mc"][machine].free_entropy for machine in (0, 1)])
    np.testing.assert_array_equal(found[0], found[1])
    assert np.all(found[0][0] != found[0][1])
    assert resolve_engine("mc", 7).seed == 7


def test_stored_curves_are_read_back_as_they_were(files):
    main(arguments(files))
    stored = from_arrays(LocalEntropyCurve, read_npz(files / "out" / "curves" / "000.bp.npz"))
    assert stored.engine == "bp" and stored.converged.dtype == bool
    assert stored.at(float(stored.distance[1])) == pytest.approx(stored.local_entropy[1])
    (files / "out" / "curves" / "000.bp.npz").write_bytes(b"PK")
    with pytest.raises(SystemExit, match="Delete it and run the command again"):
        main(arguments(files))


def test_machines_with_training_errors(files, capsys):
    """Monte Carlo measures them, and the command prints how many errors they make."""
    data = dict(np.load(files / "patterns.npz"))
    weights = np.load(files / "weights.npz")["weights"]
    np.savez(files / "weights.npz", weights=np.stack([weights[0], -weights[0]]))
    main(arguments(files, engine="mc"))
    printed = capsys.readouterr().out
    assert f"Machine 1 makes {len(data['labels'])} training errors" in printed
    assert len(list((files / "out" / "curves").glob("*.mc.npz"))) == 2


def test_an_engine_that_refuses_one_machine_measures_the_others(files, capsys, monkeypatch):
    measure = curve_runs.measure

    def picky(*arguments):
        first = np.load(files / "weights.npz")["weights"][0]
        if np.array_equal(arguments[-1][0], first):
            return "too strange."
        return measure(*arguments)

    monkeypatch.setattr(curve_runs, "measure", picky)
    main(arguments(files))
    assert "Machine 0 has no curve by bp: too strange." in capsys.readouterr().out
    rows = list(csv.DictReader((files / "out" / "curves.csv").open()))
    assert {row["machine"] for row in rows} == {"1"}
    monkeypatch.setattr(curve_runs, "measure", lambda *_: "too strange.")
    with pytest.raises(SystemExit, match=r"there is no curve\. Machine 0 has no curve by ep"):
        main(arguments(files, engine="ep"))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (("--variances", "0.2", "0.1"), "variances is .*increasing"),
        (("--variances", "-1"), "variances is .*positive"),
        (("--distances", "0.2", "0.1"), "distances is .*increasing"),
        (("--variances", "0.1", "--distances", "0.1"), "variances and distances are both given"),
        (("--workers", "0"), "workers is 0"),
        (("--seed", "-2"), "seed is -2"),
        (("--patterns", "nowhere.npz"), r"nowhere\.npz does not exist"),
    ],
)
def test_impossible_settings_are_refused_before_any_work(files, wrong, sentence, capsys):
    start = arguments(files)[:2]
    with pytest.raises(SystemExit) as stopped:
        main([*start, "--out", f"{files}/out", *wrong])
    printed = capsys.readouterr()

    assert re.search(sentence, f"{stopped.value} {printed.err} {printed.out}")
    assert not (files / "out").exists()


def test_help_explains_options_and_config_says_who_made_it(files):
    done = subprocess.run(
        [sys.executable, "-m", "message_passing", "curve", "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    for word in ("WEIGHTS.npz", "--patterns", "--engine", "--variances", "--distances", "Default"):
        assert word in done.stdout
    main(arguments(files))
    config = json.loads((files / "out" / "config.json").read_text())
    assert config["made_by"][0]["numpy"] == np.__version__
    assert config["settings"]["engines"]["bp"]["kind"] == "BeliefPropagation"
