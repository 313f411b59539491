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
    Hessian's largest eigenvalue and trace where all runs have them, train_error, test_error, gap.
    Raises ``ValueError`` for a run that is not finished or whose flatness was not measured.
    """
    rows = [_run(folder, sigmas) for folder in folders]
    configs = [
        TrainingConfig.from_json(_json(folder / "config.json", "a run")) for folder in folders
    ]
    settings = {
        field.name: [str(getattr(config, field.name)) for config in configs]
        for field in fields(TrainingConfig)
    }
    differing = {name: values for name, values in settings.items() if len(set(values)) > 1}
    everywhere = [name for name in rows[0] if all(name in row for row in rows)]
    columns = {name: [row[name] for row in rows] for name in everywhere}
    return [name for name in differing if name != "seed"], {
        "run": [str(f) for f in folders],
        **differing,
        **columns,
    }


def _run(folder: Path, sigmas: Sequence[float]) -> dict[str, float]:
    measured = _json(folder / "flatness" / "final.json", "a run after python -m deep flatness")
    arrays = {name: np.array(value) for name, value in measured["profile"].items()}
    profile = LocalEnergyProfile(**arrays, samples=measured["options"]["samples"])
    row = {f"local_energy_{sigma:g}": float(profile.at(sigma)) for sigma in sigmas}
    row["weight_norm"] = measured["weight_norm"]
    if (file := folder / "hessian" / "final.json").exists():
        hessian = json.loads(file.read_text())
        row["hessian_eigenvalue_1"] = hessian["spectrum"]["eigenvalues"][0]
        row["hessian_trace"] = hessian["trace"]["trace"]
    result = _json(folder / "result.json", "a finished run")
    row["train_error"], row["test_error"] = result["train_error"], result["test_error"]
    row["gap"] = row["test_error"] - row["train_error"]
    return row


def _json(path: Path, expected: str) -> dict[str, Any]:
    if not path.exists():
        raise ValueError(f"there is no {path}; the folder of {expected} was expected.")
    content: dict[str, Any] = json.loads(path.read_text())
    return content
