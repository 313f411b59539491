"""Comparisons over draws: against scipy, by hand; what is left out; deviations of engines."""

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
    deviations,
    disagreements,
    holm,
    planned_pairs,
)
from committee.tables import deviation_table, disagreement_table, write_tables
from message_passing.tools.files import read_table
from tests.committee.made_up_results import TWO, algorithm, curve, figure1, results, runs_of


def drawn(seed: int, draws: int, restarts: int, **shifts: float) -> pd.DataFrame:
    """Runs whose draws shift all algorithms jointly. Each algorithm also has its own shift."""
    rng = np.random.default_rng(seed)
    together = np.repeat(rng.normal(size=draws), restarts)
    parts = []
    for name, shift in shifts.items():
        own = 0.6 * np.repeat(rng.normal(size=draws), restarts)
        values = 10 + together + own + shift + 0.3 * rng.normal(size=(2, draws * restarts))
        parts.append(runs_of(name, draws, *values))
    return pd.concat(parts, ignore_index=True)


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


def test_planned_pairs() -> None:
    pairs = planned_pairs(figure1(1, 1).algorithms)
    assert len(pairs) == 11 and ("esgd", "control-esgd-sgd") in pairs
    assert [reference for _, reference in pairs].count("sgd-slow") == 3
    assert planned_pairs(["sgd-slow", "rsgd-fast", "esgd"]) == [
        ("rsgd-fast", "sgd-slow"),
        ("esgd", "sgd-slow"),
    ]
    dropout = ["dropout 0", "dropout 0.1", "dropout 0.2"]  # no planned pair: against the first
    assert planned_pairs(dropout) == [(dropout[1], dropout[0]), (dropout[2], dropout[0])]
    assert planned_pairs(["sgd-fast"]) == []


def test_comparisons_equal_scipys_paired_test_over_draws() -> None:
    runs = drawn(0, 6, 4, b=0.0, a=0.5, c=0.0)
    runs.loc[24, "test_error"] = np.nan  # draw 0, restart 0 of a
    runs.loc[5, ["collapsed", "test_error"]] = True, 99.0  # draw 1, restart 1 of b
    rows = compare_algorithms(runs)
    first = rows.iloc[0]
    assert (first["first"], first["second"], first["unit"]) == ("a", "b", "draw")
    assert (first["quantity"], first["n"], first["runs"]) == ("test_error", 6, 22)

    wide = runs.pivot(index=["draw", "restart"], columns="algorithm", values="test_error")
    a, b = wide[["a", "b"]].drop(index=[(0, 0), (1, 1)]).groupby("draw").mean().to_numpy().T
    test = stats.ttest_rel(a, b)
    assert first["p_value"] == pytest.approx(test.pvalue)
    assert first["t"] == pytest.approx(test.statistic)
    np.testing.assert_allclose(first[["low", "high"]].tolist(), test.confidence_interval())
    assert first["difference"] == pytest.approx(np.mean(a - b))
    assert first["difference_standard_error"] == pytest.approx(stats.sem(a - b))
    assert first["share"] == pytest.approx(np.mean(a - b) / b.mean())
    assert first["effect_size"] == pytest.approx(np.mean(a - b) / np.std(a - b, ddof=1))
    for _, family in rows.groupby("quantity"):
        np.testing.assert_allclose(family["p_holm"], holm(family["p_value"].tolist()))
    assert rows["quantity"].tolist() == ["test_error"] * 2 + ["local_energy_1"] * 2
    assert rows["runs"].tolist() == [22, 23, 23, 23]


def test_comparisons_are_seldom_significant_without_a_difference() -> None:
    hits = {"draws": 0, "restarts": 0}
    for seed in range(200):
        runs = drawn(seed, 5, 3, a=0.0, b=0.0)
        hits["draws"] += compare_algorithms(runs, measures=["test_error"])["p_holm"][0] < 0.05
        a, b = runs["test_error"].to_numpy().reshape(2, -1)
        hits["restarts"] += stats.ttest_rel(a, b).pvalue < 0.05
    assert 1 <= hits["draws"] <= 19  # 10 expected, standard deviation 3
    assert hits["restarts"] > 40  # restarts as the unit give false positives


def test_intervals_of_effect_sizes_cover_the_true_one() -> None:
    restarts, shift, covered = 3, 1.5, 0
    true = shift / np.sqrt(2 * (0.6**2 + 0.3**2 / restarts))
    for seed in range(200):
        runs = drawn(seed, 6, restarts, b=0.0, a=shift)
        row = compare_algorithms(runs, measures=["test_error"]).iloc[0]
        covered += row["effect_size_low"] < true < row["effect_size_high"]
    assert 180 <= covered <= 199  # 190 expected, standard deviation 3


