"""The decision about the elastic term: readings, criteria, resuming."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from committee import elastic_term, variations
from committee.elastic_term import ElasticTermConfig, compute, decide, judge, readings


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return ElasticTermConfig(
        out=tmp_path_factory.mktemp("elastic"),
        draws=1,
        restarts=1,
        data="hidden-manifold",
        size=20,
        hidden_units=3,
        max_epochs=20,
        workers=1,
    )


def test_every_reading_trains_as_far_as_its_step_is_stable():
    found = readings()
    assert len(found) == 1 + 2 * len(elastic_term.READINGS)
    for _, algorithm in found:
        if algorithm.name != elastic_term.REFERENCE:
            kick = algorithm.lr * algorithm.elastic_scale * algorithm.gamma(algorithm.max_epochs)
            assert kick > 1 or algorithm.max_epochs == elastic_term.MOST_EPOCHS


def test_runs_are_paired_and_computed_once(config, monkeypatch):
    runs = compute(config)
    assert len(runs) == 2 * len(readings())
    assert (runs["epochs"] <= 20).all() and "test_error" not in runs
    monkeypatch.setattr(variations, "measure_run", None)
    pd.testing.assert_frame_equal(compute(config), runs)
    with pytest.raises(ValueError, match="size is 20 there and 30 here"):
        compute(replace(config, size=30))


def made_up(**columns):
    """Two draws of the reference and of two readings of one algorithm, not balanced."""
    rows = []
    for reading, name in (("", "sgd-slow"), ("a", "rsgd-fast"), ("b", "rsgd-fast")):
        for draw in (0, 1):
            row = {"reading": reading, "algorithm": name, "balanced": False, "draw": draw}
            row |= {"met": True, "training_errors": draw, "local_entropy": -1.0}
            rows.append(row | columns.get(reading, {}))
    return pd.DataFrame(rows)


def test_flattest_of_the_acceptable_readings_is_taken():
    assert decide(judge(made_up(a={"local_entropy": -0.5}))) == ("a", True)
    assert decide(judge(made_up(a={"local_entropy": -2.0}))) == ("b", True)
    assert decide(judge(made_up(a={"local_entropy": -0.5, "met": False}))) == ("b", True)
    errors = {"local_entropy": -0.5, "training_errors": 1}
    assert decide(judge(made_up(a=errors))) == ("b", True)


def test_without_acceptable_readings_errors_decide():
    judged = judge(made_up(a={"training_errors": 3}, b={"training_errors": 2}))
    assert decide(judged) == ("b", False)
    assert np.allclose(judged["excess_errors"], [2.5, 1.5])
    assert np.allclose(judged["excess_errors_standard_error"], 0.5)


def test_command_writes_its_tables(config, capsys):
    elastic_term.run(config)
    assert "No reading meets the criteria" in capsys.readouterr().out
    assert len(pd.read_csv(config.out / "criteria.csv")) == 4 * len(elastic_term.READINGS)


def test_impossible_settings():
    with pytest.raises(ValueError, match="draws is 0"):
        ElasticTermConfig(draws=0)
