"""``python -m deep correlations``: flatness against error over runs, or over a table's rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from committee.flatness import LocalEnergyProfile
from deep.config import TrainingConfig
from deep.correlations import correlation_report
from message_passing.storage import write_csv


@dataclass(frozen=True)
class CorrelationsCommand:
    """Do flatness and error go together? Pearson, Spearman, Kendall, granulated Kendall.

    Of runs, the final networks are compared; their flatness has to be measured before, by
    python -m deep flatness (with --hessian the Hessian counts too), and the hyper-parameters are
    the settings in which the runs differ. Of a table the columns have to be named.
    """

    sources: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of finished runs, or one CSV file with a row for each network."""
    sigmas: tuple[float, ...] = (0.3, 0.5)
    """Noise intensities at which the local energy of runs is compared."""
    measures: tuple[str, ...] = ()
    """Columns of flatness (of runs: all of them)."""
    errors: tuple[str, ...] = ("test_error", "gap")
    """Columns of errors."""
    hyper_parameters: tuple[str, ...] = ()
    """Columns of hyper-parameters, for the granulated coefficients (of runs: all that differ)."""
    output: Path = Path("correlations.csv")
    """File for the report."""


def correlations_command(arguments: Sequence[str]) -> None:
    """Write and print the report."""
    command = tyro.cli(CorrelationsCommand, prog="python -m deep correlations", args=arguments)
    if not command.sources:
        raise ValueError("no run and no table was given; at least one was expected.")
    measures, hyper_parameters = list(command.measures), list(command.hyper_parameters)
    if command.sources[0].suffix == ".csv":
        if len(command.sources) > 1:
            raise ValueError(f"{len(command.sources)} tables were given; one was expected.")
        table = read_table(command.sources[0])
    else:
        names, table = run_columns(command.sources, command.sigmas)
        measures = measures or [n for n in table if n.startswith(("local_energy", "hessian"))]
        hyper_parameters = hyper_parameters or names
    if not measures:
        raise ValueError(f"measures is empty; some of the columns {[*table]} were expected.")
    report = correlation_report(
        {name: _numbers(table, name) for name in measures},
        {name: _numbers(table, name) for name in command.errors},
        {name: _column(table, name) for name in hyper_parameters},
    )
    write_csv(command.output, report)
    for row in report:
        limits = "" if np.isnan(row["low"]) else f"  95 % [{row['low']:5.2f}, {row['high']:5.2f}]"
        p_value = "" if np.isnan(row["p_value"]) else f"  p = {row['p_value']:.2g}"
        print(
            f"{row['measure']:<24} {row['error']:<12} {row['kind']:<28} n = {row['n']:<4} "
            f"{row['correlation']:5.2f}{limits}{p_value}"
        )
    print(f"written: {command.output}")


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
    """The settings in which finished runs differ, and columns with one entry for each run.

    The columns: run, the settings, ``local_energy_<σ>``, the Hessian's largest eigenvalue and
    trace where all runs have them, train_error, test_error, gap. Raises ``ValueError`` for a run
    that is not finished or whose flatness was not measured.
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
    return list(differing), {"run": [str(f) for f in folders], **differing, **columns}


def _run(folder: Path, sigmas: Sequence[float]) -> dict[str, float]:
    measured = _json(folder / "flatness" / "final.json", "a run after python -m deep flatness")
    arrays = {name: np.array(value) for name, value in measured["profile"].items()}
    profile = LocalEnergyProfile(**arrays, samples=measured["options"]["samples"])
    row = {f"local_energy_{sigma:g}": float(profile.at(sigma)) for sigma in sigmas}
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


def _column(table: dict[str, list[Any]], name: str) -> list[Any]:
    if name not in table:
        raise ValueError(f"there is no column {name!r}; one of {[*table]} was expected.")
    return table[name]


def _numbers(table: dict[str, list[Any]], name: str) -> list[float]:
    """A column as numbers; an empty entry is NaN."""
    try:
        return [float(value) if value != "" else np.nan for value in _column(table, name)]
    except ValueError as error:
        raise ValueError(f"column {name!r} is not of numbers: {error}.") from error
