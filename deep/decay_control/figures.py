"""Figures of ``decay-control``, drawn from its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from deep.decay_control.design import ARMS

if TYPE_CHECKING:
    import pandas as pd


def plot_arms(table: pd.DataFrame) -> Figure:
    """Plot the test error against the arm, the effective decay and the matched local energy.

    Small points are seeds. Large points are means with standard errors.
    """
    matched = [str(name) for name in table if str(name).endswith("_matched")][-1]
    sigma = matched.split("_")[2]
    panels = {
        "arm": "arm",
        "effective_decay": "effective weight decay λ_eff",
        matched: f"δE(σ = {sigma}) at equal train error (%)",
    }
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    for ax, (name, label) in zip(axes, panels.items(), strict=True):
        scale = 100 if name == matched else 1
        for arm, runs in table.groupby("arm"):
            colour, error = f"C{int(str(arm)) - 1}", 100 * runs["test_error"]
            ax.plot(scale * runs[name], error, ".", color=colour, alpha=0.4)
            bars = {"yerr": error.sem()} if len(runs) > 1 else {}
            ax.errorbar(
                scale * runs[name].mean(), error.mean(), fmt="o", color=colour, capsize=2,
                label=f"{arm}: {ARMS[int(str(arm))]}", **bars,
            )  # fmt: skip
        ax.set_xlabel(label)
    axes[0].set_ylabel("test error (%)")
    axes[0].set_xticks(sorted(table["arm"].unique()))
    axes[1].set_xscale("log")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize="small")
    return figure


def plot_gap(table: pd.DataFrame, sigma: float) -> Figure:
    """Plot the local energy against the generalisation gap and the test error, by dropout."""
    name = f"local_energy_{sigma:g}"
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    for ax, error in zip(figure.subplots(1, 2), ("gap", "test_error"), strict=True):
        for place, (dropout, own) in enumerate(table.groupby("dropout")):
            bars = own[f"{name}_standard_error"]
            ax.errorbar(own[error], own[name], bars, fmt="none", color=f"C{place}", alpha=0.5, lw=1)
            for reached, marker in ((True, "o"), (False, "x")):
                some = own[own["reached"] == reached]
                if len(some):
                    label = f"dropout {dropout:g}{'' if reached else ', loss not reached'}"
                    ax.plot(some[error], some[name], marker, color=f"C{place}", label=label)
        ax.set_xlabel("generalisation gap" if error == "gap" else "test error")
        ax.set_ylabel(f"train error difference δE(σ = {sigma:g})")
        if len(table) > 2 and np.ptp(table[error]) > 0 and np.ptp(table[name]) > 0:
            r = np.corrcoef(table[error], table[name])[0, 1]
            ax.set_title(f"Pearson's r = {r:.2f}, n = {len(table)}", fontsize="small")
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="x-small")
    return figure
