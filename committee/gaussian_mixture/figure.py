"""The figure on Gaussian mixtures: four panels, read from results.

Each plot function takes the rows of ``experiment.load`` and optionally ``ax``, and returns the
axes. Lines are theory (dotted where replica symmetry is unstable), points are means over samples
with standard errors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from committee.gaussian_mixture.bayes import bayes_error, bayes_overlap, best_bias, overlap_error
from committee.gaussian_mixture.experiment import SIGMAS, GaussianMixtureConfig

Results = dict[str, list[dict[str, Any]]]

# Okabe and Ito's colours; markers for readers in grey.
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


def plot_gaussian_mixture(results: Results, config: GaussianMixtureConfig) -> Figure:
    """All four panels."""
    figure = Figure(figsize=(11.5, 8.6), layout="constrained")
    axes = figure.subplots(2, 2)
    plot_error_against_ridge(results, config, axes[0, 0])
    plot_local_energy(results, axes[0, 1])
    plot_overlap_against_noise(results, config, axes[1, 0])
    plot_error_against_margin(results, config, axes[1, 1])
    for label, ax in zip("abcd", axes.flat, strict=True):
        ax.set_title(f"({label})", loc="left")
    figure.suptitle(
        rf"Gaussian mixture, $\alpha={config.alpha:g}$, $\Delta={config.delta:g}$, "
        rf"$\rho={config.rho:g}$: theory (lines) and {config.samples} samples "
        f"(points, standard errors) of $N={config.inputs}$"
    )
    return figure


def plot_error_against_ridge(
    results: Results, config: GaussianMixtureConfig, ax: Axes | None = None
) -> Axes:
    """(a) Generalisation error against the ridge for the three losses."""
    ax = ax or _new_axes()
    for family in ("square", "logistic", "hinge"):
        _lines_and_points(results, family, "error", ax)
    bayes = bayes_error(config.alpha, config.delta, config.rho)
    ax.axhline(bayes, color="black", linestyle="--", label="Bayes-optimal")
    ax.set(xscale="log", xlabel=r"ridge $\lambda$", ylabel=r"generalisation error $\varepsilon$")
    ax.legend(frameon=False)
    return ax


def plot_local_energy(results: Results, ax: Axes | None = None) -> Axes:
    """(b) Training error under noise of width σ on the unit-length weights."""
    ax = ax or _new_axes()
    sigmas = np.array(SIGMAS)
    for family, wanted in PROFILES:
        colour, marker, label = STYLES[family]
        dashes = "--" if family.startswith("flat ") else "-"
        if family == "hebb":
            parameter = 0.0
        else:
            parameters = {row["parameter"] for row in _rows(results, "simulation", family)}
            parameter = min(parameters, key=lambda p: abs(np.log(p / wanted)))
            symbol = r"\sigma" if "flat" in family else r"\lambda"
            label = rf"{label}, ${symbol}={parameter:.2g}$"
        for row in _rows(results, "theory", family):
            if row["parameter"] == parameter and row["local_energy"] is not None:
                ax.plot(sigmas, row["local_energy"], color=colour, linestyle=dashes)
        energies = np.array(
            [
                row["local_energy"]
                for row in _rows(results, "simulation", family)
                if row["parameter"] == parameter
            ]
        )
        mean, error = _mean_and_error(energies)
        ax.errorbar(
            sigmas[::2], mean[::2], error[::2], color=colour, marker=marker, markersize=4,
            linestyle="none", label=label, fillstyle="none" if dashes == "--" else "full",
        )  # fmt: skip
    ax.set(xlabel=r"noise $\sigma$ on $w/\Vert w\Vert$", ylabel=r"local energy $E_\sigma$")
    ax.legend(frameon=False)
    return ax


def plot_overlap_against_noise(
    results: Results, config: GaussianMixtureConfig, ax: Axes | None = None
) -> Axes:
    """(c) Overlap with the centre reached by both routes to flatness."""
    ax = ax or _new_axes()
    for family in ("flattest", "flat square", "flat logistic", "flat hinge"):
        _lines_and_points(results, family, "overlap", ax)
    bayes = bayes_overlap(config.alpha, config.delta)
    ax.axhline(bayes, color="black", linestyle="--", label="Bayes-optimal")
    ax.set(xscale="log", xlabel=r"noise $\sigma$ made flat against", ylabel="overlap $R$")
    ax.legend(frameon=False, loc="lower right")
    return ax


def plot_error_against_margin(
    results: Results, config: GaussianMixtureConfig, ax: Axes | None = None
) -> Axes:
    """(d) Error at the best bias against the mean normalised margin: one curve for all."""
    ax = ax or _new_axes()
    rows = results["simulation"]
    margins = [row["mean_margin"] for row in rows]
    grid = np.linspace(0.98 * min(margins), 1.02 * max(margins), 200)
    overlap = np.sqrt(config.delta) * grid * config.alpha / (config.alpha + config.delta)
    bias = 0.0 if config.rho == 0.5 else best_bias(overlap, config.delta, config.rho)
    error = overlap_error(overlap, config.delta, bias, config.rho)
    ax.plot(grid, error, color="black", label="theory")
    for family, (colour, marker, label) in STYLES.items():
        parameters = sorted({row["parameter"] for row in _rows(results, "simulation", family)})
        points = []
        for parameter in parameters:
            group = [
                (row["mean_margin"], row["best_error"])
                for row in _rows(results, "simulation", family)
                if row["parameter"] == parameter
            ]
            points.append(_mean_and_error(np.array(group)))
        mean, se = (np.array(part) for part in zip(*points, strict=True))
        fill = "none" if family.startswith("flat ") else "full"
        ax.errorbar(
            mean[:, 0], mean[:, 1], se[:, 1], se[:, 0], color=colour, marker=marker,
            markersize=5, linestyle="none", label=label, fillstyle=fill, linewidth=0.8,
        )  # fmt: skip
    suffix = "" if config.rho == 0.5 else ", at the best bias"
    ax.set(
        xlabel=r"mean normalised margin $\bar\kappa$",
        ylabel=rf"generalisation error $\varepsilon${suffix}",
    )
    ax.legend(frameon=False, fontsize="small")
    return ax


def _lines_and_points(results: Results, family: str, name: str, ax: Axes) -> None:
    colour, marker, label = STYLES[family]
    theory = sorted(_rows(results, "theory", family), key=lambda row: row["parameter"])
    for stable, style in ((True, "-"), (False, ":")):
        kept = [row for row in theory if row["stable"] == stable]
        if kept:
            ax.plot(
                [row["parameter"] for row in kept], [row[name] for row in kept], style, color=colour
            )
    rows = _rows(results, "simulation", family)
    parameters = sorted({row["parameter"] for row in rows})
    groups = [[row[name] for row in rows if row["parameter"] == p] for p in parameters]
    mean, error = _mean_and_error(np.array(groups).T)
    ax.errorbar(
        parameters, mean, error, color=colour, marker=marker, markersize=5, linestyle="none",
        label=label,
    )  # fmt: skip


def _rows(results: Results, kind: str, family: str) -> list[dict[str, Any]]:
    return [row for row in results[kind] if row["estimator"] == family]


def _mean_and_error(values: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard error over the first axis."""
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))


def _new_axes() -> Axes:
    return Figure(layout="constrained").subplots()
