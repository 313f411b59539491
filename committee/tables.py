"""Results as tables: one row per algorithm, one row per run; as CSV and in print."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from committee.results import ExperimentResults
from committee.statistics import compare_algorithms, correlate, deviations, quantities
from message_passing.tools.files import write_table
from message_passing.tools.tables import ERROR, means, to_markdown, with_error

if TYPE_CHECKING:
    import pandas as pd


def summarise(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per algorithm: counts, means, standard errors over the restarts.

    Parameters
    ----------
    runs : DataFrame
        ``ExperimentResults.to_frame()``.

    ``n`` counts the runs; ``converged`` those that met their stopping rule; ``solved`` those
    without training errors; ``collapsed`` those with a constant answer, which are in the means
    too. A local entropy counts the configurations with at most the training errors of the run
    itself (eq. 3 of [P21]). It has a column ``…_n`` where some curves did not converge that far.
    """
    counted = runs.assign(solved=runs["train_error"] == 0)
    counts = counted.groupby("algorithm", sort=False)[["converged", "solved", "collapsed"]].sum()
    measured = ["epochs", "train_error", *quantities(runs)]
    summary = means(runs, "algorithm", measured)
    for place, name in enumerate(counts, start=2):
        summary.insert(place, name, counts[name].to_numpy())
    return summary


def write_tables(results: ExperimentResults, folder: str | Path) -> dict[str, pd.DataFrame]:
    """Write and return the tables of an experiment, by their names.

    ``summary``, ``runs`` and ``correlations`` are always there; ``comparisons`` where there are
    two algorithms at least; ``deviations`` where there are curves by Monte Carlo and by another
    engine (see ``committee.statistics``).
    """
    import pandas as pd

    runs = results.to_frame()
    constant = {
        "algorithm": ["constant answer"],
        "test_error": [results.patterns[0].constant_test_error],
    }
    tables = {
        "summary": pd.concat([summarise(runs).convert_dtypes(), pd.DataFrame(constant)]),
        "runs": runs,
        "comparisons": compare_algorithms(runs),
        "correlations": correlate(runs),
        "deviations": deviations(results),
    }
    tables = {name: table for name, table in tables.items() if len(table)}
    for name, table in tables.items():
        write_table(Path(folder) / f"{name}.csv", table)
    return tables


def closing_table(results: ExperimentResults) -> str:
    """Text of the table that a run of figure1 or figure6 ends with."""
    summary = summarise(results.to_frame())
    counts = {"converged", "solved", "collapsed"}
    for name in counts:
        summary[name] = [f"{x}/{n}" for x, n in zip(summary[name], summary["n"], strict=True)]
    shown = summary.drop(columns=["n", "train_error", f"train_error{ERROR}"])
    shown = shown.drop(columns=[name for name in map(str, shown) if name.endswith("_n")])
    shown = shown.rename(columns=_heading)
    scales = {"test error %": 100.0} | {name: 1e3 for name in map(str, shown) if name[0] == "Φ"}
    text = to_markdown(shown, scales, digits={"epochs": 0})
    constant = 100 * results.patterns[0].constant_test_error
    return (
        f"{results.patterns[0].description}\n\n{text}\n\n"
        f"Constant answer: test error {constant:.2f} %. Means ± standard errors over restarts; "
        "Φ counts\nthe configurations with at most the training errors of the run itself."
    )


def comparison_table(comparisons: pd.DataFrame, engine: str | None) -> str:
    """Text: differences between the algorithms, with their significance (Holm)."""
    chosen = _main_quantities(comparisons["quantity"], engine)
    rows = comparisons[comparisons["quantity"].isin(chosen)].copy()
    columns = ("difference", f"difference{ERROR}", "p_holm")
    rows["cell"] = [
        "–" if np.isnan(p) else f"{with_error(difference, error)} (p = {p:.2g})"
        for difference, error, p in zip(*(rows[name] for name in columns), strict=True)
    ]
    rows["pair"] = rows["first"] + " − " + rows["second"]
    return _cells(rows, ["pair"], "quantity")


def correlation_table(correlations: pd.DataFrame, engine: str | None) -> str:
    """Text: how test error, local energy and local entropy (one engine) go together."""
    both = correlations[["first", "second"]]
    chosen = _main_quantities(both.to_numpy().ravel(), engine)
    rows = correlations[both.isin(chosen).all(axis="columns")].copy()
    columns = ("correlation", "low", "high")
    rows["cell"] = [
        "–" if np.isnan(value) else f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"
        for value, low, high in zip(*(rows[name] for name in columns), strict=True)
    ]
    return _cells(rows, ["first", "second", "scope", "n"], "kind")


def deviation_table(rows: pd.DataFrame) -> str:
    """Text: deviations from Monte Carlo, one line per algorithm, one column per distance."""
    rows = rows.copy()
    rows["column"] = rows["engine"] + " at " + rows["distance"].map("{:g}".format)
    error = rows[f"deviation{ERROR}"].fillna(rows["mc_error"])
    rows["cell"] = [
        f"{with_error(x, e, digits=1, scale=100)} % (n={n})" if n else "–"
        for x, e, n in zip(rows["deviation"], error, rows["n"], strict=True)
    ]
    return _cells(rows, ["algorithm"], "column")


def _cells(rows: pd.DataFrame, lines: list[str], columns: str) -> str:
    """The column ``cell`` as a table of two dimensions, in the order of the rows."""
    table = rows.pivot_table("cell", lines, columns, aggfunc="first", sort=False)
    return to_markdown(table.reset_index())


def _main_quantities(names: Iterable[str], engine: str | None) -> list[str]:
    wanted = ("test_error", "local_energy_1", f"local_entropy_{engine}_0.3")
    found = set(names)
    return [name for name in wanted if name in found]


def _heading(name: str) -> str:
    """A column's name in print."""
    if name.endswith(ERROR):
        return _heading(name.removesuffix(ERROR)) + ERROR
    if name.startswith("local_energy_"):
        return f"δE({name.split('_')[2]})"
    if name.startswith("local_entropy_"):
        engine, distance = name.split("_")[2:]
        return f"Φ({distance}) {engine} ×1e-3"
    return "test error %" if name == "test_error" else name
