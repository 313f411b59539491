"""The table of variations: its rows and resuming."""

from __future__ import annotations

from dataclasses import replace

import pytest

from committee import sensitivity
from committee.algorithms import PUBLISHED
from committee.sensitivity import SensitivityConfig, Variation, run, variations


def test_every_open_point_is_varied():
    changes = {(v.algorithm.name, v.change) for v in variations()}
    assert len(changes) == len(variations())
    assert ("sgd-fast", "mean of the loss") in changes
    assert ("esgd", "averaging 0.9") in changes
    assert all((name, "balanced patterns") in changes for name in ("sgd-fast", "esgd"))


def test_rows_are_stored_and_not_computed_twice(tmp_path, monkeypatch):
    fast = replace(PUBLISHED["sgd-fast"], max_epochs=300)
    rows = [Variation("as in Figure 1", fast), Variation("another draw", fast, draw=1)]
    monkeypatch.setattr(sensitivity, "variations", lambda: rows)
    config = SensitivityConfig(out=tmp_path, restarts=2, data="hidden-manifold", size=60, workers=1)
    first = run(config)
    assert first["test_error"].nunique() == 2
    assert first["with_errors"].between(0, 2).all() and first["n"].tolist() == [2, 2]
    monkeypatch.setattr(sensitivity, "measure_one", None)  # nothing is left to compute
    assert run(config).equals(first)
    assert len((tmp_path / "sensitivity.csv").read_text().splitlines()) == 3
    with pytest.raises(ValueError, match="restarts is 2 there and 3 here"):
        run(replace(config, restarts=3))
