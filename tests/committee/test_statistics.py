"""Pairwise tests and correlations: known answers, coverage of the intervals, missing values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from committee.statistics import (
    DEVIATION_DISTANCES,
    compare_algorithms,
    correlate,
    deviations,
    holm,
)
from committee.tables import deviation_table, write_tables
from message_passing.tools.files import read_table
from tests.committee.made_up_results import TWO, algorithm, curve, results


def table(groups: list[int], **measured: np.ndarray) -> pd.DataFrame:
    """Runs of algorithms a, b, c; quantities of chosen values."""
    names = ("test_error", "local_energy_1", "local_entropy_bp_1")
    columns = dict(zip(names, measured.values(), strict=False))
    return pd.DataFrame({"algorithm": ["abc"[g] for g in groups], **columns})


def test_run_table() -> None:
    runs = TWO.to_frame()
    assert runs["algorithm"].tolist() == ["sharp"] * 3 + ["flat"] * 3
    assert runs["restart"].tolist() == [0, 1, 2, 0, 1, 2]
    np.testing.assert_allclose(runs["local_energy_0.5"][:2], [0.05, 0.06])
    np.testing.assert_allclose(runs["local_energy_1"][3:], [0.02, 0.03, 0.04])
    entropy = runs["local_entropy_bp_0.1"]
    np.testing.assert_allclose(entropy[:2], np.array([-0.01, -0.02]) * np.sqrt(0.1), rtol=1e-3)
    assert np.isnan(entropy[5])  # that run makes training errors


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.6, np.nan, 0.7]), [1.0, np.nan, 1.0])
    assert len(holm([])) == 0


def test_comparisons() -> None:
    rng = np.random.default_rng(0)
    groups = [0] * 20 + [1] * 20 + [2] * 20
    shifted = rng.normal(size=60) + np.repeat([0.0, 0.0, 5.0], 20)
    missing = np.where(np.arange(60) < 19, np.nan, shifted)  # one value of "a" is left
    runs = table(groups, x=shifted, ties=np.ones(60), missing=missing)
    rows = compare_algorithms(runs).to_dict("records")
    assert len(rows) == 9
    ab, ac, bc = rows[:3]
    assert (ab["first"], ab["second"]) == ("a", "b") and ab["p_holm"] > 0.05
    assert ac["p_holm"] == pytest.approx(2 * ac["p_value"]) or ac["p_value"] == bc["p_value"]
    assert ac["p_holm"] < 1e-5 and bc["p_holm"] < 1e-5
    expected = stats.mannwhitneyu(shifted[:20], shifted[20:40]).pvalue
    assert ab["p_value"] == pytest.approx(expected)
    assert ac["difference"] == pytest.approx(shifted[:20].mean() - shifted[40:].mean())
    sem = np.hypot(stats.sem(shifted[:20]), stats.sem(shifted[40:]))
    assert ac["difference_standard_error"] == pytest.approx(sem)
    assert all(row["p_value"] == 1.0 for row in rows[3:6])
    assert np.isnan(rows[6]["p_value"]) and rows[6]["n_first"] == 1
    assert rows[8]["p_value"] == bc["p_value"]


def test_comparisons_are_seldom_significant_without_a_difference() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        rows = compare_algorithms(table([0] * 10 + [1] * 10 + [2] * 10, x=rng.normal(size=30)))
        hits += (rows["p_holm"] < 0.05).any()
    assert hits <= 20  # 10 expected at most; 20 is three standard deviations above


def test_correlations_equal_those_of_scipy() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=40)
    y = np.exp(x) + rng.normal(size=40)
    y[3] = np.nan
    rows = correlate(table([0] * 40, x=x, y=y), resamples=200).to_dict("records")
    known = np.isfinite(y)
    assert rows[0]["n"] == 39
    assert rows[0]["correlation"] == pytest.approx(stats.pearsonr(x[known], y[known]).statistic)
    assert rows[1]["correlation"] == pytest.approx(stats.spearmanr(x[known], y[known]).statistic)
    assert all(row["low"] < row["correlation"] < row["high"] for row in rows)


def test_correlation_within_algorithms_forgets_the_differences_between_them() -> None:
    rng = np.random.default_rng(3)
    groups = np.repeat([0, 1, 2], 40)
    x, y = rng.normal(size=120) + 10.0 * groups, rng.normal(size=120) + 10.0 * groups
    rows = {
        (row["scope"], row["kind"]): row
        for row in correlate(table(groups.tolist(), x=x, y=y), resamples=500).to_dict("records")
    }
    assert rows["all runs", "pearson"]["low"] > 0.95
    within = rows["within algorithms", "pearson"]
    assert within["low"] < 0 < within["high"]


def test_intervals_cover_the_true_correlation() -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for seed in range(200):
        x, noise = rng.normal(size=(2, 50))
        y = 0.6 * x + 0.8 * noise  # correlation 0.6
        row = correlate(table([0] * 50, x=x, y=y), resamples=500, seed=seed).iloc[0]
        covered += row["low"] < 0.6 < row["high"]
    assert 180 <= covered <= 199  # 190 expected, standard deviation 3


def test_too_little_to_correlate() -> None:
    rows = correlate(table([0] * 4, x=np.arange(4.0), y=np.arange(4.0)))
    assert rows["correlation"].isna().all() and rows["n"].iloc[0] == 4
    rows = correlate(table([0] * 9, x=np.arange(9.0), y=np.ones(9)))
    assert rows["low"].isna().all()


# Deviations from Monte Carlo

EXACT = [-0.001, -0.003]
ESTIMATE = [-0.0012, -0.0034]


def engine_by_engine(mc: dict, ep: dict):
    runs = algorithm("sharp", [0.1, 0.1], [0.1, 0.1], EXACT, engines=())
    return results(replace(runs, curves={"mc": mc, "ep": ep}))


def measured(slope: float, error: float):
    return replace(curve(slope, engine="mc"), standard_error=np.full(9, error))


def test_ratio_of_the_means_and_its_errors(tmp_path: Path) -> None:
    found = engine_by_engine(
        {i: measured(slope, 1e-5) for i, slope in enumerate(EXACT)},
        {i: curve(slope, engine="ep") for i, slope in enumerate(ESTIMATE)},
    )
    table = deviations(found)
    rows = table.to_dict("records")
    assert [row["distance"] for row in rows] == list(DEVIATION_DISTANCES)
    for row in rows:
        assert (row["algorithm"], row["engine"], row["n"]) == ("sharp", "ep", 2)
        assert row["deviation"] == pytest.approx(0.0046 / 0.004 - 1)
        scatter = np.std([-0.0012 + 1.15 * 0.001, -0.0034 + 1.15 * 0.003], ddof=1)
        assert row["deviation_standard_error"] == pytest.approx(scatter * np.sqrt(2) / 0.004)
    last = rows[-1]
    assert last["mc_error"] == pytest.approx(1.15 * np.sqrt(2) * 1e-5 / (0.004 * np.sqrt(0.3)))
    assert "| 15.0 ± 2.5 % (n=2)" in deviation_table(table)
    assert write_tables(found, tmp_path)["deviations"].equals(table)
    assert len(read_table(tmp_path / "deviations.csv")) == len(DEVIATION_DISTANCES)


def test_only_runs_that_have_both_count() -> None:
    found = engine_by_engine(
        {
            0: measured(EXACT[0], 1e-5),
            1: replace(measured(EXACT[1], 0.0), converged=np.zeros(9, bool)),
        },
        {1: curve(ESTIMATE[1], engine="ep"), 0: curve(ESTIMATE[0], engine="ep", last=0.2)},
    )
    table = deviations(found)
    near, _, far = table.to_dict("records")
    assert near["n"] == 1 and near["deviation"] == pytest.approx(0.2)
    assert np.isnan(near["deviation_standard_error"]) and near["mc_error"] > 0
    assert far["n"] == 0 and np.isnan(far["deviation"])
    assert deviation_table(table).splitlines()[-1].split()[-2] == "–"


def test_without_monte_carlo_there_is_no_table(tmp_path: Path) -> None:
    assert deviations(TWO).empty and "deviations" not in write_tables(TWO, tmp_path)
    assert not (tmp_path / "deviations.csv").exists()
