"""Results as tables: one row per algorithm, one row per run; as CSV and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from committee.deviations import deviations
from committee.results import ExperimentResults, VariantResults
from committee.statistics import (
    DISTANCES,
    SIGMAS,
    RunTable,
    compare_algorithms,
    correlate,
    run_table,
)
from message_passing.tools.files import write_csv


def summarise(results: ExperimentResults) -> list[dict[str, Any]]:
    """One row per algorithm: counts, means, standard errors over the restarts.

    ``solved`` counts runs without training errors. The local entropy of the others counts the
    configurations with at most as many errors (eq. 3 of [P21]); ``n`` of a local entropy counts
    the runs whose curve converged as far as that distance.
    """
    return [_summary(variant, results.engines) for variant in results.variants.values()]


class Statistics(NamedTuple):
    """Rows of comparisons.csv and correlations.csv (see ``committee.statistics``), and of
    deviations.csv (see ``committee.deviations``)."""

    comparisons: list[dict[str, Any]]
    correlations: list[dict[str, Any]]
    deviations: list[dict[str, Any]]


def write_tables(results: ExperimentResults, folder: str | Path) -> Statistics:
    """Write summary.csv, runs.csv, comparisons.csv, correlations.csv and deviations.csv.

    ``comparisons.csv`` is written where there are two algorithms at least, ``deviations.csv``
    where there are curves by Monte Carlo and by another engine.
    """
    folder = Path(folder)
    summary = summarise(results)
    constant: dict[str, Any] = dict.fromkeys(summary[0], "")
    constant |= {"algorithm": "constant answer", "test_error": results.constant_test_error}
    write_csv(folder / "summary.csv", [*summary, constant])
    table = run_table(results)
    write_csv(folder / "runs.csv", _run_rows(results, table))
    comparisons = compare_algorithms(table)
    if comparisons:
        write_csv(folder / "comparisons.csv", comparisons)
    correlations = correlate(table)
    write_csv(folder / "correlations.csv", correlations)
    from_monte_carlo = deviations(results)
    if from_monte_carlo:
        write_csv(folder / "deviations.csv", from_monte_carlo)
    return Statistics(comparisons, correlations, from_monte_carlo)


def closing_table(results: ExperimentResults) -> str:
    """Text of the table that a run of figure1 or figure6 ends with."""
    engines = results.engines
    header = ["algorithm", "met rule", "no errors", "epochs", "test error %"]
    header += [f"δE({sigma:g})" for sigma in SIGMAS]
    header += [f"Φ({distance:g}) {engine} ×1e-3" for engine in engines for distance in DISTANCES]
    rows = []
    for row in summarise(results):
        n = row["restarts"]
        cells = [row["algorithm"], f"{row['stopped']}/{n}", f"{row['solved']}/{n}"]
        cells += [f"{row['epochs']:.0f}", _value(row, "test_error", 100, 2)]
        cells += [_value(row, f"local_energy_{sigma:g}", 1, 4) for sigma in SIGMAS]
        cells += [
            _value(row, f"local_entropy_{engine}_{distance:g}", 1000, 3)
            for engine in engines
            for distance in DISTANCES
        ]
        rows.append(cells)
    constant = 100 * results.constant_test_error
    return (
        f"{results.data_description}\n\n{_align([header, *rows])}\n\n"
        f"Constant answer: test error {constant:.2f} %. Means ± standard errors over restarts; "
        "Φ counts\nthe configurations with at most the training errors of the run itself."
    )


def comparison_table(comparisons: Sequence[Mapping[str, Any]], engine: str | None) -> str:
    """Text: differences between the algorithms, with their significance (Holm)."""
    chosen = _main_quantities(engine)
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for row in comparisons:
        known = np.isfinite(row["p_holm"])
        difference = f"{row['difference']:+.2g} ± {row['standard_error']:.1g}"
        cell = f"{difference} (p = {row['p_holm']:.2g})" if known else "–"
        rows.setdefault((row["first"], row["second"]), {})[row["quantity"]] = cell
    names = [quantity for quantity in chosen if any(quantity in cells for cells in rows.values())]
    body = [
        [f"{first} − {second}", *(cells[name] for name in names)]
        for (first, second), cells in rows.items()
    ]
    return _align([["", *names], *body])


def correlation_table(correlations: Sequence[Mapping[str, Any]], engine: str | None) -> str:
    """Text: how test error, local energy and local entropy (one engine) go together."""
    chosen = _main_quantities(engine)
    header = ["", "", "over", "n", "Pearson", "Spearman"]
    rows: dict[tuple, list[str]] = {}
    for row in correlations:
        if row["first"] in chosen and row["second"] in chosen:
            key = (row["first"], row["second"], row["scope"], str(row["n"]))
            rows.setdefault(key, []).append(
                f"{row['correlation']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"
                if np.isfinite(row["correlation"])
                else "–"
            )
    return _align([header, *([*key, *cells] for key, cells in rows.items())])


def deviation_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Text: deviations from Monte Carlo, one line per algorithm, one column per distance."""
    columns = list(dict.fromkeys(f"{row['engine']} at {row['distance']:g}" for row in rows))
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        error = row["standard_error"] if np.isfinite(row["standard_error"]) else row["mc_error"]
        text = f"{100 * row['deviation']:+.1f} ± {100 * error:.1f} % (n={row['n']})"
        name = f"{row['engine']} at {row['distance']:g}"
        cells.setdefault(row["algorithm"], {})[name] = text if row["n"] else "–"
    body = [[algorithm, *(found[c] for c in columns)] for algorithm, found in cells.items()]
    return _align([["", *columns], *body])


