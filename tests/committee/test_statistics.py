"""Pairwise tests and correlations: known answers, coverage of the intervals, missing values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from committee.statistics import RunTable, compare_algorithms, correlate, holm, run_table
from tests.committee.made_up_results import TWO


def table(groups: list[int], **quantities: np.ndarray) -> RunTable:
    names = np.array(["abc"[g] for g in groups])
    return RunTable(names, np.arange(len(groups)), quantities)


def test_run_table() -> None:
    runs = run_table(TWO)
    assert runs.algorithm.tolist() == ["sharp"] * 3 + ["flat"] * 3
    assert runs.restart.tolist() == [0, 1, 2, 0, 1, 2]
    np.testing.assert_allclose(runs.quantities["local energy at 0.5"][:2], [0.05, 0.06])
    np.testing.assert_allclose(runs.quantities["local energy at 1"][3:], [0.02, 0.03, 0.04])
    entropy = runs.quantities["local entropy (bp) at 0.1"]
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
    rows = compare_algorithms(table(groups, x=shifted, ties=np.ones(60), missing=missing))
    assert len(rows) == 9
    ab, ac, bc = rows[:3]
    assert (ab["first"], ab["second"]) == ("a", "b") and ab["p_holm"] > 0.05
    assert ac["p_holm"] == pytest.approx(2 * ac["p_value"]) or ac["p_value"] == bc["p_value"]
    assert ac["p_holm"] < 1e-5 and bc["p_holm"] < 1e-5
    expected = stats.mannwhitneyu(shifted[:20], shifted[20:40]).pvalue
    assert ab["p_value"] == pytest.approx(expected)
    assert ac["difference"] == pytest.approx(shifted[:20].mean() - shifted[40:].mean())
    sem = np.hypot(stats.sem(shifted[:20]), stats.sem(shifted[40:]))
    assert ac["standard_error"] == pytest.approx(sem)
    assert all(row["p_value"] == 1.0 for row in rows[3:6])
    assert np.isnan(rows[6]["p_value"]) and rows[6]["n_first"] == 1
    assert rows[8]["p_value"] == bc["p_value"]


def test_comparisons_are_seldom_significant_without_a_difference() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        rows = compare_algorithms(table([0] * 10 + [1] * 10 + [2] * 10, x=rng.normal(size=30)))
        hits += any(row["p_holm"] < 0.05 for row in rows)
    assert hits <= 20  # 10 expected at most; 20 is three standard deviations above


def test_correlations_equal_those_of_scipy() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=40)
    y = np.exp(x) + rng.normal(size=40)
    y[3] = np.nan
    rows = correlate(table([0] * 40, x=x, y=y), resamples=200)
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
        for row in correlate(table(groups.tolist(), x=x, y=y), resamples=500)
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
        row = correlate(table([0] * 50, x=x, y=y), resamples=500, seed=seed)[0]
        covered += row["low"] < 0.6 < row["high"]
    assert 180 <= covered <= 199  # 190 expected, standard deviation 3


def test_too_little_to_correlate() -> None:
    rows = correlate(table([0] * 4, x=np.arange(4.0), y=np.arange(4.0)))
    assert all(np.isnan(row["correlation"]) for row in rows) and rows[0]["n"] == 4
    rows = correlate(table([0] * 9, x=np.arange(9.0), y=np.ones(9)))
    assert all(np.isnan(row["low"]) for row in rows)
