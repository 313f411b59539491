"""Flatness, errors and settings of stored runs, or of any table, as columns to correlate."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from committee.flatness import LocalEnergyProfile
from deep.config import TrainingConfig
from deep.run_folders import dataset_name


def read_table(path: Path) -> dict[str, list[str]]:
    """Columns of a CSV file. Raises ``ValueError`` where there is none or a row is too short."""
    if not path.is_file():
        raise ValueError(f"table is {str(path)!r}, where there is no file.")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or any(None in row or None in row.values() for row in rows):
        raise ValueError(f"{path} is no table; a header and rows of the same length were expected.")
    return {name: [row[name] for row in rows] for name in rows[0]}


def run_columns(
    folders: Sequence[Path], sigmas: Sequence[float]
) -> tuple[list[str], dict[str, list[Any]]]:
    """The settings but the seed in which finished runs differ, and columns with an entry a run.

    The columns: run, the settings, ``local_energy_<σ>``, weight_norm (‖w‖₂ of all parameters), the
    Hessian's largest eigenvalue and trace where all runs have them, the standard errors of these,
    train_error, test_error, gap.
    Raises ``ValueError`` for a run that is not finished or whose flatness was not measured.
    """
    rows = [flatness_of(folder, sigmas) | errors_of(folder) for folder in folders]
    differing = differing_settings(folders)
    everywhere = [name for name in rows[0] if all(name in row for row in rows)]
    columns = {name: [row[name] for row in rows] for name in everywhere}
    return [name for name in differing if name != "seed"], {
        "run": [str(f) for f in folders],
        **differing,
        **columns,
    }


def differing_settings(folders: Sequence[Path]) -> dict[str, list[str]]:
    """The settings in which runs differ, the seed among them, with an entry a run.

    Raises ``ValueError`` for a folder that is no run.
    """
    configs = [
        TrainingConfig.from_json(_json(folder / "config.json", "a run")) for folder in folders
    ]
    settings = {
        field.name: [_as_on_the_command_line(getattr(config, field.name)) for config in configs]
        for field in fields(TrainingConfig)
    }
    settings["dataset"] = [dataset_name(config) for config in configs]
    return {name: values for name, values in settings.items() if len(set(values)) > 1}


def _as_on_the_command_line(value: Any) -> str:
    """300 and 300.0 are the same."""
    if isinstance(value, dict):
        value = [word for pair in value.items() for word in pair]
    if isinstance(value, list | tuple):
        return " ".join(map(_as_on_the_command_line, value))
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:g}" if number else str(value)


def errors_of(folder: Path) -> dict[str, float]:
    """train_error, test_error and gap of a run. Raises ``ValueError`` if it is not finished."""
    result = _json(folder / "result.json", "a finished run")
    train, test = float(result["train_error"]), float(result["test_error"])
    return {"train_error": train, "test_error": test, "gap": test - train}


def flatness_of(folder: Path, sigmas: Sequence[float]) -> dict[str, float]:
    """``local_energy_<σ>``, weight_norm and, where they were measured, the Hessian's numbers.

    Those of estimates from random vectors have a ``standard_error_<number>`` beside them. Raises
    ``ValueError`` for a run whose flatness was not measured, and at other sigmas.
    """
    measured = _json(folder / "flatness" / "final.json", "a run after python -m deep flatness")
    arrays = {name: np.array(value) for name, value in measured["profile"].items()}
    profile = LocalEnergyProfile(**arrays, samples=measured["options"]["samples"])
    row = {}
    for sigma in sigmas:
        row[f"local_energy_{sigma:g}"] = float(profile.at(sigma))
        error = np.interp(sigma, profile.sigma, profile.standard_error)
        row[f"standard_error_local_energy_{sigma:g}"] = float(error)
    row["weight_norm"] = measured["weight_norm"]
    if (file := folder / "hessian" / "final.json").exists():
        hessian = json.loads(file.read_text())
        row["hessian_eigenvalue_1"] = hessian["spectrum"]["eigenvalues"][0]
        row["hessian_trace"] = hessian["trace"]["trace"]
        row["standard_error_hessian_trace"] = hessian["trace"]["standard_error"]
    return row


def _json(path: Path, expected: str) -> dict[str, Any]:
    if not path.exists():
        raise ValueError(f"there is no {path}; the folder of {expected} was expected.")
    content: dict[str, Any] = json.loads(path.read_text())
    return content
