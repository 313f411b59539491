"""Figures 1 and 6: local entropy, local energy, test error. Plots read results, nothing else.

Each plot function takes results and optionally ``ax``, and returns the axes. Bands are standard
errors over the restarts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from committee.results import ExperimentResults
from message_passing.figures import ENGINE_NAMES, new_axes

# Okabe and Ito: told apart by colour-blind readers; the markers help in grey.
COLOURS = ("#D55E00", "#E69F00", "#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LARGEST_DISTANCE = 0.3


def plot_results(results: ExperimentResults, engines: Sequence[str] | None = None) -> Figure:
    """The three panels of Figures 1 and 6 of [P21].

    Parameters
    ----------
    results : ExperimentResults
    engines : names, optional
        Estimates of the local entropy to show, the main one first; all by default.
    """
    figure = Figure(figsize=(13.0, 4.3), layout="constrained")
    left, centre, right = figure.subplots(1, 3)
    plot_local_entropy(results, engines, left)
    plot_local_energy(results, centre)
    plot_test_errors(results, right)
    K, N, P = results.size
    figure.suptitle(f"{results.title}: {results.data_name}, $N={N}$, $K={K}$, $P={P}$")
    return figure


def plot_local_entropy(
    results: ExperimentResults, engines: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Φ_LE against the distance d: mean over the restarts.

    The first engine is drawn solid, with a band; the others are thin, belief propagation dashed.
    """
    ax = ax or new_axes()
    engines = list(engines if engines is not None else results.engines)
    for engine in engines:
        main = engine == engines[0]
        style = _MAIN_LINE if main else _THIN_LINES.get(engine, _THIN_LINES["bp"])
        for i, variant in enumerate(results.variants.values()):
            distances = np.linspace(0.0, LARGEST_DISTANCE, 61)
            values = variant.local_entropy(engine, distances)
            values = values[np.isfinite(values[:, 1])]  # runs that have a curve
            # The mean must not change its members on the way: the runs that reach the end or, if
            # most do not, all of them as far as every one does.
            whole = np.isfinite(values[:, -1])
            if np.count_nonzero(whole) > len(whole) / 2:
                values = values[whole]
            if not len(values):
                continue
            n = len(values)
            reached = np.all(np.isfinite(values), axis=0)
            label = f"{variant.name} (n = {n})" if main else None
            _mean_with_band(ax, distances[reached], values[:, reached], i, label, style, band=main)
        ax.plot([], [], color="0.4", label=ENGINE_NAMES.get(engine, engine), **style)
    ax.axhline(0.0, color="0.7", linewidth=0.8, zorder=0)
    ax.set_xlabel("squared distance  $d = \\|w'-w\\|^2 / 2KN$")
    ax.set_ylabel("local entropy  $\\Phi_{\\mathrm{LE}}(d)$  per weight")
    if engines:
        ax.legend(fontsize="x-small")
    return ax


def plot_local_energy(results: ExperimentResults, ax: Axes | None = None) -> Axes:
    """δE against the noise intensity σ: mean over all restarts."""
    ax = ax or new_axes()
    for i, variant in enumerate(results.variants.values()):
        label = f"{variant.name} (n = {len(variant.restarts)})"
        profile = variant.profile
        _mean_with_band(ax, profile.sigma, profile.local_energy, i, label, _MAIN_LINE, band=True)
    ax.axhline(0.0, color="0.7", linewidth=0.8, zorder=0)
    ax.set_xlabel("noise intensity  $\\sigma$, relative to each weight")
    ax.set_ylabel("local energy  $\\delta E_{\\mathrm{train}}(\\sigma)$")
    ax.legend(fontsize="x-small")
    return ax