def _main_quantities(engine: str | None) -> tuple[str, ...]:
    return "test error", "local energy at 1", f"local entropy ({engine}) at 0.3"


def _summary(variant: VariantResults, engines: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "algorithm": variant.name,
        "restarts": len(variant.restarts),
        "stopped": int(variant.stopped.sum()),
        "solved": int(np.sum(variant.train_error == 0)),
        "epochs": float(variant.epochs.mean()),
    }
    row |= _mean("train_error", variant.train_error)
    row |= _mean("test_error", variant.test_error)
    for sigma in SIGMAS:
        row |= _mean(f"local_energy_{sigma:g}", variant.profile.at(sigma))
    for engine in engines:
        values = variant.local_entropy(engine, np.array(DISTANCES))
        for distance, column in zip(DISTANCES, values.T, strict=True):
            name = f"local_entropy_{engine}_{distance:g}"
            row |= _mean(name, column) | {f"{name}_n": int(np.sum(np.isfinite(column)))}
    return row


def _mean(name: str, values: NDArray[np.float64]) -> dict[str, float]:
    values = values[np.isfinite(values)]
    n = len(values)
    return {
        name: float(values.mean()) if n else np.nan,
        f"{name}_se": float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else np.nan,
    }


def _run_rows(results: ExperimentResults, table: RunTable) -> list[dict[str, Any]]:
    variants = list(results.variants.values())
    columns: dict[str, NDArray] = {
        "algorithm": table.algorithm,
        "restart": table.restart,
        "epochs": np.concatenate([v.epochs for v in variants]),
        "stopped": np.concatenate([v.stopped for v in variants]),
        "train error": np.concatenate([v.train_error for v in variants]),
        **table.quantities,
    }
    return [
        {name.replace(" ", "_"): column[i] for name, column in columns.items()}
        for i in range(len(table.restart))
    ]


def _value(row: Mapping[str, Any], name: str, factor: float, digits: int) -> str:
    mean, error = factor * row[name], factor * row[f"{name}_se"]
    if not np.isfinite(mean):
        return "–"
    return f"{mean:.{digits}f}" + (f" ± {error:.{digits}f}" if np.isfinite(error) else "")


def _align(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
