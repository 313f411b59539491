"""Plots of local entropy curves. Each takes results and optionally ``ax``, and returns the axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from message_passing.local_entropy import LocalEntropyCurve

if TYPE_CHECKING:
    import pandas as pd

ENGINE_NAMES = {"mc": "Monte Carlo", "ep": "expectation propagation", "bp": "belief propagation"}
ENGINE_STYLES: dict[str, dict[str, Any]] = {
    "mc": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    "ep": {"color": "#009E73", "linestyle": "-", "marker": "^"},
    "bp": {"color": "#D55E00", "linestyle": "--", "marker": "s"},
}


def plot_curve(
    curve: LocalEntropyCurve, ax: Axes | None = None, *, label: str | None = None, **style: Any
) -> Axes:
    """Φ_LE(d) of one machine by one engine, with a band of one standard error.

    Markers are the points of the ladder. Hollow markers did not converge. ``style`` goes to
    ``Axes.plot``.
    """
    ax = ax or new_axes()
    defaults = {"markersize": 4, **ENGINE_STYLES.get(curve.engine, {"marker": "o"})}
    style = {**defaults, **style}
    order = np.argsort(curve.distance)
    d, value = curve.distance[order], curve.local_entropy[order]
    (line,) = ax.plot(d, value, label=label or ENGINE_NAMES.get(curve.engine), **style)
    _band(ax, d, value, curve.standard_error[order], line.get_color())
    failed = ~curve.converged[order]
    if np.any(failed):
        hollow = {**style, "linestyle": "none", "color": line.get_color(), "fillstyle": "none"}
        hollow |= {"markerfacecolor": "white", "zorder": 4}
        ax.plot(d[failed], value[failed], label="not converged", **hollow)
    name_axes(ax)
    return ax


def plot_curves(curves: Mapping[str, Sequence[LocalEntropyCurve]], ax: Axes | None = None) -> Axes:
    """Φ_LE(d) of one or several machines, by one or several engines.

    Parameters
    ----------
    curves : mapping
        Maps the name of an engine to the curves of the machines. For one machine the band is the
        engine's standard error. For several, the line is their mean, the band is its standard
        error over the machines, and faint lines are the machines.
    ax : Axes, optional
    """
    ax = ax or new_axes()
    for i, (engine, group) in enumerate(curves.items()):
        name = ENGINE_NAMES.get(engine, engine)
        style = ENGINE_STYLES.get(engine, {"color": f"C{i}"})
        if len(group) == 1:
            error = " ± standard error" if np.any(group[0].standard_error > 0) else ""
            plot_curve(group[0], ax, label=name + error, **style)
        elif group:
            _plot_mean(ax, group, f"{name}: mean of n = {len(group)}", style)
    ax.axhline(0.0, color="0.7", linewidth=0.8, zorder=0)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize="small")
    name_axes(ax)
    return ax


def plot_costs(table: pd.DataFrame, axes: NDArray[Any]) -> NDArray[Any]:
    """Seconds and memory of a curve against P, N and K, from the table of the benchmark.

    ``axes`` (2, 3) shows time above and memory below, with one column for each growing size.
    """
    for column, name in zip(axes.T, ("P", "N", "K"), strict=True):
        grown = table[table["machine"].str.endswith(f"growing {name}")]
        for engine in grown["engine"].unique():
            own = grown[grown["engine"] == engine]
            style = {**ENGINE_STYLES.get(engine, {}), "label": ENGINE_NAMES.get(engine, engine)}
            column[0].loglog(own[name], own["seconds"], **style)
            column[1].semilogx(own[name], own["peak_memory_mib"], **style)
        others = grown.iloc[0][[key for key in "KNP" if key != name]]
        column[0].set_title(", ".join(f"{key}={value}" for key, value in others.items()))
        column[1].set_xlabel(name)
        for ax in column:
            sizes = grown[name].unique()
            ax.set_xticks(sizes, [str(size) for size in sizes])
            ax.xaxis.set_minor_locator(NullLocator())
    axes[0, 0].set_ylabel("seconds a curve, one core")
    axes[1, 0].set_ylabel("peak memory of the process (MiB)")
    axes[1, 2].legend(fontsize="small", loc="upper left")
    return axes


def new_axes() -> Axes:
    """Axes of a new figure."""
    # Imported here because a figure for a file needs no window system.
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained")[1]


def four_panels(title: str, *plots: Callable[[Axes], object]) -> Figure:
    """A figure of four panels, (a) to (d). Each function draws one of them."""
    figure = Figure(figsize=(11.5, 8.6), layout="constrained")
    for label, plot, ax in zip("abcd", plots, figure.subplots(2, 2).flat, strict=True):
        plot(ax)
        ax.set_title(f"({label})", loc="left")
    figure.suptitle(title)
    return figure


def _plot_mean(
    ax: Axes, group: Sequence[LocalEntropyCurve], label: str, style: dict[str, Any]
) -> None:
    # Use distances where every machine has a curve, so that all points average the same machines.
    first = max(curve.distance.min() for curve in group)
    last = min(curve.distance.max() for curve in group)
    grid = np.linspace(np.sqrt(first), np.sqrt(last), 60) ** 2  # even in √d
    d = np.append(0.0, np.clip(grid, first, last))
    values = np.array([curve.at(d) for curve in group])
    for value in values:
        ax.plot(d, value, color=style.get("color"), linewidth=0.5, alpha=0.35)
    mean, error = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))
    (line,) = ax.plot(d, mean, label=label, markevery=6, markersize=4, **style)
    _band(ax, d, mean, error, line.get_color())
    if not all(np.all(curve.converged) for curve in group):
        missed = sum(int(np.sum(~curve.converged)) for curve in group)
        total = sum(len(curve.converged) for curve in group)
        ax.plot([], [], linestyle="none", label=f"  ({missed} of {total} points not converged)")


def _band(
    ax: Axes, x: NDArray[Any], centre: NDArray[Any], error: NDArray[Any], colour: Any
) -> None:
    if np.any(error > 0):
        ax.fill_between(x, centre - error, centre + error, color=colour, alpha=0.25, linewidth=0)


def name_axes(ax: Axes) -> None:
    """The labels of a plot of Φ_LE(d)."""
    ax.set_xlabel("squared distance  $d = \\|w'-w\\|^2 / 2KN$")
    ax.set_ylabel("local entropy  $\\Phi_{\\mathrm{LE}}(d)$  per weight")
