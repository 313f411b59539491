"""The perceptron figure: four panels, drawn from stored results.

Each plot function takes tables (from ``experiment.load`` and ``extrapolation.summarise``) and
optionally ``ax``, and returns the axes. Lines are theory. Filled points are Monte Carlo on
instances, extrapolated to infinite N, with standard errors.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline

from committee.perceptron.experiment import DISTANCES, PerceptronConfig
from committee.perceptron.extrapolation import KEYS
from committee.perceptron.gardner import bayes_error, generalisation_error
from message_passing.figures import ENGINE_STYLES, four_panels, new_axes

if TYPE_CHECKING:
    import pandas as pd

    Results = dict[str, pd.DataFrame]

# Okabe and Ito's colours. Markers distinguish the families in greyscale.
STYLES = {
    ("typical", 0.0): ("#D55E00", "o", "typical, $\\kappa=0$"),
    ("typical", 0.5): ("#E69F00", "s", "typical, $\\kappa=\\kappa_{max}/2$"),
    ("max-margin", 0.0): ("#0072B2", "D", "maximum margin"),
    ("logistic", 0.0): ("#009E73", "^", "logistic loss"),
    ("hebb", 0.0): ("#000000", "*", "Hebb"),
}
#: The distances of panels (b) and (c).
SHOWN = (0.03, 0.1, 0.3)
FIXED = 0.1


def plot_perceptron(results: Results, summary: pd.DataFrame, config: PerceptronConfig) -> Figure:
    """All four panels."""
    counts = ", ".join(f"{config.count(N)} of N = {N}" for N in config.sizes)
    return four_panels(
        rf"Spherical perceptron, $\alpha={config.alpha:g}$: replica theory (lines) and instances "
        f"({counts}; points, standard errors)",
        partial(plot_local_entropy, results, summary),
        partial(plot_against_margin, results, summary),
        partial(plot_error_against_local_entropy, results, summary, config),
        partial(plot_engines, summary),
    )


def plot_local_entropy(
    results: Results, summary: pd.DataFrame, ax: Axes | None = None, labels: str = "random"
) -> Axes:
    """(a) Φ_LE(d) around the families. Hebb's rule makes errors, so its points are from ep."""
    ax = ax or new_axes()
    theory = results["theory"]
    for (name, fraction), (colour, marker, text) in STYLES.items():
        line = theory[_family(theory, labels, name, fraction) & (theory["kind"] == "line")]
        line = line[line["converged"]].sort_values("distance")
        errors = line["training_error"].max()
        text += f" ({100 * errors:.2g} % errors)" if errors > 1e-4 else ""
        if len(line) > 1:
            ax.plot(*_smooth(line), color=colour, label=text)
        engine = "ep" if name == "hebb" else "mc"
        points = _limits(summary, labels, engine)
        points = points[_family(points, labels, name, fraction)]
        ax.errorbar(
            points["distance"], points["theory"] + points["deviation"],
            points["deviation_standard_error"], color=colour, marker=marker, linestyle="none",
            markersize=5, fillstyle="none" if engine == "ep" else "full",
        )  # fmt: skip
    typical = theory[_family(theory, labels, "typical", 0.0)]
    lowest = typical.loc[typical["distance"] < 0.4, "local_entropy"].min()
    ax.set(
        xlim=(0, 0.4), ylim=(1.15 * lowest, -0.03 * lowest),
        xlabel="distance $d$", ylabel=r"local entropy $\Phi_{LE}(d)$",
    )  # fmt: skip
    ax.legend(frameon=False, fontsize="small")
    return ax


def plot_against_margin(
    results: Results, summary: pd.DataFrame, ax: Axes | None = None, labels: str = "random"
) -> Axes:
    """(b) Φ_LE at fixed d against κ of typical references, up to the maximum margin."""
    ax = ax or new_axes()
    theory = results["theory"]
    points = theory[(theory["kind"] == "point") & (theory["labels"] == labels)]
    points = points[points["name"].isin(("typical", "max-margin"))]
    limits = _limits(summary, labels, "mc")
    limits = limits[limits["name"] == "typical"]
    for i, distance in enumerate(SHOWN):
        # The maximum-margin family has no κ. It is the last point of the line.
        here = points[np.isclose(points["distance"], distance, rtol=0.05)]
        typical = here[here["name"] == "typical"].sort_values("kappa")
        last = here[here["name"] == "max-margin"]
        kappa = [*typical["fraction"], *np.ones(len(last))]
        value = [*typical["local_entropy"], *last["local_entropy"]]
        ax.plot(kappa, value, color=f"C{i}", label=f"$d={distance:g}$")
        seen = limits[np.isclose(limits["distance"], distance, rtol=0.05)]
        ax.errorbar(
            seen["fraction"], seen["theory"] + seen["deviation"],
            seen["deviation_standard_error"], color=f"C{i}", marker="o", linestyle="none",
        )  # fmt: skip
    ax.set(
        xlabel=r"margin $\kappa/\kappa_{max}$ of the reference",
        ylabel=r"local entropy $\Phi_{LE}(d)$",
    )
    ax.legend(frameon=False)
    return ax


