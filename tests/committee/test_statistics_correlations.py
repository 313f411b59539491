"""Correlations: against scipy and a slow twin; coverage on nested Gaussians; what is left out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from committee.correlations import (
    ALL,
    bootstrap_interval,
    correlate,
    correlation_with_interval,
    weighted_correlation,
)
from tests.committee.made_up_results import nested, runs_of
from tests.reference.hierarchical_bootstrap import limits

SCIPY = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}


@pytest.mark.parametrize("kind", SCIPY)
def test_counts_are_repeated_runs(kind: str) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, 30) / 6, rng.normal(size=30).round(1)  # with ties
    counts = rng.integers(0, 4, size=(5, 30))
    found = weighted_correlation(kind, counts.astype(float), x, y)
    for value, count in zip(found, counts, strict=True):
        expected = SCIPY[kind](np.repeat(x, count), np.repeat(y, count)).statistic
        assert value == pytest.approx(expected)


@pytest.mark.parametrize("kind", SCIPY)
def test_interval_equals_the_slow_twins(kind: str) -> None:
    x, y, draw = nested(np.random.default_rng(1), 6, 5)
    value, low, high = bootstrap_interval(kind, x, y, draw, resamples=8000)
    assert value == pytest.approx(SCIPY[kind](x, y).statistic)
    table = pd.DataFrame({"x": x, "y": y, "draw": draw})
    expected = limits(table, kind, 300, np.random.default_rng(2))
    np.testing.assert_allclose([low, high], expected, atol=0.05)


@pytest.mark.parametrize("between", [0.0, 1.0, 3.0])
def test_intervals_cover_the_correlation_of_nested_gaussians(between: float) -> None:
    """Draws do not scatter, scatter like restarts, or scatter three times as much."""
    rng = np.random.default_rng(3)
    truth = (0.5 * between**2 + 0.2) / (between**2 + 1)
    covered = 0
    for seed in range(200):
        x, y, draw = nested(rng, 10, 5, between, 0.5, 0.2)
        _, low, high = bootstrap_interval("pearson", x, y, draw, resamples=300, seed=seed)
        covered += low < truth < high
    assert 181 <= covered <= 199  # 190 expected, standard deviation 3

    # Where draws scatter, treating runs as independent gives intervals that are too narrow.
    if between == 3:
        x, y, draw = nested(rng, 10, 5, between, 0.5, 0.2)
        _, low, high = bootstrap_interval("pearson", x, y, draw)
        _, low_runs, high_runs = bootstrap_interval("pearson", x, y, np.arange(50))
        assert high_runs - low_runs < 0.7 * (high - low)


def test_standardised_correlations_are_within_algorithms_and_draws() -> None:
    """Error and δE are anticorrelated only inside each of two algorithms and four draws."""
    rng = np.random.default_rng(4)
    parts = []
    for i, (name, size) in enumerate({"a": 1.0, "b": 0.1}.items()):
        x, y, _ = nested(rng, 4, 10, 0.0, 0.0, -0.9)
        shift = 5 * i + 3 * np.repeat(np.arange(4), 10)
        parts.append(runs_of(name, 4, size * x + shift, size * y + shift))
    runs = pd.concat(parts, ignore_index=True)
    table = correlate(runs, resamples=200)
    rows = table[table["kind"] == "pearson"].set_index(["scope", "values"])
    assert (rows["first"] == "test_error").all() and (rows["second"] == "local_energy_1").all()
    assert rows.loc[(ALL, "as measured"), "low"] > 0.8
    for scope, n in ((ALL, 80), ("a", 40), ("b", 40)):
        row = rows.loc[(scope, "standardised")]
        assert row["high"] < -0.4 and (row["n"], row["draws"], row["unit"]) == (n, 4, "draw")
    share = rows["second_share"].xs("standardised", level="values")
    centred = runs["local_energy_1"] - runs.groupby(["algorithm", "draw"])[
        "local_energy_1"
    ].transform("mean")
    of_a = (centred[:40] ** 2).sum() / (centred**2).sum()
    assert share["a"] == pytest.approx(of_a) and of_a > 0.95
    assert share["a"] + share["b"] == pytest.approx(1.0) == share[ALL]

    # By hand: the groups have equal sizes, so their coefficients are averaged.
    groups = runs.groupby(["algorithm", "draw"])
    mean = np.mean([g["test_error"].corr(g["local_energy_1"]) for _, g in groups])
    assert rows.loc[(ALL, "standardised"), "correlation"] == pytest.approx(mean)


def test_collapsed_runs_and_missing_values_are_left_out() -> None:
    x, y, _ = nested(np.random.default_rng(5), 3, 5)
    runs = runs_of("a", 3, x, y)
    clean = correlate(runs.drop(index=[0, 7]), resamples=100)
    runs.loc[0, ["collapsed", "test_error"]] = True, 50.0
    runs.loc[7, "local_energy_1"] = np.nan
    pd.testing.assert_frame_equal(correlate(runs, resamples=100), clean)
    assert clean.loc[0, "n"] == 13


def test_one_draw_falls_back_to_restarts() -> None:
    x, y, _ = nested(np.random.default_rng(6), 1, 40, 0.0, 0.0, 0.6)
    rows = correlate(runs_of("a", 1, x, y), resamples=500)
    assert (rows["unit"] == "restart").all() and (rows["draws"] == 1).all()
    row = rows.iloc[0]
    fisher = stats.pearsonr(x, y).confidence_interval()
    np.testing.assert_allclose([row["low"], row["high"]], fisher, atol=0.12)


def test_too_little_to_correlate() -> None:
    four = correlate(runs_of("a", 2, np.arange(4.0), np.arange(4.0)))
    assert four["correlation"].isna().all() and four["n"].iloc[0] == 4
    constant = correlate(runs_of("a", 2, np.arange(10.0), np.ones(10)))
    assert constant["low"].isna().all()
    value, *ends = bootstrap_interval("pearson", *nested(np.random.default_rng(7), 1, 9))
    assert np.isfinite(value) and np.isnan(ends).all()  # a single unit


def test_intervals_of_independent_runs_cover_the_correlation() -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for seed in range(200):
        x, noise = rng.normal(size=(2, 50))
        y = 0.6 * x + 0.8 * noise  # correlation 0.6
        _, low, high = correlation_with_interval("pearson", x, y, resamples=500, seed=seed)
        covered += low < 0.6 < high
    assert 180 <= covered <= 199  # 190 expected, standard deviation 3
