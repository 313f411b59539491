"""Figures 1 and 6: local entropy, local energy, test error. Plots read results, nothing else.

Each plot function takes results and optionally ``ax``, and returns the axes. Bands are standard
errors over the machines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from committee.flatness import LocalEnergyProfile
from committee.patterns import PatternSet
from committee.results import AlgorithmResults, ExperimentResults
from committee.training import TrainedEnsemble
from message_passing.figures import ENGINE_NAMES, new_axes

if TYPE_CHECKING:
    import pandas as pd

# Okabe and Ito: told apart by colour-blind readers; the markers help in grey.
COLOURS = ("#D55E00", "#E69F00", "#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SMALLEST_DISTANCE, LARGEST_DISTANCE = 0.001, 0.3
SHOWN_PATTERNS = 12


def plot_results(results: ExperimentResults, engines: Sequence[str] | None = None) -> Figure:
    """The three panels of Figures 1 and 6 of [P21].

    Parameters
    ----------
    results : ExperimentResults
    engines : names, optional
        Estimates of the local entropy to show, the main one first; all by default.
    """
    figure = Figure(figsize=(13.0, 4.6), layout="constrained")
    left, centre, right = figure.subplots(1, 3)
    plot_local_entropy(results, engines, left)
    plot_local_energy({name: a.profile for name, a in results.algorithms.items()}, centre)
    plot_test_errors(results.algorithms, results.patterns[0].constant_test_error, right)
    P, N = results.patterns[0].train_patterns.shape
    size = f"$N={N}$, $K={results.hidden_units}$, $P={P}$"
    figure.suptitle(f"{results.title}: {results.patterns[0].name}, {size}")
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
        for i, algorithm in enumerate(results.algorithms.values()):
            # Even in √d, in which curves are nearly straight at small distances.
            grid = np.linspace(np.sqrt(SMALLEST_DISTANCE), np.sqrt(LARGEST_DISTANCE), 60) ** 2
            distances = np.append(0.0, np.minimum(grid, LARGEST_DISTANCE))
            values = algorithm.local_entropy(engine, distances)
            values = values[np.isfinite(values[:, 1])]  # runs that have a curve
            # The members of the mean must not change along the line. They are the runs that reach
            # its end; where most do not, the line ends with the shortest curve.
            whole = np.isfinite(values[:, -1])
            if np.count_nonzero(whole) > len(whole) / 2:
                values = values[whole]
            if not len(values):
                continue
            n = len(values)
            reached = np.all(np.isfinite(values), axis=0)
            label = f"{algorithm.name} (n = {n})" if main else None
            _mean_with_band(ax, distances[reached], values[:, reached], i, label, style, band=main)
        ax.plot([], [], color="0.4", label=ENGINE_NAMES.get(engine, engine), **style)
    ax.axhline(0.0, color="0.7", linewidth=0.8, zorder=0)
    ax.set_xlabel("squared distance  $d = \\|w'-w\\|^2 / 2KN$")
    ax.set_ylabel("local entropy  $\\Phi_{\\mathrm{LE}}(d)$  per weight")
    if engines:
        _legend_above(ax)
    return ax


def plot_local_energy(
    profiles: LocalEnergyProfile | Mapping[str, LocalEnergyProfile], ax: Axes | None = None
) -> Axes:
    """δE against the noise intensity σ.

    Parameters
    ----------
    profiles : LocalEnergyProfile, or a mapping from labels to profiles
        Several machines in a profile appear as their mean with its standard error. One machine
        appears with the standard error of its samples.
    ax : Axes, optional
    """
    ax = ax or new_axes()
    labelled = {"": profiles} if isinstance(profiles, LocalEnergyProfile) else profiles
    for i, (name, profile) in enumerate(labelled.items()):
        machines = profile.reference_error.size
        values = profile.local_energy.reshape(machines, -1)
        label = f"{name} (n = {machines})".strip()
        _mean_with_band(ax, profile.sigma, values, i, label, _MAIN_LINE, band=True)
        if machines == 1 and profile.samples:
            _band(ax, profile.sigma, values[0], profile.standard_error.ravel(), i)
    ax.axhline(0.0, color="0.7", linewidth=0.8, zorder=0)
    ax.set_xlabel("noise intensity  $\\sigma$, relative to each weight")
    ax.set_ylabel("local energy  $\\delta E_{\\mathrm{train}}(\\sigma)$")
    if any(labelled):
        _legend_above(ax)
    return ax


def plot_test_errors(
    machines: Mapping[str, TrainedEnsemble | AlgorithmResults],
    constant_test_error: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Distribution of the test error of each algorithm, and the constant answer's line.

    Points are machines (open: with training errors; crossed: collapsed onto a constant answer),
    boxes their quartiles; the bar is the mean with its standard error.
    """
    ax = ax or new_axes()
    tables = [own.to_frame() for own in machines.values()]
    for i, runs in enumerate(tables):
        errors, colour = 100 * runs["test_error"].to_numpy(), COLOURS[i % len(COLOURS)]
        solved, places = runs["train_error"] == 0, i + _spread(errors)
        style: dict[str, Any] = {"color": colour, "linestyle": "none", "markersize": 3.5}
        shape = {**style, "marker": MARKERS[i % len(MARKERS)]}
        ax.plot(places[solved], errors[solved], alpha=0.6, **shape)
        ax.plot(places[~solved], errors[~solved], fillstyle="none", **shape)
        collapsed = runs["collapsed"]
        ax.plot(places[collapsed], errors[collapsed], marker="x", **{**style, "color": "black"})
        parts = ("boxprops", "whiskerprops", "capprops", "medianprops")
        coloured: dict[str, Any] = {part: {"color": colour} for part in parts}
        ax.boxplot(errors, positions=[i], widths=0.62, showfliers=False, **coloured)
        if len(errors) > 1:
            error = errors.std(ddof=1) / np.sqrt(len(errors))
            ax.errorbar(i + 0.4, errors.mean(), error, color="black", marker="_", capsize=2)
    grey: dict[str, Any] = {"color": "0.3", "linestyle": "none", "markersize": 3.5}
    if any((runs["train_error"] > 0).any() for runs in tables):
        ax.plot([], [], marker="o", fillstyle="none", label="with training errors", **grey)
    if any(runs["collapsed"].any() for runs in tables):
        ax.plot([], [], marker="x", label="collapsed", **grey)
    ax.errorbar([], [], [], color="black", marker="_", capsize=2, label="mean ± standard error")
    if constant_test_error is not None:
        percent = 100 * constant_test_error
        line = f"constant answer ({percent:.1f} %)"
        ax.axhline(percent, color="0.3", linestyle=":", label=line)
    names = [f"{name}\n(n = {len(runs)})" for name, runs in zip(machines, tables, strict=True)]
    ax.set_xticks(range(len(names)), names, fontsize="small", rotation=20)
    ax.set_ylabel("test error (%)")
    _legend_above(ax)
    return ax


