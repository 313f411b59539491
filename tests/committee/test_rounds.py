"""Rounds of an experiment: order, interruption, controls that wait for their algorithm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from committee import ALGORITHMS, rounds, train
from committee.__main__ import main
from committee.experiments import run_experiment
from committee.results import ExperimentResults
from message_passing.tools.files import read_table
from tests.committee.test_experiments import NAMES, machines_and_curves, small


def test_rounds_go_through_the_draws_first_and_show_what_is_there(tmp_path: Path) -> None:
    seen: list[list[tuple[int, int, int]]] = []

    def look(results: ExperimentResults) -> None:
        for name in results.algorithms:
            assert list(results.algorithms[name].curves) == ["bp"]
        counts = results.to_frame().groupby(["restart", "draw"]).size()
        seen.append([(restart, draw, n) for (restart, draw), n in counts.items()])

    run_experiment(small(tmp_path / "out"), on_round=look)
    every = [(0, 0, 2), (0, 1, 2), (1, 0, 2), (1, 1, 2)]
    assert seen == [[(0, 0, 1)], every[:1], every[:2], every[:3]]  # first after half a round
    run_experiment(small(tmp_path / "out"), on_round=look)
    assert len(seen) == 4  # nothing new


def command_for(out: Path, restarts: int) -> list[str]:
    options = "--draws 2 --data hidden-manifold --size 40 --hidden-units 3 --workers 1 --engines bp"
    command = ["figure1", "--out", str(out), "--restarts", str(restarts), *options.split()]
    return [*command, "--algorithms", *NAMES, "--max-epochs", "1500"]


def test_resume_and_extension_write_the_tables_of_one_run(tmp_path: Path) -> None:
    main(command_for(tmp_path / "extended", restarts=1))
    main(command_for(tmp_path / "extended", restarts=2))
    main(command_for(tmp_path / "one", restarts=2))
    tables = sorted((tmp_path / "one").glob("*.csv"))
    assert {"summary.csv", "runs.csv", "comparisons.csv"} <= {table.name for table in tables}
    for table in tables:
        assert (tmp_path / "extended" / table.name).read_text() == table.read_text()


def test_interrupted_between_rounds_the_command_leaves_tables_and_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = command_for(tmp_path, restarts=1)
    original = rounds.train_and_profile
    calls: list[object] = []

    def fail_in_the_second_round(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(rounds, "train_and_profile", fail_in_the_second_round)
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 130
    table = read_table(tmp_path / "runs.csv")
    assert table["draw"].tolist() == [0, 0] and set(table["algorithm"]) == set(NAMES)
    assert len(read_table(tmp_path / "summary.csv")) >= 2
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "figure.pdf").read_bytes().rstrip().endswith(b"%%EOF")
    main(command)
    assert read_table(tmp_path / "runs.csv")["draw"].tolist() == [0, 1, 0, 1]


def test_controls_stop_with_the_run_they_belong_to(tmp_path: Path) -> None:
    names = ("rsgd-fast", "control-rsgd-fast-epochs", "rsgd-fast-uncoupled")
    changes = {"max_epochs": 4000, "engines": ("ep",), "restarts": 1}
    results = run_experiment(small(tmp_path / "out", algorithms=names, **changes))
    epochs = [own.runs["epochs"].tolist() for own in results.algorithms.values()]
    assert epochs[0] == epochs[1] == epochs[2] and len(set(epochs[0])) == 2
    assert max(epochs[0]) < 4000
    control, uncoupled = (results.algorithms[name].weights for name in names[1:])
    assert np.all(np.any(control != uncoupled, axis=(1, 2)))
    plain = replace(ALGORITHMS[names[1]], max_epochs=epochs[0][1])
    expected = train(results.patterns[1], plain, 1, hidden_units=3, seed=1, workers=1)
    np.testing.assert_array_equal(control[1], expected.weights[0])
    # Controls that are added to existing machines are the same.
    run_experiment(small(tmp_path / "later", algorithms=names[:1], **changes))
    run_experiment(small(tmp_path / "later", algorithms=names, **changes))
    assert machines_and_curves(tmp_path / "later") == machines_and_curves(tmp_path / "out")
    with pytest.raises(ValueError, match="stops when rsgd-fast does; rsgd-fast was expected"):
        run_experiment(small(tmp_path / "alone", algorithms=names[1:]))
    assert not (tmp_path / "alone").exists()
