"""Test error against flatness, over the whole range."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from committee.solution_space.experiment import TYPICAL
from committee.solution_space.statements import FLATTEST, family_means

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LABELS = {"local_entropy": r"$-\Phi_{LE}(d=0.3)$, Monte Carlo", "local_energy_1": r"$\delta E(1)$"}
GROUPS = {
    TYPICAL: "typical",
    "sgd": "SGD",
    "control": "SGD as rSGD",
    "dropout": "SGD with dropout",
    "rsgd": "replicated SGD",
    "esgd": "entropy SGD",
    "weight-noise": "weight noise",
    "entropy-ascent": "entropy ascent",
}


def plot_flatness_range(machines: pd.DataFrame) -> Figure:
    """Both measures of flatness: families as means over draws, thin lines for single draws."""
    figure = Figure(figsize=(10.0, 4.2), layout="constrained")
    for measure, ax in zip(LABELS, figure.subplots(1, 2, sharey=True), strict=True):
        plot_range(machines, measure, ax)
    figure.axes[1].set_ylabel("")
    figure.axes[0].legend(fontsize="small")
    return figure


def plot_range(machines: pd.DataFrame, measure: str, ax: Axes) -> Axes:
    """One measure, ``"local_entropy"`` or ``"local_energy_1"``; flat is left."""
    means = family_means(machines)
    means["x"] = means[measure].abs().clip(lower=FLATTEST)
    for _, draw in means.groupby("draw"):
        draw = draw.sort_values("x")
        ax.plot(draw["x"], 100 * draw["test_error"], color="0.8", linewidth=0.7, zorder=1)
    families = means.groupby("family")[["x", "test_error"]].agg(["mean", "sem"])
    for colour, (prefix, label) in enumerate(GROUPS.items()):
        # "sgd" is not "rsgd", and "weight-noise 1" is "weight-noise".
        shown = families[[name.startswith(prefix) for name in families.index]]
        if len(shown):
            ax.errorbar(
                shown["x", "mean"],
                100 * shown["test_error", "mean"],
                yerr=100 * shown["test_error", "sem"].fillna(0.0),
                fmt="o",
                color=f"C{colour}",
                label=label,
            )
    draws = means["draw"].nunique()
    ax.set(xscale="log", xlabel=LABELS[measure], ylabel=f"test error (%), mean of {draws} draws")
    return ax
