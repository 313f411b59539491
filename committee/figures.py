"""Figures 1 and 6: local entropy, local energy, test error. Plots read results, nothing else.

Each plot function takes results and optionally ``ax``, and returns the axes. A draw of the training
patterns is the mean of its restarts. A line is the mean over the draws, a thin line is one draw,
and a band is the standard error over the draws. With a single draw the band is over its restarts.
Means leave out collapsed runs. A control has the colour of its algorithm, a broken line and open
markers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from committee.algorithms import CONTROLS
from committee.flatness import LocalEnergyProfile
from committee.patterns import PatternSet
from committee.results import AlgorithmResults, ExperimentResults
from committee.statistics import constant_test_error
from committee.training import TrainedEnsemble
from message_passing.figures import ENGINE_NAMES, new_axes

if TYPE_CHECKING:
    import pandas as pd

# Okabe and Ito's colours, which colour-blind readers can tell apart. The markers help in grey.
COLOURS = ("#D55E00", "#E69F00", "#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
BROKEN_LINES = ("--", ":", "-.")  # for the controls
SMALLEST_DISTANCE, LARGEST_DISTANCE = 0.001, 0.3
DECADES, STEEP = 4, 0.1  # logarithmic axis: largest length; fraction of x that it ignores
SHOWN_PATTERNS = 12


def plot_results(results: ExperimentResults, engines: Sequence[str] | None = None) -> Figure:
    """The three panels of Figures 1 and 6 of [P21].

    Parameters
    ----------
    results : ExperimentResults
    engines : names, optional
        Estimates of the local entropy to show, the main one first. By default only the most
        trustworthy one.
    """
    rows = len(results.algorithms)
    figure = Figure(figsize=(15.0, 4.8 + 0.16 * rows), layout="constrained")
    left, centre, right = figure.subplots(1, 3)
    plot_local_entropy(results, engines, left)
    plot_local_energy(results.algorithms, centre)
    plot_test_errors(results.algorithms, constant_test_error(results), right)
    named = left if left.get_legend() else centre
    for ax in (left, centre):
        if legend := ax.get_legend():
            legend.remove()
    handles, labels = named.get_legend_handles_labels()
    about = f"n: machines in the {'left' if named is left else 'central'} panel"
    style: dict[str, Any] = {"ncols": 5, "fontsize": "x-small", "title_fontsize": "x-small"}
    figure.legend(handles, labels, loc="outside lower center", title=about, **style)
    patterns = next(iter(results.patterns.values()))
    P, N = patterns.train_patterns.shape
    draws = {draw for own in results.algorithms.values() for draw in own.runs["draw"]}
    size = f"$N={N}$, $K={results.hidden_units}$, $P={P}$, draws: {len(draws)}"
    figure.suptitle(f"{results.title}: {patterns.name}, {size}")
    return figure


def plot_local_entropy(
    results: ExperimentResults, engines: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """−Φ_LE, on a logarithmic axis, against the distance d.

    The first engine is bold, further engines are thin. By default only the most trustworthy one is
    drawn. Algorithms have bands (standard errors) and thin lines (draws), controls have neither.
    """
    ax = ax or new_axes()
    engines = list(engines if engines is not None else results.engines[:1])
    # The grid is even in √d, because curves are nearly straight in √d at small distances.
    grid = np.linspace(np.sqrt(SMALLEST_DISTANCE), np.sqrt(LARGEST_DISTANCE), 60) ** 2
    distances = np.minimum(grid, LARGEST_DISTANCE)
    styles = _styles(results.algorithms)
    for engine in engines:
        main = engine == engines[0]
        for name, style in styles.items():
            algorithm = results.algorithms[name]
            values = -algorithm.local_entropy(engine, distances)
            kept = np.isfinite(values[:, 0]) & ~algorithm.runs["collapsed"].to_numpy(bool)
            # All points of a line average the same runs: those that reach its end. If most runs do
            # not reach it, average all, and end the line with the shortest curve.
            whole = np.isfinite(values[:, -1])
            if np.count_nonzero(whole & kept) > np.count_nonzero(kept) / 2:
                kept &= whole
            if not kept.any():
                continue
            reached = np.all(np.isfinite(values[kept]), axis=0)
            draws = algorithm.runs["draw"].to_numpy()[kept]
            label = f"{name} (n = {kept.sum()})" if main else None
            if not main:
                style = {**style, "linewidth": 0.7, "marker": ""}
            values = values[kept][:, reached]
            _mean_with_band(ax, distances[reached], values, draws, style, label, main=main)
        width = 1.6 if main else 0.7
        ax.plot([], [], color="0.4", linewidth=width, label=ENGINE_NAMES.get(engine, engine))
    _logarithmic(ax)
    ax.set_xlabel("squared distance  $d = \\|w'-w\\|^2 / 2KN$")
    ax.set_ylabel("minus local entropy  $-\\Phi_{\\mathrm{LE}}(d)$  per weight")
    if engines:
        _legend_above(ax)
    return ax


def plot_local_energy(
    machines: LocalEnergyProfile | Mapping[str, LocalEnergyProfile | AlgorithmResults],
    ax: Axes | None = None,
) -> Axes:
    """δE against the noise intensity σ, on a logarithmic axis if machines have labels.

    Parameters
    ----------
    machines : LocalEnergyProfile, or a mapping from labels to profiles or results
        Several machines appear as their mean with its standard error. One machine appears with
        the standard error of its samples.
    ax : Axes, optional
    """
    ax = ax or new_axes()
    alone = isinstance(machines, LocalEnergyProfile)
    labelled = {"": machines} if isinstance(machines, LocalEnergyProfile) else machines
    for name, style in _styles(labelled).items():
        own = labelled[name]
        profile = own if isinstance(own, LocalEnergyProfile) else own.profile
        values = profile.local_energy.reshape(profile.reference_error.size, -1)
        draws, kept = np.zeros(len(values)), np.ones(len(values), bool)
        if isinstance(own, AlgorithmResults):
            draws, kept = own.runs["draw"].to_numpy(), ~own.runs["collapsed"].to_numpy(bool)
        if not kept.any():
            continue
        there = profile.sigma > (-1 if alone else 0)
        sigma, values = profile.sigma[there], values[kept][:, there]
        label = f"{name} (n = {kept.sum()})".strip()
        _mean_with_band(ax, sigma, values, draws[kept], style, label)
        if profile.reference_error.size == 1 and profile.samples:
            error = profile.standard_error.ravel()[there]
            _band(ax, sigma, values[0], error, style["color"])
    if not alone:
        _logarithmic(ax)
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
    """Test errors, with one row per algorithm and a line for the constant answer.

    Points are machines (open: with training errors; crosses: collapsed onto a constant answer).
    The draws of an algorithm are below each other, and a tick is the mean of a draw. The black bar
    is the mean with its standard error.
    """
    ax = ax or new_axes()
    tables = {name: own.to_frame() for name, own in machines.items()}
    for row, (name, style) in enumerate(_styles(tables).items()):
        runs = tables[name]
        errors, collapsed = 100 * runs["test_error"].to_numpy(), runs["collapsed"].to_numpy(bool)
        draws = runs["draw"].to_numpy() if "draw" in runs else np.zeros(len(runs))
        numbers = np.unique(draws)
        places = row - 0.1 + 0.6 * ((np.searchsorted(numbers, draws) + 0.5) / len(numbers) - 0.5)
        if len(numbers) == 1:
            places = places + _spread(errors)
        solved = runs["train_error"].to_numpy() == 0
        dots: dict[str, Any] = {"color": style["color"], "linestyle": "none", "marker": "o"}
        dots |= {"markersize": 2.8, "alpha": 0.7}
        ax.plot(errors[solved], places[solved], **dots)
        ax.plot(errors[~solved], places[~solved], fillstyle="none", **dots)
        ax.plot(errors[collapsed], places[collapsed], "x", color="black", markersize=4)
        if collapsed.all():
            continue
        units = _units(errors[~collapsed, None], draws[~collapsed])[:, 0]
        if len(numbers) > 1:
            ticks = _units(places[~collapsed, None], draws[~collapsed])[:, 0]
            ax.plot(units, ticks, "|", color="black", markersize=5, markeredgewidth=0.7)
        ax.errorbar(
            units.mean(), row + 0.34, xerr=_error(units), color="black", marker="|", capsize=2
        )
    several = any("draw" in runs and runs["draw"].nunique() > 1 for runs in tables.values())
    grey: dict[str, Any] = {"color": "0.3", "linestyle": "none", "markersize": 3.5}
    ax.plot([], [], marker="o", label="machine", **grey)
    if any((runs["train_error"] > 0).any() for runs in tables.values()):
        ax.plot([], [], marker="o", fillstyle="none", label="with training errors", **grey)
    if any(runs["collapsed"].any() for runs in tables.values()):
        ax.plot([], [], marker="x", label="collapsed", **{**grey, "color": "black"})
    if several:
        ax.plot([], [], marker="|", label="mean of a draw", **{**grey, "markersize": 6})
    ax.errorbar([], [], xerr=[], color="black", capsize=2, label="mean ± standard error")
    if constant_test_error is not None:
        percent = 100 * constant_test_error
        line = f"constant answer ({percent:.1f} %)"
        ax.axvline(percent, color="0.3", linestyle=":", label=line)
    names = [f"{name} (n = {len(tables[name])})" for name in _styles(tables)]
    ax.set_yticks(range(len(names)), names, fontsize="small")
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlabel("test error (%)")
    _legend_above(ax)
    return ax


def plot_patterns(patterns: PatternSet, ax: Axes | None = None) -> Axes:
    """The first training patterns side by side: images if N is a square number, else rows."""
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


def _styles(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Line style of each algorithm. Controls follow their algorithm and have its colour."""
    owners = {name: CONTROLS.get(name, name) for name in names}
    looks = dict(zip(dict.fromkeys(owners.values()), cycle(zip(COLOURS, MARKERS, strict=True))))
    controls: Counter[str] = Counter()
    styles: dict[str, dict[str, Any]] = {}
    for name, owner in sorted(owners.items(), key=lambda own: [*looks].index(own[1])):
        colour, marker = looks[owner]
        styles[name] = {"color": colour, "marker": marker, "linestyle": "-", "linewidth": 1.8}
        if name != owner:
            broken = BROKEN_LINES[controls[owner] % len(BROKEN_LINES)]
            styles[name] |= {"linestyle": broken, "linewidth": 1.2, "markerfacecolor": "white"}
            controls[owner] += 1
    return styles


