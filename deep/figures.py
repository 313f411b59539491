"""Figures of deep networks, from stored data only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from committee.flatness import LocalEnergyProfile
from deep.config import ALGORITHMS, Algorithm


@dataclass(frozen=True)
class Curve:
    """A line with a band of ± ``error`` (none where it is NaN), coloured by the algorithm."""

    algorithm: Algorithm
    label: str
    x: np.ndarray
    y: np.ndarray
    error: np.ndarray


def plot_local_energy(profiles: Mapping[str, LocalEnergyProfile], ax: Axes | None = None) -> Axes:
    """δE(σ) in percent for each label; bands are one standard error over the noise vectors."""
    if ax is None:
        ax = Figure(figsize=(5, 3.6), layout="constrained").subplots()
    for label, profile in profiles.items():
        value, error = 100 * profile.local_energy, 100 * profile.standard_error
        (line,) = ax.plot(profile.sigma, value, marker=".", label=label)
        ax.fill_between(
            profile.sigma, value - error, value + error, color=line.get_color(), alpha=0.25, lw=0
        )
    samples = sorted({profile.samples for profile in profiles.values()})
    ax.set_xlabel("noise intensity σ")
    ax.set_ylabel("train error difference δE (%)")
    ax.set_title(f"n = {', '.join(map(str, samples))} noise vectors", fontsize="small")
    ax.legend(fontsize="small")
    return ax


def plot_training(logs: Mapping[str, Sequence[Mapping[str, Any]]], ax: Axes | None = None) -> Axes:
    """Test error in percent along training, against the passes over the data (Figure 2)."""
    if ax is None:
        ax = Figure(figsize=(5, 3.6), layout="constrained").subplots()
    for label, log in logs.items():
        passes = np.array([float(row["passes"]) for row in log])
        ax.plot(passes, [100 * float(row["test_error"]) for row in log], label=label)
    ax.set_xlabel("passes over the training data")
    ax.set_ylabel("test error (%)")
    ax.legend(fontsize="small")
    return ax


def plot_curves(
    panels: Mapping[str, Sequence[Curve]], xlabel: str, ylabel: str, legend: str = ""
) -> list[Axes]:
    """One panel for each title, at most three in a row."""
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(4.4 * columns, 3.6 * lines), layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for ax, (title, curves) in zip(axes, panels.items(), strict=False):
        for curve in curves:
            colour = f"C{ALGORITHMS.index(curve.algorithm)}"
            marker = "." if len(curve.x) < 30 else ""
            ax.plot(curve.x, curve.y, color=colour, marker=marker, label=curve.label)
            low, high = curve.y - curve.error, curve.y + curve.error
            ax.fill_between(curve.x, low, high, color=colour, alpha=0.25, lw=0)
        ax.set_title(title, fontsize="medium")
        ax.set_xlabel(xlabel)
        ax.set_ylabel(ylabel)
        ax.legend(title=legend, fontsize="small", title_fontsize="small")
    for ax in axes[len(panels) :]:
        ax.remove()
    return axes[: len(panels)]
