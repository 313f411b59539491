"""Test error against flatness, over the whole range."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from committee.algorithms import CONTROLS
from committee.solution_space.experiment import CONDITION, TYPICAL
from committee.solution_space.statements import FLATTEST, TURN, family_means, statements
from message_passing.figures import new_axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from committee.solution_space.entropy_ascent import AscentPath
    from committee.solution_space.typical import SolutionSample

LABELS = {"local_entropy": r"$-\Phi_{LE}(d=0.3)$, Monte Carlo", "local_energy_1": r"$\delta E(1)$"}
#: Legend and prefix of the families, in the order of colours. Controls go by their names.
GROUPS = {
    "typical": TYPICAL,
    "SGD": "sgd",
    "SGD with dropout": "dropout",
    "replicated SGD": "rsgd",
    "entropy SGD": "esgd",
    "controls": "control",
    "weight noise": "weight-noise",
    "entropy ascent": "entropy-ascent",
}


def plot_flatness_range(machines: pd.DataFrame) -> Figure:
    """Both measures of flatness: points are means over draws, thin lines are single draws."""
    figure = Figure(figsize=(10.0, 4.2), layout="constrained")
    for measure, ax in zip(LABELS, figure.subplots(1, 2, sharey=True), strict=True):
        plot_range(machines, measure, ax)
    figure.axes[1].set_ylabel("")
    figure.axes[0].legend(fontsize="small")
    return figure


def plot_conditions(machines: pd.DataFrame, measure: str = "local_entropy") -> Figure:
    """One panel for each condition of a table from several folders."""
    conditions = machines.groupby([*CONDITION], sort=False)
    columns = min(4, conditions.ngroups)
    rows = -(-conditions.ngroups // columns)
    figure = Figure(figsize=(3.2 * columns, 2.9 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for ax, ((_, size, classes, balanced), own) in zip(panels, conditions, strict=False):
        plot_range(own, measure, ax)
        ax.set(xlabel="", ylabel="")
        ax.tick_params(labelbottom=True)
        ax.set_title(f"{classes}, P = {size}{', balanced' if balanced else ''}", fontsize="small")
    for ax in panels[conditions.ngroups :]:
        ax.remove()
    figure.supxlabel(LABELS[measure])
    figure.supylabel("test error (%)")
    panels[0].legend(fontsize="xx-small")
    return figure


def plot_range(machines: pd.DataFrame, measure: str, ax: Axes) -> Axes:
    """One measure, ``"local_entropy"`` or ``"local_energy_1"``; flatter is to the left.

    Points are families, the black line is their mean over draws, and thin lines are single draws.
    A band is the 95 % interval of the turning point. Raises ``ValueError`` for machines of several
    conditions.
    """
    if (count := machines.groupby([*CONDITION]).ngroups) != 1:
        raise ValueError(f"machines have {count} conditions; one was expected (plot_conditions).")
    means = family_means(machines)
    means["x"] = means[measure].abs().clip(lower=FLATTEST)
    for _, draw in means.groupby("draw"):
        draw = draw.sort_values("x")
        ax.plot(draw["x"], 100 * draw["test_error"], color="0.8", linewidth=0.7, zorder=1)
    families = means.groupby("family")[["x", "test_error"]].agg(["mean", "sem"])
    line = families.sort_values(("x", "mean"))
    ax.plot(line["x", "mean"], 100 * line["test_error", "mean"], color="black", linewidth=0.8)
    found = statements(machines).set_index(["measure", "quantity"])
    turn = 10.0 ** found.loc[(measure, TURN), ["low", "high"]].to_numpy(dtype=np.float64)
    if np.isfinite(turn).all():
        ax.axvspan(float(turn[0]), float(turn[1]), color="0.92", zorder=0)
    group = families.index.map(_group)
    for colour, label in enumerate(GROUPS):
        shown = families[group == label]
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


def _group(family: str) -> str:
    if family in CONTROLS:
        return "controls"
    return next(label for label, prefix in GROUPS.items() if family.startswith(prefix))


def plot_chains(sample: SolutionSample, ax: Axes | None = None) -> Axes:
    """Test error along the chains of typical solutions; the burn-in is left of the dotted line."""
    ax = ax or new_axes()
    for chain, errors in enumerate(sample.chain_test_error):
        ax.plot(100 * errors, color=f"C{chain % 2}", linewidth=0.7)
    ax.axvline(sample.chain_test_error.shape[1] // 2, color="0.3", linestyle=":")
    ax.axhline(100 * sample.test_error, color="black", linewidth=0.9)
    ax.set(xlabel="sweep", ylabel="test error (%); colours: opposite starts")
    return ax


def plot_ascent(path: AscentPath, ax: Axes | None = None) -> Axes:
    """Free entropy φ at each Δ of an ascent, before its first step and after its last."""
    ax = ax or new_axes()
    table = path.to_frame()
    ax.plot(table["variance"], table["first_free_entropy"], "o--", color="C1", label="before")
    ax.plot(table["variance"], table["free_entropy"], "o-", color="C0", label="after")
    ax.set(xscale="log", xlabel="Δ", ylabel="free entropy φ(Δ) per weight")
    ax.legend()
    return ax
