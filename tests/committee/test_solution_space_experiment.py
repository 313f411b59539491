"""The range of flatness: units of work, resuming, statements, figure, command."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from committee import rounds
from committee.__main__ import main
from committee.algorithms import CONTROLS, PUBLISHED
from committee.experiments import run_experiment
from committee.solution_space import experiment
from committee.solution_space.experiment import FlatnessRangeConfig, all_families, compute
from committee.solution_space.figures import plot_conditions, plot_flatness_range
from committee.solution_space.statements import family_means, statements
from message_passing.tools.files import read_table

FAMILIES = ("sgd-fast", "dropout 0.1", "weight-noise 1", "typical")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("range")
    config = FlatnessRangeConfig(
        out=out, draws=2, restarts=1, data="teacher", size=12, hidden_units=1,
        families=FAMILIES, workers=1,
    )  # fmt: skip
    return config, compute(config)


def test_every_family_of_every_draw_is_measured(finished):
    _, table = finished
    assert set(table["family"]) == {"sgd-fast", "dropout-0.1", "weight-noise-1", "typical"}
    counts = table.groupby(["draw", "family"]).size().unstack()
    assert counts["typical"].tolist() == [1, 1] and counts["sgd-fast"].tolist() == [1, 1]
    assert np.all(table["local_entropy"] <= 0)
    assert np.all(table.loc[table["family"] == "typical", "train_error"] == 0)
    energy = table.groupby("family")["local_energy_1"].mean()
    assert energy["weight-noise-1"] < 0.1 * min(energy["sgd-fast"], energy["typical"])
    # Typical machines of one draw share the test error of their sample.
    assert table[table["family"] == "typical"].groupby("draw")["test_error"].nunique().max() == 1


def test_what_is_there_is_not_computed_again(finished, monkeypatch):
    config, table = finished
    monkeypatch.setattr(experiment, "measure_family", None)
    draws = []
    pd.testing.assert_frame_equal(compute(config, on_draw=draws.append), table)
    assert len(draws) == 2  # a table after each draw


def test_other_settings_are_refused(finished):
    config, _ = finished
    with pytest.raises(ValueError, match="size is 12 there and 13 here"):
        compute(FlatnessRangeConfig(**{**vars(config), "size": 13}))


def test_auto_is_resolved_and_another_data_set_refused(tmp_path, monkeypatch):
    config = FlatnessRangeConfig(
        out=tmp_path, draws=1, restarts=1, data="hidden-manifold", size=12, hidden_units=1,
        families=("weight-noise 1",), workers=1,
    )  # fmt: skip
    table = compute(config)
    load, found = experiment.load_patterns, ["hidden-manifold", "random"]

    def auto(name, *rest, **options):
        return load(found[0] if name == "auto" else name, *rest, **options)

    monkeypatch.setattr(experiment, "load_patterns", auto)
    pd.testing.assert_frame_equal(compute(replace(config, data="auto")), table)
    found.pop(0)
    with pytest.raises(ValueError, match="data is 'hidden-manifold' there and 'random' here"):
        compute(replace(config, data="auto"))


def made_up(turn=-2.0, draws=4, size=500):
    """Test errors on a parabola in log10 δE(1) with the minimum at ``turn``; Φ_LE is −δE(1)."""
    rng = np.random.default_rng(0)
    names = ["typical", *PUBLISHED, "dropout-0.1", "weight-noise-1", "entropy-ascent Δ=1"]
    places = np.linspace(0.0, -4.0, len(names))
    rows = []
    for draw in range(draws):
        shift = 0.01 * rng.normal()
        for name, x in zip(names, places + shift, strict=True):
            for restart in range(3):
                rows.append(
                    {
                        "data": "teacher", "size": size,
                        "classes": "Dress, Coat", "balanced": False,
                        "draw": draw, "family": name, "restart": restart, "train_error": 0.0,
                        "test_error": 0.05 + 0.004 * (x - turn) ** 2,
                        "local_energy_1": 10**x, "local_entropy": -(10**x),
                    }
                )  # fmt: skip
    # A machine with errors does not count.
    return pd.DataFrame([*rows, {**rows[0], "train_error": 0.1, "test_error": 1.0}])


def test_statements_find_the_turn_and_the_signs():
    found = statements(made_up()).set_index(["measure", "quantity"])
    for measure in ("local_energy_1", "local_entropy"):
        turn = found.loc[(measure, "turning point (log10)")]
        assert turn["mean"] == pytest.approx(-2.0, abs=1e-3) and turn["draws"] == 4
        assert turn["low"] <= turn["mean"] <= turn["high"]
        assert found.loc[(measure, "correlation, towards the flattest"), "mean"] < -0.9
    # Another condition in the same table changes nothing.
    both = statements(pd.concat([made_up(), made_up(turn=-3.0, size=100)]))
    kept = both[both["size"] == 500].set_index(["measure", "quantity"])
    pd.testing.assert_frame_equal(kept, found)
    straight = statements(made_up(turn=-9.0)).set_index(["measure", "quantity"])
    assert straight.loc[("local_entropy", "correlation, typical to trained"), "mean"] == 1
    assert straight.loc[("local_entropy", "turning point (log10)"), "draws"] == 0


def test_means_count_machines_without_errors():
    means = family_means(made_up())
    assert np.all(means["n"] == 3)


def test_figure_has_a_line_for_each_draw_and_both_measures():
    figure = plot_flatness_range(made_up())
    assert len(figure.axes) == 2
    for ax in figure.axes:
        assert ax.get_xscale() == "log"
        assert sum(line.get_color() == "0.8" for line in ax.lines) == 4
        assert sum(line.get_color() == "black" for line in ax.lines) == 1
        (band,) = ax.patches
        edges = band.get_extents().transformed(ax.transData.inverted()).intervalx
        np.testing.assert_allclose(edges, 0.01, rtol=1e-3)  # the turning point


def test_figure_has_a_panel_for_each_condition():
    sizes = (100, 250, 500, 1000, 2000)
    figure = plot_conditions(pd.concat([made_up(size=size) for size in sizes]))
    assert [ax.get_title() for ax in figure.axes] == [f"Dress, Coat, P = {P}" for P in sizes]
    with pytest.raises(ValueError, match="machines have 2 conditions; one was expected"):
        plot_flatness_range(pd.concat([made_up(), made_up(size=100)]))


def test_families_are_those_of_the_plan():
    names = all_families()
    assert names[:5] == list(PUBLISHED) and {*CONTROLS} < {*names}
    assert sum(name.startswith("weight-noise ") for name in names) == 5


def command(out, draws, *more):
    return [
        "flatness-range", "--out", str(out), "--draws", str(draws), "--restarts", "1",
        "--data", "teacher", "--hidden-units", "1", "--workers", "1", *more,
    ]  # fmt: skip


def test_command(finished, capsys, tmp_path):
    config, _ = finished
    families = ["--families", *FAMILIES]
    main(command(config.out, 2, "--size", "12", *families))
    printed = capsys.readouterr().out
    assert "Data: " in printed and "turning point" in printed
    for name in ("machines.csv", "statements.csv", "figure.pdf", "figure.png"):
        assert (config.out / name).exists()
    # More draws in the same folder give the tables of one run.
    extended = tmp_path / "extended"
    main(command(extended, 1, "--size", "12", *families))
    main(command(extended, 2, "--size", "12", *families))
    for name in ("machines.csv", "statements.csv"):
        assert (extended / name).read_text() == (config.out / name).read_text()
    # Another condition joins the tables.
    families = ["--families", "sgd-fast", "weight-noise 1"]
    main(command(tmp_path / "other", 1, "--size", "10", *families, "--also", str(config.out)))
    table = read_table(tmp_path / "other" / "machines.csv")
    assert table["size"].value_counts().to_dict() == {12: 8, 10: 2}
    assert (tmp_path / "other" / "conditions.png").exists()


def test_machines_of_a_finished_figure_are_not_trained_again(tmp_path, monkeypatch):
    config = FlatnessRangeConfig(
        out=tmp_path / "range", draws=1, restarts=1, data="hidden-manifold", size=40,
        hidden_units=3, families=("sgd-fast", "sgd-slow"), workers=1,
    )  # fmt: skip
    (figure,) = config.figures(draws=1)
    figure = replace(figure, out=tmp_path / "figure1", engines=("bp", "mc"))
    table = run_experiment(figure).to_frame()
    (tmp_path / "range").mkdir()
    (tmp_path / "range" / "figure1").symlink_to(tmp_path / "figure1", target_is_directory=True)
    monkeypatch.setattr(rounds, "train_and_profile", None)
    found = compute(config)
    assert found["family"].tolist() == ["sgd-fast", "sgd-slow"]
    for mine, theirs in (("local_entropy", "local_entropy_mc_0.3"), ("test_error", "test_error")):
        np.testing.assert_array_equal(found[mine], table[theirs])
    assert np.all(found["local_entropy_standard_error"] > 0)
    other = replace(config, out=tmp_path / "other", seed=1)
    other.out.mkdir()
    (other.out / "figure1").symlink_to(tmp_path / "figure1", target_is_directory=True)
    with pytest.raises(ValueError, match="figure1 holds results of other settings: seed is 0 the"):
        compute(other)
    assert not (other.out / "config.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"draws": 0}, "draws is 0"),
        ({"hidden_units": 2}, "hidden_units is 2"),
        ({"families": ("none",)}, "families contains 'none'"),
    ],
)
def test_impossible_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        FlatnessRangeConfig(**changes)