def plot_test_errors(results: ExperimentResults, ax: Axes | None = None) -> Axes:
    """Distribution of the test error of each algorithm, and the constant answer's line.

    Points are restarts (open: with training errors), boxes their quartiles; the bar is the mean
    with its standard error.
    """
    ax = ax or new_axes()
    names = []
    for i, variant in enumerate(results.variants.values()):
        errors = 100 * variant.test_error
        colour = COLOURS[i % len(COLOURS)]
        solved = variant.train_error == 0
        places = i + _spread(errors)
        style: dict[str, Any] = {
            "color": colour,
            "marker": MARKERS[i % len(MARKERS)],
            "linestyle": "none",
        }
        ax.plot(places[solved], errors[solved], markersize=3.5, alpha=0.6, **style)
        ax.plot(places[~solved], errors[~solved], markersize=3.5, fillstyle="none", **style)
        ax.boxplot(
            errors,
            positions=[i],
            widths=0.62,
            showfliers=False,
            boxprops={"color": colour},
            whiskerprops={"color": colour},
            capprops={"color": colour},
            medianprops={"color": colour},
        )
        if len(errors) > 1:
            error = errors.std(ddof=1) / np.sqrt(len(errors))
            ax.errorbar(i + 0.4, errors.mean(), error, color="black", marker="_", capsize=2)
        names.append(f"{variant.name}\n(n = {len(errors)})")
    if any(np.any(variant.train_error > 0) for variant in results.variants.values()):
        empty: dict[str, Any] = {
            "color": "0.3",
            "marker": "o",
            "linestyle": "none",
            "fillstyle": "none",
        }
        ax.plot([], [], markersize=3.5, label="with training errors", **empty)
    ax.errorbar([], [], [], color="black", marker="_", capsize=2, label="mean ± standard error")
    constant = 100 * results.constant_test_error
    ax.axhline(constant, color="0.3", linestyle=":", label=f"constant answer ({constant:.1f} %)")
    ax.set_xticks(range(len(names)), names, fontsize="small", rotation=20)
    ax.set_ylabel("test error (%)")
    ax.legend(fontsize="x-small")
    return ax


_MAIN_LINE: dict[str, Any] = {"linestyle": "-", "linewidth": 1.8}
_THIN_LINES: dict[str, dict[str, Any]] = {
    "bp": {"linestyle": "--", "linewidth": 0.9},
    "ep": {"linestyle": ":", "linewidth": 1.1},
    "mc": {"linestyle": "-", "linewidth": 0.9},
}


def _mean_with_band(
    ax: Axes,
    x: NDArray,
    values: NDArray,
    i: int,
    label: str | None,
    style: dict,
    *,
    band: bool,
) -> None:
    colour = COLOURS[i % len(COLOURS)]
    mean = values.mean(axis=0)
    marker: dict[str, Any] = (
        {"marker": MARKERS[i % len(MARKERS)], "markevery": 10, "markersize": 4} if band else {}
    )
    ax.plot(x, mean, color=colour, label=label, **style, **marker)
    if band and len(values) > 1:
        error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
        ax.fill_between(x, mean - error, mean + error, color=colour, alpha=0.25, linewidth=0)


def _spread(errors: NDArray) -> NDArray:
    """Sideways offsets, so that equal errors (multiples of one pattern) do not hide each other."""
    offsets = np.zeros(len(errors))
    for value in np.unique(errors):
        same = np.flatnonzero(errors == value)
        offsets[same] = (np.arange(len(same)) - (len(same) - 1) / 2) * 0.05
    return np.clip(offsets, -0.3, 0.3)


def plot_training_costs(rows: Sequence[Mapping[str, Any]], axes: NDArray[Any]) -> NDArray[Any]:
    """Milliseconds per epoch against each size, from the rows of the benchmark.

    ``axes`` (n,): one for each size that grows, in the order of the rows.
    """
    names = list(dict.fromkeys(row["growing"] for row in rows if row["growing"]))
    for ax, name in zip(axes, names, strict=True):
        grown = [row for row in rows if row["growing"] == name]
        sizes = [row[name] for row in grown]
        ax.loglog(sizes, [row["package"] for row in grown], "o-", color=COLOURS[2])
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel(name)
        ax.set_title(f"{grown[0]['workers']} worker(s)", fontsize="small")
    axes[0].set_ylabel("ms per epoch of rsgd-fast")
    return axes
