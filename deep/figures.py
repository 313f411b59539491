"""Figures of deep networks. They need only tables and measured profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from committee.flatness import LocalEnergyProfile
from deep.algorithms import KINDS
from message_passing.tools.tables import ERROR

NOISE, DIFFERENCE = "noise intensity σ", "train error difference δE (%)"


def axes(ax: Axes | None) -> Axes:
    """The given axes, or new ones."""
    return ax or Figure(figsize=(5, 3.6), layout="constrained").subplots()


def plot_curves(table: pd.DataFrame) -> list[Axes]:
    """Plot the panels of ``error_curves`` or ``flatness_curves``, at most three in a row.

    Panels of one network share their axes. An empty cell explains the legends.
    """
    local = "local_energy" in table
    x, y = ("sigma", "local_energy") if local else ("epochs", "test_error")
    panels = list(dict.fromkeys(table["panel"]))
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    shared = "all" if table[["dataset", "model"]].drop_duplicates().shape[0] == 1 else "none"
    figure = Figure(figsize=(4.4 * columns, 3.6 * lines), layout="constrained")
    shape = {"squeeze": False, "sharex": shared, "sharey": shared}
    cells: Any = figure.subplots(lines, columns, **shape)  # type: ignore[call-overload]
    places = list(cells.flat)
    for ax, panel in zip(places, panels, strict=False):
        own = table[table["panel"] == panel]
        for algorithm in dict.fromkeys(own["algorithm"]):
            curve = own[own["algorithm"] == algorithm]
            colour, marker = f"C{[*KINDS].index(algorithm)}", "." if len(curve) < 30 else ""
            value, error = 100 * curve[y], 100 * curve[y + ERROR]
            ax.plot(curve[x], value, color=colour, marker=marker, label=curve["label"].iloc[0])
            ax.fill_between(curve[x], value - error, value + error, color=colour, alpha=0.25, lw=0)
        ax.set_title(panel, fontsize="medium")
        ax.set_xlabel(NOISE if local else "epochs")
        ax.set_ylabel(DIFFERENCE if local else "test error (%)")
        ax.tick_params(labelbottom=True, labelleft=True)
        ax.legend(fontsize="small")
    note = legend_note(table) if local else ""
    left = places[len(panels) :]
    for ax in left:
        ax.set_axis_off()
    if note and left:
        left[0].text(0.02, 0.95, note, va="top", transform=left[0].transAxes)
    elif note:
        figure.suptitle(note.replace("\n", " "), fontsize="small")
    return places[: len(panels)]


def legend_note(table: pd.DataFrame) -> str:
    """Explanation of the local energy's legends, and the images that it was measured on."""
    images, samples = ", ".join(table["images"].unique()), table["noise_vectors"].iloc[0]
    return (
        "Legends: epoch (train, test error in %), seeds.\n"
        f"δE and train error: {images},\n{samples} noise vectors."
    )


def plot_local_energy(profiles: Mapping[str, LocalEnergyProfile], ax: Axes | None = None) -> Axes:
    """Plot δE(σ) in percent for each label. Bands are one standard error over noise vectors."""
    ax = axes(ax)
    for label, profile in profiles.items():
        value, error = 100 * profile.local_energy, 100 * profile.standard_error
        (line,) = ax.plot(profile.sigma, value, marker=".", label=label)
        low, high = value - error, value + error
        ax.fill_between(profile.sigma, low, high, color=line.get_color(), alpha=0.25, lw=0)
    images = dict.fromkeys(getattr(profile, "images", "") for profile in profiles.values())
    samples = sorted({profile.samples for profile in profiles.values()})
    ax.set(xlabel=NOISE, ylabel=DIFFERENCE)
    about = [f"n = {', '.join(map(str, samples))} noise vectors", *filter(None, images)]
    ax.set_title("; ".join(about), fontsize="small")
    if any(profiles):
        ax.legend(fontsize="small")
    return ax


def plot_local_entropy(curves: Mapping[str, pd.DataFrame], ax: Axes | None = None) -> Axes:
    """Plot D Φ_LE(d) for each label, in nats, ± one standard error. Hollow: not converged."""
    ax = axes(ax)
    for label, curve in curves.items():
        nats = curve["parameters"] * curve["local_entropy"]
        error = curve["parameters"] * curve["local_entropy_standard_error"]
        line = ax.errorbar(curve["distance"], nats, error, marker="o", markersize=4, label=label)
        missed = ~curve["converged"]
        ax.plot(
            curve["distance"][missed], nats[missed], "o", markersize=4, zorder=4,
            color=line.lines[0].get_color(), markerfacecolor="white",
        )  # fmt: skip
    ax.set_xscale("log")
    ax.set(xlabel="relative distance d", ylabel="D Φ_LE (nats)")
    ax.legend(fontsize="small")
    return ax


def plot_training(logs: Mapping[str, pd.DataFrame], ax: Axes | None = None) -> Axes:
    """Plot the test error in percent against the passes over the data."""
    ax = axes(ax)
    for label, log in logs.items():
        ax.plot(log["passes"], 100 * log["test_error"], label=label)
    ax.set(xlabel="passes over the training data", ylabel="test error (%)")
    ax.legend(fontsize="small")
    return ax


def plot_baselines(table: pd.DataFrame, flatness: str, ax: Axes | None = None) -> Axes:
    """Plot the test error against the column ``flatness``, in percent. Bars: errors over seeds."""
    ax = axes(ax)
    for _, row in table.iterrows():
        ax.errorbar(
            100 * row[flatness], 100 * row["test_error"], marker="o", capsize=2,
            xerr=100 * row[flatness + ERROR], yerr=100 * row["test_error" + ERROR],
            label=f"{KINDS[row['algorithm']].label}, n = {row['n']}",
        )  # fmt: skip
    ax.set(xlabel=f"{flatness.replace('_', ' ')} (%)", ylabel="test error (%)")
    ax.set_title(f"{table['passes'].iloc[0]:.3g} passes' worth of gradients each", fontsize="small")
    ax.legend(fontsize="small")
    return ax


def plot_figure7(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Plot δE(σ) of PGDL's networks against the test error. Bars are one standard deviation."""
    ax = axes(ax)
    sigma, samples = table["sigma"][0], table["samples"][0]
    bars = table["local_energy_standard_error"] * samples**0.5
    ax.errorbar(table["test_error"], table["local_energy"], bars, fmt="o", capsize=2)
    ax.set(xlabel="test error", ylabel=f"train error difference δE(σ = {sigma:g})")
    explained = f"bars: standard deviation over {samples} noise vectors"
    ax.set_title(f"{pearson_in_words(table)}\n{explained}", fontsize="small")
    return ax


def pearson_in_words(table: pd.DataFrame) -> str:
    """Pearson's r of local energy and test error, with its n − 2 degrees of freedom, p and n."""
    from scipy import stats

    r, p_value = stats.pearsonr(table["local_energy"], table["test_error"])
    return f"r({len(table) - 2}) = {r:.2f}, p = {p_value:.1g}, n = {len(table)} networks"
