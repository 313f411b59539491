"""The table of variations: its rows, its means over draws, and resuming."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from committee import sensitivity
from committee import variations as measured
from committee.algorithms import PUBLISHED
from committee.elastic_term import READINGS
from committee.experiments import Figure1Config, run_experiment
from committee.sensitivity import SensitivityConfig, run, summarise, variations
from committee.variations import Variation, measure_variations


def test_every_open_point_is_varied():
    changes = {(v.algorithm.name, v.change) for v in variations()}
    assert len(changes) == len(variations())
    assert ("sgd-fast", "mean of the loss") in changes
    assert ("esgd", "averaging 0.9") in changes
    assert all((name, "balanced patterns") in changes for name in ("sgd-fast", "esgd"))
    for reading in READINGS:
        assert ("rsgd-slow", f"elastic term {reading}") in changes


def test_runs_are_stored_and_not_computed_twice(tmp_path, monkeypatch, capsys):
    fast = replace(PUBLISHED["sgd-fast"], max_epochs=300)
    rows = [Variation("as in Figure 1", fast), Variation("balanced patterns", fast, balanced=True)]
    monkeypatch.setattr(sensitivity, "variations", lambda: rows)
    config = SensitivityConfig(out=tmp_path, draws=2, data="hidden-manifold", size=60, workers=1)
    run(config)
    tables = [pd.read_csv(tmp_path / name) for name in ("sensitivity.csv", "sensitivity_runs.csv")]
    assert tables[0]["n"].tolist() == [2, 2] and tables[1]["test_error"].nunique() > 1
    assert "balanced patterns" in capsys.readouterr().out
    monkeypatch.setattr(measured, "measure_run", None)  # nothing is left to compute
    run(config)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "sensitivity.csv"), tables[0])
    with pytest.raises(ValueError, match="size is 60 there and 61 here"):
        run(replace(config, size=61))


def test_machines_are_those_of_figure1(tmp_path):
    data = {"data": "hidden-manifold", "size": 40, "hidden_units": 3, "workers": 1}
    config = SensitivityConfig(out=tmp_path / "a", draws=2, restarts=2, **data)
    row = Variation("as in Figure 1", PUBLISHED["sgd-fast"])
    runs = measure_variations(config, [row], "A test", "bp").sort_values(["draw", "restart"])
    figure = Figure1Config(
        out=tmp_path / "b", draws=2, restarts=2, algorithms=("sgd-fast",), engines=("bp",), **data
    )
    expected = run_experiment(figure).to_frame().sort_values(["draw", "restart"])
    for name in ("epochs", "test_error", "local_energy_1"):
        np.testing.assert_array_equal(runs[name], expected[name])
    # Figure 1 interpolates its curve.
    np.testing.assert_allclose(runs["local_entropy"], expected["local_entropy_bp_0.3"], rtol=3e-3)


def test_means_are_over_draws_and_leave_out_collapsed_runs():
    about = {"algorithm": "a", "change": "b", "constant_test_error": 0.1, "met": True}
    about |= {"epochs": 5, "converged": True, "local_energy_1": 0.5, "local_entropy": -1.0}
    runs = pd.DataFrame(
        [
            {**about, "draw": draw, "test_error": error, "collapsed": collapsed}
            for draw, error, collapsed in ((0, 0.1, False), (0, 0.3, False), (1, 0.4, False),
                                           (1, 0.9, True))
        ]
    ).assign(training_errors=[0, 1, 0, 2])  # fmt: skip
    (row,) = summarise(runs).to_dict("records")
    assert (row["n"], row["runs"], row["with_errors"], row["collapsed"]) == (2, 4, 2, 1)
    assert row["test_error"] == pytest.approx(0.3)  # of 0.2 and 0.4
    assert row["test_error_standard_error"] == pytest.approx(0.1)
