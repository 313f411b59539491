"""``python -m deep correlations``: flatness against error over runs, or over a table's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from deep.correlations import correlation_report
from deep.run_columns import read_table, run_columns
from message_passing.tools.files import write_csv


@dataclass(frozen=True)
class CorrelationsCommand:
    """Do flatness and error go together? Pearson, Spearman, Kendall, granulated Kendall.

    Of runs, the final networks are compared; their flatness has to be measured before, by
    python -m deep flatness (with --hessian the Hessian counts too), and the hyper-parameters are
    the settings but the seed in which the runs differ (name those that were varied where others
    follow them, as γ follows the algorithm). Of a table the columns have to be named.
    """

    sources: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of finished runs, or one CSV file with a row for each network."""
    sigmas: tuple[float, ...] = (0.3, 0.5)
    """Noise intensities at which the local energy of runs is compared."""
    measures: tuple[str, ...] = ()
    """Columns of flatness and norm (of runs: all of them)."""
    errors: tuple[str, ...] = ("test_error", "gap")
    """Columns of errors."""
    hyper_parameters: tuple[str, ...] = ()
    """Columns of hyper-parameters, for the granulated coefficients (of runs: all that differ)."""
    output: Path = Path("correlations.csv")
    """File for the report."""


def main(command: str, arguments: Sequence[str]) -> None:
    """Write and print the report."""
    chosen = tyro.cli(CorrelationsCommand, prog=f"python -m deep {command}", args=arguments)
    if not chosen.sources:
        raise ValueError("no run and no table was given; at least one was expected.")
    measures, hyper_parameters = list(chosen.measures), list(chosen.hyper_parameters)
    if chosen.sources[0].suffix == ".csv":
        if len(chosen.sources) > 1:
            raise ValueError(f"{len(chosen.sources)} tables were given; one was expected.")
        table = read_table(chosen.sources[0])
    else:
        names, table = run_columns(chosen.sources, chosen.sigmas)
        kinds = ("local_energy", "weight_norm", "hessian")
        measures = measures or [name for name in table if name.startswith(kinds)]
        hyper_parameters = hyper_parameters or names
    if not measures:
        raise ValueError(f"measures is empty; some of the columns {[*table]} were expected.")
    report = correlation_report(
        {name: _numbers(table, name) for name in measures},
        {name: _numbers(table, name) for name in chosen.errors},
        {name: _column(table, name) for name in hyper_parameters},
    )
    write_csv(chosen.output, report)
    for row in report:
        limits = "" if np.isnan(row["low"]) else f"  95 % [{row['low']:5.2f}, {row['high']:5.2f}]"
        p_value = "" if np.isnan(row["p_value"]) else f"  p = {row['p_value']:.2g}"
        print(
            f"{row['measure']:<24} {row['error']:<12} {row['kind']:<28} n = {row['n']:<4} "
            f"{row['correlation']:5.2f}{limits}{p_value}"
        )
    print(f"written: {chosen.output}")


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
