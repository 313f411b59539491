"""The benchmark of the local entropy, on a small network."""

import pandas as pd
import pytest

from deep.local_entropy_benchmark import LocalEntropyBenchmark, show


@pytest.mark.filterwarnings("ignore:engine slices did not converge")
def test_tables_are_written(tmp_path, capsys):
    config = LocalEntropyBenchmark(
        weights=16000, images=80, variances=(0.001, 0.002), draws=64, chains=4, repeats=2,
        out=tmp_path,
    )  # fmt: skip
    show(config)
    evaluations = pd.read_csv(tmp_path / "evaluations.csv")
    assert len(evaluations) == 5 * 4 and (evaluations["milliseconds"] > 0).all()
    assert abs(evaluations["weights"].max() / 16000 - 1) < 0.1
    curve = pd.read_csv(tmp_path / "curve.csv")
    assert curve["seconds"].is_monotonic_increasing and len(curve) == 2
    shown = capsys.readouterr().out
    assert "processor" in shown and "| weights" in shown.replace("|   weights", "| weights")
