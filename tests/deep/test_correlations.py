"""Correlation report: against scipy, J19's coefficient by hand and by a literal twin."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from deep import correlation_report
from deep.correlations import granulated_kendall

GRID = list(itertools.product([0.0, 0.1, 0.2], ["a", "b"], [8, 32, 512]))
COLUMNS = {
    name: [point[i] for point in GRID] for i, name in enumerate(("dropout", "kind", "batch"))
}


def report(measures, errors, hyper_parameters=None, **options):
    hyper_parameters = hyper_parameters or {}
    table = pd.DataFrame({**measures, **errors, **hyper_parameters})
    rows = correlation_report(table, [*measures], [*errors], [*hyper_parameters], **options)
    return rows.to_dict("records")


def granulated(measure, error, columns):
    (mean, _, _), parts = granulated_kendall(measure, error, pd.DataFrame(columns), resamples=9)
    return mean, parts


def test_coefficients_and_p_values_are_scipys():
    rng = np.random.default_rng(0)
    x = rng.normal(size=18)
    y = x + rng.normal(size=18)
    rows = report({"sharpness": x}, {"gap": y}, resamples=500)
    assert [row["kind"] for row in rows] == ["pearson", "spearman", "kendall"]
    tests = (stats.pearsonr, stats.spearmanr, stats.kendalltau)
    for row, test in zip(rows, tests, strict=True):
        expected = test(x, y)
        assert row["correlation"] == pytest.approx(expected.statistic)
        assert row["p_value"] == pytest.approx(expected.pvalue)
        assert row["low"] < row["correlation"] < row["high"] and row["n"] == 18
    again = report({"sharpness": x}, {"gap": y}, resamples=500)
    assert str(again) == str(rows)
    # Fisher's interval is close to the bootstrap's for normal data.
    fisher = stats.pearsonr(x, y).confidence_interval()
    assert rows[0]["low"] == pytest.approx(fisher.low, abs=0.25)


def test_granulated_coefficient_by_hand():
    """The measure orders batch sizes rightly at equal dropout, but dropout itself wrongly."""
    columns = {"dropout": [0, 0, 1, 1], "batch": [8, 32, 8, 32]}
    measure, error = [1, 2, 11, 12], [3, 4, 1, 2]
    mean, parts = granulated(measure, error, columns)
    assert parts == {"dropout": -1.0, "batch": 1.0} and mean == 0
    # Dropout dominates the coefficient over all pairs.
    assert stats.kendalltau(measure, error).statistic < -0.3
    # A tie in one of the two groups counts zero.
    assert granulated([1, 1, 11, 12], error, columns)[1]["batch"] == 0.5
    # An axis without variation has no coefficient and is left out of the mean.
    mean, parts = granulated([1, 2], [1, 2], {"lr": [1, 2], "batch": [8, 8]})
    assert mean == 1 and np.isnan(parts["batch"])
    assert np.isnan(granulated([1, 2], [1, 2], {"batch": [8, 8]})[0])


def literal_granulated(mu, g, grid):
    """J19's definition as printed, on a complete grid: nested sums over all values."""
    value_of = {point: (mu[i], g[i]) for i, point in enumerate(grid)}
    axes = [sorted({point[i] for point in grid}, key=str) for i in range(len(grid[0]))]
    psi = []
    for i, axis in enumerate(axes):
        taus = []
        for rest in itertools.product(*(a for j, a in enumerate(axes) if j != i)):
            group = [value_of[(*rest[:i], value, *rest[i:])] for value in axis]
            total = 0
            for first in group:
                for second in group:
                    if first is not second:
                        total += np.sign(first[0] - second[0]) * np.sign(first[1] - second[1])
            taus.append(total / (len(group) * (len(group) - 1)))
        psi.append(np.mean(taus))
    return np.mean(psi), psi


def test_granulated_coefficient_against_a_literal_twin():
    rng = np.random.default_rng(2)
    mu, g = rng.integers(0, 12, len(GRID)), rng.normal(size=len(GRID))
    mean, parts = granulated(mu, g, COLUMNS)
    expected, psi = literal_granulated(mu, g, GRID)
    assert mean == pytest.approx(expected) and [*parts.values()] == pytest.approx(psi)
    rows = report({"m": mu}, {"gap": g, "test": -g}, COLUMNS, resamples=50)
    means = [row["correlation"] for row in rows if row["kind"] == "granulated kendall"]
    assert means == pytest.approx([expected, -expected])
    along = next(row for row in rows if row["kind"] == "kendall along kind")
    assert along["correlation"] == pytest.approx(psi[1]) and np.isnan(along["p_value"])


def test_limits_of_the_granulated_coefficient_are_from_resampled_networks():
    rng = np.random.default_rng(3)
    mu = rng.normal(size=len(GRID))
    g = mu + 0.5 * rng.normal(size=len(GRID))
    rows = report({"m": mu}, {"gap": g}, COLUMNS, resamples=300, seed=5)
    found = next(row for row in rows if row["kind"] == "granulated kendall")
    counts = np.random.default_rng(5).multinomial(len(mu), np.full(len(mu), 1 / len(mu)), 300)
    means = []
    for row in counts:
        drawn = np.repeat(np.arange(len(mu)), row)
        means.append(granulated(mu[drawn], g[drawn], pd.DataFrame(COLUMNS).iloc[drawn])[0])
    assert [found["low"], found["high"]] == pytest.approx(np.quantile(means, [0.025, 0.975]))
    assert found["low"] < found["correlation"] < found["high"]


def test_seeds_of_equal_settings_are_not_compared():
    """With two seeds of each of two settings, only the four pairs across settings count."""
    columns = {"batch": [8, 8, 32, 32]}
    mean, _ = granulated([1, 2, 3, 4], [2, 1, 4, 3], columns)
    assert mean == 1


def test_networks_that_lack_a_quantity_are_left_out():
    x = np.arange(8.0)
    y = np.where(x == 3, np.nan, x)
    hyper = {"lr": [0.1 * (i % 2) for i in range(8)]}
    rows = report({"m": x}, {"gap": y}, hyper, resamples=20)
    assert {row["n"] for row in rows} == {7} and rows[1]["correlation"] == pytest.approx(1)
    short = report({"m": x[:4]}, {"gap": x[:4]})
    assert all(np.isnan(row["correlation"]) and np.isnan(row["p_value"]) for row in short)
    with pytest.raises(ValueError, match="measures is empty"):
        report({}, {"gap": x})
