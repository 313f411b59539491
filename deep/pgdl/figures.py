"""Figure 7 of [P21], from measured tables only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

if TYPE_CHECKING:
    import pandas as pd


def plot_figure7(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """δE(σ) against the test error; bars are one standard deviation over the noise vectors."""
    if ax is None:
        ax = Figure(figsize=(5, 3.6), layout="constrained").subplots()
    sigma, samples = table["sigma"][0], table["samples"][0]
    bars = table["local_energy_standard_error"] * samples**0.5
    ax.errorbar(table["test_error"], table["local_energy"], bars, fmt="o", capsize=2)
    ax.set_xlabel("test error")
    ax.set_ylabel(f"train error difference δE(σ = {sigma:g})")
    explained = f"bars: standard deviation over {samples} noise vectors"
    ax.set_title(f"{pearson_in_words(table)}\n{explained}", fontsize="small")
    return ax


def pearson_in_words(table: pd.DataFrame) -> str:
    """Pearson's r of local energy and test error with its n − 2 degrees of freedom, and p."""
    r, p_value = stats.pearsonr(table["local_energy"], table["test_error"])
    return f"r({len(table) - 2}) = {r:.2f}, p = {p_value:.1g}, n = {len(table)} networks"