def _units(values: NDArray[np.float64], draws: NDArray[Any]) -> NDArray[np.float64]:
    """Means over the restarts of each draw (D, S). With a single draw, the values themselves."""
    numbers = np.unique(draws)
    if len(numbers) == 1:
        return values
    return np.array([values[draws == number].mean(axis=0) for number in numbers])


def _error(units: NDArray[np.float64]) -> Any:
    """Standard error of the mean, or None for a single unit."""
    return units.std(axis=0, ddof=1) / np.sqrt(len(units)) if len(units) > 1 else None


def _mean_with_band(
    ax: Axes,
    x: NDArray[np.float64],
    values: NDArray[np.float64],
    draws: NDArray[Any],
    style: dict[str, Any],
    label: str | None,
    *,
    main: bool = True,
) -> None:
    units = _units(values, draws)
    mean, error = units.mean(axis=0), _error(units)
    ax.plot(x, mean, label=label, markevery=0.1, markersize=4, **style)
    if not main or style["linestyle"] != "-":
        return  # with bands of the controls, the bands would hide each other
    if error is not None:
        _band(ax, x, mean, error, style["color"])
    if len(np.unique(draws)) > 1:
        ax.plot(x, units.T, color=style["color"], linewidth=0.5, alpha=0.3, zorder=1)