def plot_error_against_local_entropy(
    results: Results, summary: pd.DataFrame, config: PerceptronConfig, ax: Axes | None = None
) -> Axes:
    """(c) Generalisation error against Φ_LE at d = 0.1, teacher labels.

    Points show the local entropy at infinite N and the mean error of the largest instances.
    """
    ax = ax or new_axes()
    theory = results["theory"]
    points = theory[(theory["labels"] == "teacher") & (theory["kind"] == "point")]
    points = points[np.isclose(points["distance"], FIXED, rtol=0.05)]
    typical = points[points["name"] == "typical"].sort_values("kappa")
    last = points[points["name"] == "max-margin"]
    ax.plot(
        [*typical["local_entropy"], *last["local_entropy"]], [*typical["error"], *last["error"]],
        color="0.5", label=r"typical, $\kappa$ from 0 to $\kappa_{max}$",
    )  # fmt: skip
    limits = _limits(summary, "teacher", "mc")
    instances = results["instances"]
    largest = instances[instances["N"] == instances["N"].max()]
    for (name, fraction), (colour, marker, text) in STYLES.items():
        here = points[_family(points, "teacher", name, fraction)]
        if here.empty:
            continue
        ax.plot(
            here["local_entropy"], here["error"], marker=marker, color=colour, markersize=11,
            fillstyle="none", linestyle="none", label=text,
        )  # fmt: skip
        seen = limits[_family(limits, "teacher", name, fraction)]
        seen = seen[np.isclose(seen["distance"], FIXED, rtol=0.05)]
        mine = largest[_family(largest, "teacher", name, fraction)].groupby("instance")
        error = generalisation_error(mine["teacher_overlap"].first().to_numpy())
        if seen.empty or np.size(error) < 2:
            continue
        ax.errorbar(
            seen["theory"] + seen["deviation"], [np.mean(error)],
            [np.std(error, ddof=1) / np.sqrt(np.size(error))],
            seen["deviation_standard_error"], color=colour, marker=marker, markersize=4,
        )  # fmt: skip
    ax.axhline(bayes_error(config.alpha), color="black", linestyle="--", label="Bayes-optimal")
    ax.set(
        xlabel=rf"local entropy $\Phi_{{LE}}(d={FIXED:g})$",
        ylabel=r"generalisation error $\varepsilon$",
    )
    ax.legend(frameon=False, fontsize="small")
    return ax


def plot_engines(summary: pd.DataFrame, ax: Axes | None = None, labels: str = "random") -> Axes:
    """(d) Deviation from the theory against 1/N, typical references, at the largest distance."""
    ax = ax or new_axes()
    rows = summary[_family(summary, labels, "typical", 0.0)]
    rows = rows[np.isclose(rows["distance"], DISTANCES[-1], rtol=0.05)]
    for i, (engine, group) in enumerate(rows.groupby("engine")):
        sizes = group["N"].replace("infinity", "inf").astype(float)
        style = ENGINE_STYLES[str(engine)]
        ax.errorbar(
            1.0 / sizes * (1 + 0.02 * (i - 1)), 1e3 * group["deviation"],
            1e3 * group["deviation_standard_error"], label=str(engine), capsize=2,
            **{**style, "linestyle": "none"},
        )  # fmt: skip
    ax.axhline(0.0, color="0.7", linewidth=0.8)
    ax.set(
        xlabel="$1/N$ (0: extrapolated)",
        ylabel=rf"$10^3\,[\Phi_{{LE}}(d={DISTANCES[-1]:g})$ − theory]",
    )
    ax.legend(frameon=False)
    return ax


def _smooth(line: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """d and Φ_LE of a line, interpolated with its slopes dΦ_LE/dd = (1 − 1/r)/Δ."""
    d, r, variance = (line[name].to_numpy() for name in ("distance", "displacement", "variance"))
    curve = CubicHermiteSpline(d, line["local_entropy"].to_numpy(), (1.0 - 1.0 / r) / variance)
    grid = np.geomspace(d[0], d[-1], 200)
    return grid, curve(grid)


def _family(table: pd.DataFrame, labels: str, name: str, fraction: float) -> pd.Series:
    wanted = dict(zip(KEYS, (labels, name, fraction), strict=True))
    return np.logical_and.reduce([table[key] == value for key, value in wanted.items()])


def _limits(summary: pd.DataFrame, labels: str, engine: str) -> pd.DataFrame:
    here = summary[(summary["labels"] == labels) & (summary["engine"] == engine)]
    return here[here["N"] == "infinity"].dropna(subset="deviation")
