"""Deviations of the engines from Monte Carlo, by hand."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from committee.deviations import DISTANCES, deviations
from committee.tables import deviation_table, write_tables
from tests.committee.made_up_results import TWO, curve, results, variant

EXACT = [-0.001, -0.003]
ESTIMATE = [-0.0012, -0.0034]


def engine_by_engine(mc: dict, ep: dict):
    runs = variant("sharp", [0.1, 0.1], [0.1, 0.1], EXACT, engines=())
    return results(replace(runs, curves={"mc": mc, "ep": ep}))


def measured(slope: float, error: float):
    return replace(curve(slope, engine="mc"), standard_error=np.full(9, error))


def test_ratio_of_the_means_and_its_errors(tmp_path: Path) -> None:
    found = engine_by_engine(
        {i: measured(slope, 1e-5) for i, slope in enumerate(EXACT)},
        {i: curve(slope, engine="ep") for i, slope in enumerate(ESTIMATE)},
    )
    rows = deviations(found)
    assert [row["distance"] for row in rows] == list(DISTANCES)
    for row in rows:
        assert (row["algorithm"], row["engine"], row["n"]) == ("sharp", "ep", 2)
        assert row["deviation"] == pytest.approx(0.0046 / 0.004 - 1)
        scatter = np.std([-0.0012 + 1.15 * 0.001, -0.0034 + 1.15 * 0.003], ddof=1)
        assert row["standard_error"] == pytest.approx(scatter * np.sqrt(2) / 0.004)
    last = rows[-1]
    assert last["mc_error"] == pytest.approx(1.15 * np.sqrt(2) * 1e-5 / (0.004 * np.sqrt(0.3)))
    assert "+15.0 ± 2.5 % (n=2)" in deviation_table(rows)
    assert write_tables(found, tmp_path).deviations == rows
    with (tmp_path / "deviations.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(DISTANCES)


def test_only_runs_that_have_both_count() -> None:
    found = engine_by_engine(
        {
            0: measured(EXACT[0], 1e-5),
            1: replace(measured(EXACT[1], 0.0), converged=np.zeros(9, bool)),
        },
        {1: curve(ESTIMATE[1], engine="ep"), 0: curve(ESTIMATE[0], engine="ep", last=0.2)},
    )
    near, _, far = deviations(found)
    assert near["n"] == 1 and near["deviation"] == pytest.approx(0.2)
    assert np.isnan(near["standard_error"]) and near["mc_error"] > 0
    assert far["n"] == 0 and np.isnan(far["deviation"])
    assert deviation_table([near, far]).splitlines()[-1].split()[-1] == "–"


def test_without_monte_carlo_there_is_no_table(tmp_path: Path) -> None:
    assert deviations(TWO) == []
    assert write_tables(TWO, tmp_path).deviations == []
    assert not (tmp_path / "deviations.csv").exists()