def plot_patterns(patterns: PatternSet, ax: Axes | None = None) -> Axes:
    """The first training patterns side by side: images where N is a square number, else rows."""
    ax = ax or new_axes()
    shown, N = patterns.train_patterns[:SHOWN_PATTERNS], patterns.train_patterns.shape[1]
    side = round(np.sqrt(N))
    if side**2 == N:
        images = shown.reshape(-1, side, side).swapaxes(0, 1).reshape(side, -1)
        ax.imshow(images, cmap="gray")
        centres = (np.arange(len(shown)) + 0.5) * side - 0.5
        ax.set_xticks(centres, [f"{label:+.0f}" for label in patterns.train_labels[: len(shown)]])
        ax.set_yticks([])
        ax.set_xlabel("label")
    else:
        ax.imshow(shown, cmap="gray", aspect="auto", interpolation="none")
        ax.set_xlabel("input")
        ax.set_ylabel("training pattern")
    ax.set_title(patterns.name, fontsize="medium")
    return ax


def _legend_above(ax: Axes) -> None:
    """A legend above the axes, where it covers no data."""
    ax.legend(fontsize="x-small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


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
        _band(ax, x, mean, values.std(axis=0, ddof=1) / np.sqrt(len(values)), i)


def _band(ax: Axes, x: NDArray, centre: NDArray, error: NDArray, i: int) -> None:
    colour = COLOURS[i % len(COLOURS)]
    ax.fill_between(x, centre - error, centre + error, color=colour, alpha=0.25, linewidth=0)


def _spread(errors: NDArray) -> NDArray:
    """Sideways offsets: equal errors (multiples of one pattern) must not hide each other."""
    offsets = np.zeros(len(errors))
    for value in np.unique(errors):
        same = np.flatnonzero(errors == value)
        offsets[same] = (np.arange(len(same)) - (len(same) - 1) / 2) * 0.05
    return np.clip(offsets, -0.3, 0.3)


def plot_training_costs(rows: pd.DataFrame, axes: NDArray[Any]) -> NDArray[Any]:
    """Milliseconds per epoch against each size, from the rows of the benchmark.

    ``axes`` (n,): one for each size that grows, in the order of the rows.
    """
    groups = rows[rows["growing"] != ""].groupby("growing", sort=False)
    for ax, (name, grown) in zip(axes, groups, strict=True):
        ax.loglog(grown[name], grown["package"], "o-", color=COLOURS[2])
        ax.set_xticks(grown[name], [str(size) for size in grown[name]])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel(name)
        ax.set_title(f"{grown['workers'].iloc[0]} worker(s)", fontsize="small")
    axes[0].set_ylabel("ms per epoch of rsgd-fast")
    return axes