def test_one_draw_has_errors_over_restarts_and_no_test() -> None:
    runs = drawn(1, 1, 8, b=0.0, a=0.5)
    row = compare_algorithms(runs).iloc[0]
    assert (row["unit"], row["n"], row["runs"]) == ("restart", 8, 8)
    b, a = runs["test_error"].to_numpy().reshape(2, -1)
    assert row["difference_standard_error"] == pytest.approx(stats.sem(a - b))
    assert row["low"] < row["difference"] < row["high"]
    assert np.isnan(row["p_value"]) and np.isnan(row["p_holm"])


def test_pairs_with_little_in_common() -> None:
    runs = drawn(2, 3, 2, b=0.0, a=0.0)
    same = runs.assign(test_error=1.0)
    row = compare_algorithms(same).iloc[0]
    assert row["difference"] == 0 and row["p_value"] == 1
    one = compare_algorithms(runs.drop(index=range(2, 6))).iloc[0]  # b keeps only draw 0
    assert (one["unit"], one["n"], one["runs"]) == ("draw", 1, 2)
    assert np.isfinite(one["difference"]) and np.isnan(one["low"]) and np.isnan(one["p_value"])
    lost = compare_algorithms(runs.assign(collapsed=runs["algorithm"] == "a")).iloc[0]
    assert lost["n"] == 0 and np.isnan(lost["difference"])


def test_disagreements_of_the_two_measures_of_flatness() -> None:
    """rsgd-slow has a higher Φ_LE than sgd-slow, and also a higher δE."""
    rng = np.random.default_rng(3)
    noise = np.exp(0.05 * rng.normal(size=(3, 2, 8)))
    made = {"sgd-slow": (0.02, -0.004), "rsgd-slow": (0.05, -0.001), "esgd": (0.01, -0.0005)}
    found = results(
        *(
            algorithm(name, [0.05] * 8, (energy * x).tolist(), (slope * y).tolist(), draws=4)
            for (name, (energy, slope)), (x, y) in zip(made.items(), noise, strict=True)
        )
    )
    table = disagreements(found.to_frame())
    assert len(table) == 1
    row = table.iloc[0]
    assert (row["first"], row["second"], row["engine"]) == ("rsgd-slow", "sgd-slow", "bp")
    assert (row["by_local_energy"], row["by_local_entropy"]) == ("sgd-slow", "rsgd-slow")
    assert (row["unit"], row["n"], row["runs"]) == ("draw", 4, 8)
    assert row["t_local_energy"] > 2 and row["t_local_entropy"] > 2
    pair = compare_algorithms(found.to_frame(), [("rsgd-slow", "sgd-slow")], ["local_energy_1"])
    assert row["difference_local_energy"] == pair["difference"].iloc[0]
    cells = [cell.strip() for cell in disagreement_table(table).splitlines()[-1].split("|")]
    assert cells[1:6] == ["rsgd-slow", "sgd-slow", "bp", "draw", "4"]
    assert cells[6].startswith("sgd-slow (t = +") and cells[7].startswith("rsgd-slow (t = +")
    assert disagreements(TWO.to_frame()).empty


# Deviations from Monte Carlo

EXACT = [-0.001, -0.003]
ESTIMATE = [-0.0012, -0.0034]


def engine_by_engine(mc: dict, ep: dict):
    runs = algorithm("sharp", [0.1, 0.1], [0.1, 0.1], EXACT, engines=())
    curves = {"mc": mc, "ep": ep}
    of_draw_0 = {e: {(0, restart): c for restart, c in own.items()} for e, own in curves.items()}
    return results(replace(runs, curves=of_draw_0))


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


def test_deviations_over_draws_without_collapsed_runs() -> None:
    slopes = {
        "mc": [-1.0, -1.0, -2.0, -2.0, -3.0, -3.0],
        "ep": [-1.1, -1.3, -2.2, -2.0, -3.3, -9.0],
    }
    made = algorithm("a", [0.1] * 6, [0.1] * 6, [0.0] * 6, engines=(), draws=3)
    numbers = [*zip(made.runs["draw"], made.runs["restart"], strict=True)]
    curves = {
        engine: {run: curve(s, engine=engine) for run, s in zip(numbers, own, strict=True)}
        for engine, own in slopes.items()
    }
    runs = made.runs.assign(collapsed=np.arange(6) == 5)
    row = deviations(results(replace(made, runs=runs, curves=curves))).iloc[-1]
    assert (row["unit"], row["n"], row["deviation"]) == ("draw", 5, pytest.approx(0.1))
    # Σ(Φ − 1.1 Φ_mc) of the draws is −0.2, 0.2, 0 times √0.3; ΣΦ_mc is −9.
    assert row["deviation_standard_error"] == pytest.approx(np.sqrt(3) * 0.2 / 9)


def test_without_monte_carlo_there_is_no_table(tmp_path: Path) -> None:
    assert deviations(TWO).empty and "deviations" not in write_tables(TWO, tmp_path)
    assert not (tmp_path / "deviations.csv").exists()
