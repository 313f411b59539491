"""``python -m committee perceptron``: compute missing results, write tables and the figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from committee.perceptron.experiment import PerceptronConfig, compute
from committee.perceptron.extrapolation import root_mean_square, summarise
from committee.perceptron.figure import plot_perceptron
from message_passing.tools.files import save_figure, write_table
from message_passing.tools.tables import to_markdown

if TYPE_CHECKING:
    import pandas as pd


def run(config: PerceptronConfig) -> list[Path]:
    """Write theory, instances, CSV tables and the figure to ``config.out``; print a summary."""
    results = compute(config, progress=True)
    summary = summarise(results)
    tables = {"theory": results["theory"], "instances": results["instances"], "summary": summary}
    for name, table in tables.items():
        write_table(config.out / f"{name}.csv", table)
    figures = save_figure(plot_perceptron(results, summary, config), config.out / "figure")
    print(to_markdown(_closing_table(summary)))
    for engine in ("mc", "ep", "bp"):
        found, expected, count = root_mean_square(summary, engine)
        print(
            f"{engine}: RMS difference from the theory at infinite N {found:.2g} per weight over "
            f"{count} points; standard errors alone make {expected:.2g}"
        )
    print(f"Written: {', '.join(map(str, figures))} and tables in {config.out}")
    return figures


def _closing_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Monte Carlo extrapolated to infinite N, compared with the theory."""
    rows = summary[(summary["N"] == "infinity") & (summary["engine"] == "mc")].dropna()
    table = rows[["labels", "name", "kappa", "distance", "theory"]].copy()
    table["mc − theory, ×10⁻⁴"] = [
        f"{1e4 * value:.1f} ± {1e4 * error:.1f}"
        for value, error in zip(rows["deviation"], rows["deviation_standard_error"], strict=True)
    ]
    return table.round(5)
