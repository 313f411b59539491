"""The local-entropy benchmark on a small network."""

import pandas as pd
import pytest

from deep.__main__ import main


@pytest.mark.filterwarnings("ignore:engine slices did not converge")
def test_tables_and_figure_are_written(tmp_path, capsys):
    options = (
        "--weights 16000 --images 80 --variances 0.001 0.002 --draws 64 --chains 4 --repeats 2"
    )
    main(["local-entropy-benchmark", *options.split(), "--out", str(tmp_path)])
    evaluations = pd.read_csv(tmp_path / "evaluations.csv")
    assert len(evaluations) == 5 * 4 and (evaluations["milliseconds"] > 0).all()
    assert abs(evaluations["weights"].max() / 16000 - 1) < 0.1
    curve = pd.read_csv(tmp_path / "curve.csv")
    assert curve["seconds"].is_monotonic_increasing and len(curve) == 2
    assert (tmp_path / "benchmark.png").exists()
    shown = capsys.readouterr().out
    assert "processor" in shown and "| weights" in shown.replace("|   weights", "| weights")
