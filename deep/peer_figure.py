"""Test error against flatness of several algorithms, from their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def plot_peers(
    table: Sequence[Mapping[str, Any]], sigma: float, split: str = "train", ax: Axes | None = None
) -> Axes:
    """Test error against δE(σ), in percent; bars are standard errors over the seeds."""
    if ax is None:
        ax = Figure(figsize=(5, 3.6), layout="constrained").subplots()
    name = f"{split}_local_energy_percent_{sigma:g}"
    for row in table:
        ax.errorbar(
            row[name], row["test_error_percent"], marker="o", capsize=2,
            xerr=row[f"{name}_se"], yerr=row["test_error_percent_se"],
            label=f"{row['algorithm']}, n = {row['n']}",
        )  # fmt: skip
    ax.set_xlabel(f"{split} error difference δE({sigma:g}) (%)")
    ax.set_ylabel("test error (%)")
    ax.set_title(f"{table[0]['passes']:.3g} passes' worth of gradients each", fontsize="small")
    ax.legend(fontsize="small")
    return ax
