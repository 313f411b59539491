"""Figures 2 to 5 of [P21] as curves, from stored logs and stored measurements of flatness only.

A curve is the mean over the seeds of an algorithm, its band the standard error of that mean; of
a single run the local energy has the standard error over its noise vectors instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deep.config import Algorithm
from deep.figures import Curve
from deep.run_logs import LoggedRun, by_network
from deep.stored_runs import StoredFlatness, stored_flatness
from deep.table1 import NAMES

Panels = dict[str, list[Curve]]


def error_panels(runs: Sequence[LoggedRun]) -> tuple[Panels, list[dict[str, Any]]]:
    """Figure 2: test error in percent against epochs, a panel for each data set and model.

    Epochs are rescaled by y for rSGD and by L for eSGD, not for rSGD×y. Of runs that are not
    finished a curve has the rows that all its seeds have.
    """
    panels: Panels = {}
    rows = []
    for (dataset, model), algorithms in by_network(runs).items():
        curves = panels.setdefault(f"{model}, {dataset}", [])
        for algorithm, seeds in algorithms.items():
            logs = [{int(row["step"]): row for row in run.log} for run in seeds]
            steps = sorted(set.intersection(*(set(log) for log in logs)))
            errors = np.array([[100 * log[step]["test_error"] for step in steps] for log in logs])
            epochs = np.array([seeds[0].epochs(logs[0][step]["passes"]) for step in steps])
            mean, spread = mean_and_error(errors)
            label = f"{NAMES[algorithm]} (n = {len(seeds)})"
            curves.append(Curve(algorithm, label, epochs, mean, spread))
            rows += [
                {
                    "dataset": dataset, "model": model, "algorithm": algorithm, "epochs": float(x),
                    "n": len(seeds), "test_error_percent": float(y), "standard_error": float(e),
                }
                for x, y, e in zip(epochs, mean, spread, strict=True)
            ]  # fmt: skip
    return panels, rows


def flatness_along_training(runs: Sequence[LoggedRun]) -> tuple[Panels, list[dict[str, Any]]]:
    """Figures 3 and 5: δE(σ) after the same fractions of training, a panel for each of them.

    Raises ``ValueError`` for runs of several networks, for what ``flatness_at_the_end`` does.
    """
    networks = by_network(runs)
    if len(networks) != 1:
        raise ValueError(
            f"the runs are of {['-'.join(n) for n in networks]}; those of one data set and model "
            "were expected."
        )
    return _flatness_panels(runs, along=True)


def flatness_at_the_end(runs: Sequence[LoggedRun]) -> tuple[Panels, list[dict[str, Any]]]:
    """Figure 4: δE(σ) of the final networks, a panel for each data set and model.

    Raises ``ValueError`` for runs that are not finished, that have not been measured, or not with
    the same options.
    """
    return _flatness_panels(runs, along=False)


@dataclass(frozen=True)
class _Measured:
    """A measured network and the run that left it after a fraction of training."""

    run: LoggedRun
    flatness: StoredFlatness
    fraction: float


def _flatness_panels(runs: Sequence[LoggedRun], along: bool) -> tuple[Panels, list[dict[str, Any]]]:
    found: dict[tuple[float, str, str, Algorithm], list[_Measured]] = {}
    for (dataset, model), algorithms in by_network(runs).items():
        for algorithm, seeds in algorithms.items():
            for one in (m for run in seeds for m in _networks_of(run, along)):
                found.setdefault((one.fraction, dataset, model, algorithm), []).append(one)
    for names in {key[1:3] for key in found}:
        _check_options([one for key, own in found.items() if key[1:3] == names for one in own])
    panels: Panels = {}
    rows = []
    for key, measured in sorted(found.items(), key=lambda item: item[0][0]):
        fraction, dataset, model, algorithm = key
        panel = f"{model}, {dataset}"
        if along:
            panel += f", {100 * fraction:g} % of training" if fraction < 1 else ", at the end"
        curve, table = _flatness_curve(algorithm, measured)
        panels.setdefault(panel, []).append(curve)
        about = {"panel": panel, "dataset": dataset, "model": model, "algorithm": algorithm}
        rows += [about | row for row in table]
    return panels, rows


def _networks_of(run: LoggedRun, along: bool) -> list[_Measured]:
    if run.result is None:
        raise ValueError(
            f"{run.folder} is not finished; `python -m deep train` or `table1` continues it."
        )
    measured = []
    for flatness in stored_flatness(run.folder, snapshots=along):
        if flatness.name == "final":
            measured.append(_Measured(run, flatness, 1.0))
            continue
        row = min(run.log, key=lambda row: abs(row["passes"] - flatness.passes))
        done = row["step"] / run.log[-1]["step"]
        if done < 1:  # else it is the final network
            fraction = max(f for f in run.config.snapshots if f <= done)
            measured.append(_Measured(run, flatness, fraction))
    return measured


def _check_options(measured: Sequence[_Measured]) -> None:
    """The networks of a data set and model were measured alike."""
    first = measured[0]
    for other in measured:
        for key, value in first.flatness.options.items():
            if other.flatness.options[key] != value:
                raise ValueError(
                    f"the flatness of {first.run.folder} was measured with {key} {value!r}, that "
                    f"of {other.run.folder} with {other.flatness.options[key]!r}; measure both "
                    "with the same options of `python -m deep flatness`."
                )


def _flatness_curve(
    algorithm: Algorithm, measured: Sequence[_Measured]
) -> tuple[Curve, list[dict[str, Any]]]:
    profiles = [m.flatness.profile for m in measured]
    sigma = np.array(profiles[0]["sigma"])
    mean, spread = mean_and_error(100 * np.array([p["local_energy"] for p in profiles]))
    if len(profiles) == 1:
        spread = 100 * np.array(profiles[0]["standard_error"])
    run = measured[0].run
    epoch = run.epochs(measured[0].flatness.passes)
    train = 100 * float(np.mean([p["reference_error"] for p in profiles]))
    test = 100 * float(np.mean([m.flatness.test_error for m in measured]))
    final = measured[0].flatness.name == "final"
    losses = [m.run.result["train_loss"] for m in measured if m.run.result is not None]
    number = {
        "epoch": epoch,
        "n": len(measured),
        "noise_vectors": measured[0].flatness.options["samples"],
        "train_error_percent": train,
        "test_error_percent": test,
        "train_loss_at_the_end": float(np.mean(losses)) if final else "",
    }
    rows = [
        number | {"sigma": float(x), "local_energy_percent": float(y), "standard_error": float(e)}
        for x, y, e in zip(sigma, mean, spread, strict=True)
    ]
    label = f"{NAMES[algorithm]}, {epoch:.3g} ({train:.1f}, {test:.1f}), n = {len(measured)}"
    return Curve(algorithm, label, sigma, mean, spread), rows


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the first axis and its standard error (NaN of a single value)."""
    n = len(values)
    if n == 1:
        return values[0], np.full(values.shape[1:], math.nan)
    return values.mean(0), values.std(0, ddof=1) / math.sqrt(n)


def train_losses(rows: Sequence[Mapping[str, Any]]) -> str:
    """The sentence of the paper's captions: the cross-entropy of the final networks."""
    losses = {
        f"{row['model']} on {row['dataset']}, {row['algorithm']}": row["train_loss_at_the_end"]
        for row in rows
        if row["train_loss_at_the_end"] != ""
    }
    values = "; ".join(f"{name}: {value:.2g}" for name, value in losses.items())
    return f"Cross-entropy on the training set at the end: {values}."
