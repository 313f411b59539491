"""The table of variations: what varies, and that it resumes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from committee import PROTOCOLS, sensitivity
from committee.sensitivity import SensitivityConfig, Variation, run, variations


def test_every_open_point_is_varied():
    changes = {(v.protocol.name, v.change) for v in variations()}
    assert len(changes) == len(variations())
    assert ("rsgd-slow", "elastic_scale 1") in changes
    assert ("sgd-fast", "mean of the loss") in changes
    assert ("esgd", "averaging 0.9") in changes
    assert all((name, "balanced patterns") in changes for name in PROTOCOLS)


def test_rows_are_stored_and_not_computed_twice(tmp_path, monkeypatch):
    fast = replace(PROTOCOLS["sgd-fast"], max_epochs=300)
    rows = [Variation("as in Figure 1", fast), Variation("another draw", fast, draw=1)]
    monkeypatch.setattr(sensitivity, "variations", lambda: rows)
    config = SensitivityConfig(out=tmp_path, restarts=2, data="hidden-manifold", size=60, workers=1)
    first = run(config)
    assert first[0]["test_error"] != first[1]["test_error"]
    assert 0 <= first[0]["with_errors"] <= 2 and first[0]["restarts"] == 2
    monkeypatch.setattr(sensitivity, "measure_one", None)  # nothing is left to compute
    assert run(config) == first
    assert len((tmp_path / "sensitivity.csv").read_text().splitlines()) == 3
    with pytest.raises(ValueError, match="made with other settings"):
        run(replace(config, restarts=3))
