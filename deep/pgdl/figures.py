"""Figure 7 of [P21], from measured rows only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats


def plot_figure7(rows: Sequence[Mapping[str, Any]], ax: Axes | None = None) -> Axes:
    """δE(σ) against the test error; bars are one standard deviation over the noise vectors."""
    if ax is None:
        ax = Figure(figsize=(5, 3.6), layout="constrained").subplots()
    ax.errorbar(
        [row["test_error"] for row in rows],
        [row["local_energy"] for row in rows],
        [row["standard_deviation"] for row in rows],
        fmt="o", capsize=2,
    )  # fmt: skip
    ax.set_xlabel("test error")
    ax.set_ylabel(f"train error difference δE(σ = {rows[0]['sigma']:g})")
    bars = f"bars: standard deviation over {rows[0]['samples']} noise vectors"
    ax.set_title(f"{pearson_in_words(rows)}\n{bars}", fontsize="small")
    return ax


def pearson_in_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """Pearson's r of local energy and test error with its n − 2 degrees of freedom, and p."""
    r, p_value = stats.pearsonr(
        [row["local_energy"] for row in rows], [row["test_error"] for row in rows]
    )
    return f"r({len(rows) - 2}) = {r:.2f}, p = {p_value:.1g}, n = {len(rows)} networks"
