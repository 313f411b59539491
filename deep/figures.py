"""Figures of deep networks, from stored data only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from committee.flatness import LocalEnergyProfile


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