def _band(ax: Axes, x: NDArray, centre: NDArray, error: NDArray, colour: str) -> None:
    ax.fill_between(x, centre - error, centre + error, color=colour, alpha=0.18, linewidth=0)


def _logarithmic(ax: Axes) -> None:
    """A logarithmic axis. All lines vanish at x = 0, so their steep start may lie below it."""
    ax.set_yscale("log", nonpositive="clip")
    x, y = np.vstack([np.zeros((1, 2)), *(line.get_xydata() for line in ax.get_lines())]).T
    shown = y[(x >= STEEP * x.max()) & (y > 0)]
    if shown.size:
        ax.set_ylim(max(shown.min(), shown.max() / 10**DECADES) / 1.3, shown.max() * 1.3)


def _spread(errors: NDArray) -> NDArray:
    """Sideways offsets, so that equal errors (multiples of 1/P) do not hide each other."""
    offsets = np.zeros(len(errors))
    for value in np.unique(errors):
        same = np.flatnonzero(errors == value)
        offsets[same] = (np.arange(len(same)) - (len(same) - 1) / 2) * 0.05
    return np.clip(offsets, -0.3, 0.3)


def plot_training_costs(rows: pd.DataFrame, axes: NDArray[Any]) -> NDArray[Any]:
    """Milliseconds per epoch against each size, from the rows of the benchmark.

    ``axes`` (n,) has one entry per growing size, in the order of the rows.
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
