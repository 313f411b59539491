"""The Gaussian-mixture figure: four panels, drawn from results.

Each plot function takes results and optionally ``ax``, and returns the axes. Lines are theory,
dotted where replica symmetry is unstable. Points are means over samples with standard errors.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from committee.gaussian_mixture.bayes import bayes_error, bayes_overlap
from committee.gaussian_mixture.experiment import (
    NOISE_COLUMNS,
    SIGMAS,
    GaussianMixtureResults,
    best_error,
)
from message_passing.figures import four_panels, new_axes
from message_passing.tools.tables import ERROR, means

# Okabe and Ito's colours. Markers distinguish the estimators in greyscale.
STYLES = {
    "hebb": ("#000000", "*", "Hebb (Bayes-optimal)"),
    "square": ("#0072B2", "o", "square"),
    "logistic": ("#E69F00", "s", "logistic"),
    "hinge": ("#D55E00", "^", "hinge"),
    "flattest": ("#009E73", "D", "flattest classifier"),
    "flat square": ("#0072B2", "o", "flat loss: square"),
    "flat logistic": ("#E69F00", "s", "flat loss: logistic"),
    "flat hinge": ("#D55E00", "^", "flat loss: hinge"),
}
PROFILES = (
    ("hebb", 0.0),
    ("square", 0.1),
    ("logistic", 0.1),
    ("hinge", 0.1),
    ("flattest", 1.0),
    ("flat logistic", 1.0),
)


def plot_gaussian_mixture(results: GaussianMixtureResults) -> Figure:
    """All four panels."""
    config = results.config
    title = (
        rf"Gaussian mixture, $\alpha={config.alpha:g}$, $\Delta={config.delta:g}$, "
        rf"$\rho={config.rho:g}$: theory (lines) and {config.samples} samples "
        f"(points, standard errors) of $N={config.inputs}$"
    )
    plots = (
        plot_error_against_ridge, plot_error_under_noise, plot_overlap_against_noise,
        plot_error_against_margin,
    )  # fmt: skip
    return four_panels(title, *(partial(plot, results) for plot in plots))


def plot_error_against_ridge(results: GaussianMixtureResults, ax: Axes | None = None) -> Axes:
    """(a) Generalisation error against the ridge for the three losses."""
    ax = ax or new_axes()
    for family in ("square", "logistic", "hinge"):
        _lines_and_points(results, family, "error", ax)
    config = results.config
    bayes = bayes_error(config.alpha, config.delta, config.rho)
    ax.axhline(bayes, color="black", linestyle="--", label="Bayes-optimal")
    ax.set(xscale="log", xlabel=r"ridge $\lambda$", ylabel=r"generalisation error $\varepsilon$")
    ax.legend(frameon=False)
    return ax


def plot_error_under_noise(results: GaussianMixtureResults, ax: Axes | None = None) -> Axes:
    """(b) Training error under noise of width σ on the unit-length weights."""
    ax = ax or new_axes()
    simulated = means(results.simulation, ["estimator", "parameter"], NOISE_COLUMNS)
    for family, wanted in PROFILES:
        colour, marker, label = STYLES[family]
        dashes = "--" if family.startswith("flat ") else "-"
        own = simulated[simulated["estimator"] == family]
        nearest = 0
        if family != "hebb":
            nearest = int(np.argmin(np.abs(np.log(own["parameter"] / wanted))))
            symbol = r"\sigma" if "flat" in family else r"\lambda"
            label = rf"{label}, ${symbol}={own['parameter'].iloc[nearest]:.2g}$"
        point = own.iloc[nearest]
        theory = results.theory
        same = (theory["estimator"] == family) & (theory["parameter"] == point["parameter"])
        for line in theory.loc[same, NOISE_COLUMNS].to_numpy():
            ax.plot(SIGMAS, line, color=colour, linestyle=dashes)
        shown = NOISE_COLUMNS[::2]
        ax.errorbar(
            SIGMAS[::2], point[shown], point[[c + ERROR for c in shown]], color=colour,
            marker=marker, markersize=4, linestyle="none", label=label,
            fillstyle="none" if dashes == "--" else "full",
        )  # fmt: skip
    ax.set(xlabel=r"noise $\sigma$ on $w/\Vert w\Vert$", ylabel=r"error under noise $E_\sigma$")
    ax.legend(frameon=False)
    return ax


def plot_overlap_against_noise(results: GaussianMixtureResults, ax: Axes | None = None) -> Axes:
    """(c) Overlap with the centre, for both ways to flatness."""
    ax = ax or new_axes()
    for family in ("flattest", "flat square", "flat logistic", "flat hinge"):
        _lines_and_points(results, family, "overlap", ax)
    bayes = bayes_overlap(results.config.alpha, results.config.delta)
    ax.axhline(bayes, color="black", linestyle="--", label="Bayes-optimal")
    ax.set(xscale="log", xlabel=r"noise $\sigma$ made flat against", ylabel="overlap $R$")
    ax.legend(frameon=False, loc="lower right")
    return ax


def plot_error_against_margin(results: GaussianMixtureResults, ax: Axes | None = None) -> Axes:
    """(d) Error at the best bias against the mean normalised margin: a single curve."""
    ax = ax or new_axes()
    config, margins = results.config, results.simulation["mean_margin"]
    grid = np.linspace(0.98 * margins.min(), 1.02 * margins.max(), 200)
    overlap = np.sqrt(config.delta) * grid * config.alpha / (config.alpha + config.delta)
    ax.plot(grid, best_error(overlap, config), color="black", label="theory")
    columns = ["mean_margin", "best_error"]
    points = means(results.simulation, ["estimator", "parameter"], columns)
    for family, (colour, marker, label) in STYLES.items():
        own = points[points["estimator"] == family]
        x, y = (own[name] for name in columns)
        dx, dy = (own[name + ERROR] for name in columns)
        fill: Any = "none" if family.startswith("flat ") else "full"
        ax.errorbar(
            x, y, dy, dx, color=colour, marker=marker, markersize=5, linestyle="none",
            label=label, fillstyle=fill, linewidth=0.8,
        )  # fmt: skip
    suffix = "" if config.rho == 0.5 else ", at the best bias"
    ax.set(
        xlabel=r"mean normalised margin $\bar\kappa$",
        ylabel=rf"generalisation error $\varepsilon${suffix}",
    )
    ax.legend(frameon=False, fontsize="small")
    return ax


def _lines_and_points(results: GaussianMixtureResults, family: str, name: str, ax: Axes) -> None:
    colour, marker, label = STYLES[family]
    theory = results.theory[results.theory["estimator"] == family].sort_values("parameter")
    for stable, style in ((True, "-"), (False, ":")):
        kept = theory[theory["stable"] == stable]
        ax.plot(kept["parameter"], kept[name], style, color=colour)
    simulation = results.simulation[results.simulation["estimator"] == family]
    points = means(simulation, "parameter", [name])
    ax.errorbar(
        points["parameter"], points[name], points[name + ERROR], color=colour, marker=marker,
        markersize=5, linestyle="none", label=label,
    )  # fmt: skip
