"""Tables of results, as CSV and in print: by algorithm, by draw, by run, by comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from committee.correlations import correlate
from committee.results import ExperimentResults
from committee.statistics import (
    compare_algorithms,
    constant_test_error,
    deviations,
    disagreements,
    quantities,
    unit_of,
    without_collapsed,
)
from message_passing.tools.files import write_table
from message_passing.tools.tables import ERROR, to_markdown, with_error

if TYPE_CHECKING:
    import pandas as pd

SCALES = {"test": 100.0, "Φ": 1e3}  # by the first letters of a heading
MOST_DECIMALS = 5


def summarise(runs: pd.DataFrame, by: Sequence[str] = ("algorithm",)) -> pd.DataFrame:
    """One row per algorithm: counts, means, standard errors over the draws.

    Parameters
    ----------
    runs : DataFrame
        ``ExperimentResults.to_frame()``.
    by : columns
        ``("algorithm", "draw")`` gives one row per algorithm and draw. Errors are over the
        restarts then.

    The mean is over the means of the draws, so each draw has the same weight. With a single draw
    it is over the restarts; ``unit`` says which. ``draws`` and ``n`` count draws and runs,
    ``converged`` runs that met their stopping rule, ``solved`` runs without training errors, and
    ``collapsed`` runs with a constant answer. ``epochs`` is the median over all runs. ``censored``
    is the fraction of runs that did not meet their rule within ``max_epochs``. If it exceeds one
    half, the median is a lower bound. These numbers include collapsed runs, the means do not. A
    local entropy counts the configurations with at most the training errors of the run itself
    (eq. 3 of [P21]). A mean over fewer runs or draws has columns ``…_n`` and ``…_draws``.
    """
    by, measured = [*by], ["train_error", *quantities(runs)]
    unit = "restart" if "draw" in by else unit_of(runs)
    known = without_collapsed(runs).assign(solved=runs["train_error"] == 0)
    groups = known.groupby(by, sort=False)
    units = known.groupby([*by, unit], sort=False)[measured].mean().groupby(by, sort=False)
    summary = groups["draw"].nunique().rename("draws").to_frame()
    summary.insert(0, "unit", unit)
    summary["n"] = groups.size()
    for name in ("converged", "solved", "collapsed"):
        summary[name] = groups[name].sum()
    summary["epochs"] = groups["epochs"].median()
    summary["censored"] = 1 - groups["converged"].mean()
    for name in measured:
        summary[name], summary[name + ERROR] = units[name].mean(), units[name].sem()
        if not (count := groups[name].count()).equals(groups.size()):
            summary[f"{name}_n"] = count
            if unit == "draw":
                summary[f"{name}_draws"] = units[name].count()
    return summary.reset_index()


def write_tables(results: ExperimentResults, folder: str | Path) -> dict[str, pd.DataFrame]:
    """Write and return the tables of an experiment, by their names.

    ``summary``, ``draws``, ``runs`` and ``correlations`` always exist. ``comparisons`` needs two
    algorithms. ``deviations`` needs curves by Monte Carlo and by another engine. ``disagreements``
    needs a pair whose order depends on the flatness measure (see ``committee.statistics``). The
    file of a table without rows is removed.
    """
    import pandas as pd

    runs = results.to_frame()
    constant = {"algorithm": ["constant answer"], "test_error": [constant_test_error(results)]}
    tables = {
        "summary": pd.concat([summarise(runs).convert_dtypes(), pd.DataFrame(constant)]),
        "draws": summarise(runs, ["algorithm", "draw"]).drop(columns="draws"),
        "runs": runs,
        "comparisons": compare_algorithms(runs),
        "correlations": correlate(runs),
        "deviations": deviations(results),
        "disagreements": disagreements(runs),
    }
    for name, table in tables.items():
        path = Path(folder) / f"{name}.csv"
        if len(table):
            write_table(path, table)
        else:
            path.unlink(missing_ok=True)
    return {name: table for name, table in tables.items() if len(table)}


def closing_text(results: ExperimentResults, tables: Mapping[str, pd.DataFrame]) -> str:
    """Closing text of figure1 and figure6: all tables, with their headings."""
    engine = results.engines[0] if results.engines else None
    parts = {"": closing_table(results)}
    if "comparisons" in tables:
        heading = "Differences between the algorithms, paired by draw and restart"
        parts[heading] = comparison_table(tables["comparisons"], engine)
    if "disagreements" in tables:
        heading = "Pairs of which local energy calls the one flatter and local entropy the other"
        parts[heading] = disagreement_table(tables["disagreements"])
    if "deviations" in tables:
        parts["Local entropy: deviations from Monte Carlo"] = deviation_table(tables["deviations"])
    heading = "Correlations of the test error with flatness, with 95 % confidence intervals"
    parts[heading] = correlation_table(tables["correlations"], engine)
    return "\n\n".join(f"{name}\n{text}".strip() for name, text in parts.items())


def closing_table(results: ExperimentResults) -> str:
    """Text: counts and means of each algorithm."""
    summary = summarise(results.to_frame())
    unit, draws = summary["unit"].iloc[0], len(results.patterns)
    for name in ("converged", "solved", "collapsed"):
        summary[name] = [f"{x}/{n}" for x, n in zip(summary[name], summary["n"], strict=True)]
    epochs = zip(summary["epochs"], summary["censored"], strict=True)
    summary["epochs"] = [f"{'≥ ' * (cut > 0.5)}{epoch:.0f}" for epoch, cut in epochs]
    counts = ("_n", "_draws")
    hidden = ["unit", "draws", "n", "censored", "train_error", f"train_error{ERROR}"]
    hidden += [name for name in map(str, summary) if name.endswith(counts)]
    shown = summary.drop(columns=hidden).rename(columns=_heading)
    scales, digits = _scales(shown), {}
    for name in map(str, shown):
        if name + ERROR in shown:
            digits[name] = _decimals(shown[name + ERROR] * scales.get(name, 1.0))
    description = next(iter(results.patterns.values())).description
    more = f" (first of {draws} draws of the training patterns)" if draws > 1 else ""
    return (
        f"{description}{more}\n\n{to_markdown(shown, scales, digits)}\n\n"
        f"Constant answer: test error {100 * constant_test_error(results):.2f} %. Means ± standard "
        f"errors over {unit}s, without\ncollapsed runs. Epochs are medians; ≥ where most runs did "
        "not meet their stopping rule. Φ counts the\nconfigurations with at most the training "
        "errors of the run itself."
    )


def comparison_table(comparisons: pd.DataFrame, engine: str | None) -> str:
    """Text: differences between the algorithms, with their significance (Holm)."""
    import pandas as pd

    lines: list[dict[str, str]] = []
    for name, family in comparisons.groupby("quantity", sort=False):
        if name not in _main_quantities(engine):
            continue
        scale = _scale(_heading(str(name)))
        digits = _decimals(family[f"difference{ERROR}"] * scale)
        for row in family.to_dict("records"):
            low, high = (f"{scale * row[end]:+.{digits}f}" for end in ("low", "high"))
            effect = [f"{row[f'effect_size{end}']:+.1f}" for end in ("", "_low", "_high")]
            value, error = row["difference"], row[f"difference{ERROR}"]
            lines.append(
                {
                    "quantity": _heading(str(name)),
                    "pair": f"{row['first']} − {row['second']}",
                    f"{row['unit']}s": f"{row['n']}",
                    "difference": with_error(value, error, digits, scale),
                    "95 % interval": f"[{low}, {high}]" if row["n"] > 1 else "–",
                    "of the second": _known(row["share"], "{:+.0%}"),
                    "effect size": _known(row["effect_size_low"], "{} [{}, {}]".format(*effect)),
                    "p (Holm)": _known(row["p_holm"], "{:.2g}"),
                }
            )
    note = (
        "Student's t over the draws; it assumes that the differences of the draws are independent "
        "and normal.\nEffect size: difference / its standard deviation over draws."
        if (comparisons["unit"] == "draw").all()
        else "One draw of the training patterns: errors are over its restarts and hold for this "
        "draw alone.\nA test over draws needs two draws or more."
    )
    return f"{to_markdown(pd.DataFrame(lines))}\n\n{note}"


def disagreement_table(rows: pd.DataFrame) -> str:
    """Text: which algorithm of a pair is flatter by δE(1), and which by Φ_LE(0.3)."""
    shown = rows[["first", "second", "engine", "unit", "n"]].copy()
    for measure in ("local_energy", "local_entropy"):
        heading = {"local_energy": "δE(1)", "local_entropy": "Φ(0.3)"}[measure]
        cells = zip(rows[f"by_{measure}"], rows[f"t_{measure}"], strict=True)
        shown[f"flatter by {heading}"] = [f"{name} (t = {t:+.1f})" for name, t in cells]
    return to_markdown(shown)


def correlation_table(correlations: pd.DataFrame, engine: str | None) -> str:
    """Text: correlations of the test error with local energy and one engine's local entropy."""
    rows = correlations[correlations["second"].isin(_main_quantities(engine))].copy()
    columns = ("correlation", "low", "high")
    rows["cell"] = [
        _known(value, "{:+.2f}") + (f" [{low:+.2f}, {high:+.2f}]" if np.isfinite(low) else "")
        for value, low, high in zip(*(rows[name] for name in columns), strict=True)
    ]
    rows["flatness"] = rows["second"].map(_heading)
    whole = rows["values"] == "as measured"
    lines = ["flatness", "scope"]
    rows = rows.merge(
        rows.loc[whole, [*lines, "n"]].drop_duplicates(), on=lines, suffixes=("", "_")
    )
    rows["share"] = rows["second_share"].map(lambda share: _known(share, "{:.0%}"))
    rows["column"] = rows["kind"] + ", " + rows["values"]
    text = _cells(rows.drop(columns="n").rename(columns={"n_": "n"}), [*lines, "n", "share"])
    unit = rows["unit"].iloc[0]
    return (
        f"{text}\n\nStandardised: by algorithm and draw. Share: part of the algorithm in the sum\n"
        "of squares of flatness around the means of algorithm and draw. Intervals: bootstrap\n"
        f"over {unit}s. Without collapsed runs."
    )


def deviation_table(rows: pd.DataFrame) -> str:
    """Text: deviations from Monte Carlo, one line per algorithm, one column per distance."""
    rows = rows.copy()
    rows["column"] = rows["engine"] + " at " + rows["distance"].map("{:g}".format)
    error = rows[f"deviation{ERROR}"].fillna(rows["mc_error"])
    rows["cell"] = [
        f"{with_error(x, e, digits=1, scale=100)} % (n={n})" if n else "–"
        for x, e, n in zip(rows["deviation"], error, rows["n"], strict=True)
    ]
    return _cells(rows, ["algorithm"])


def _cells(rows: pd.DataFrame, lines: list[str]) -> str:
    """Table of ``cell``, indexed by ``lines`` and ``column`` in the order of the rows."""
    table = rows.pivot_table("cell", lines, "column", aggfunc="first", sort=False)
    return to_markdown(table.reset_index())


def _main_quantities(engine: str | None) -> tuple[str, ...]:
    return ("test_error", "local_energy_1", f"local_entropy_{engine}_0.3")


def _known(value: float, form: str) -> str:
    return form.format(value) if np.isfinite(value) else "–"


def _decimals(errors: pd.Series) -> int:
    """Decimals of a column that show two digits of its typical error."""
    typical = errors[errors > 0].median()
    if not np.isfinite(typical):
        return 3
    return int(np.clip(1 - np.floor(np.log10(typical)), 0, MOST_DECIMALS))


def _scale(heading: str) -> float:
    return next((x for start, x in SCALES.items() if heading.startswith(start)), 1.0)


def _scales(table: pd.DataFrame) -> dict[str, float]:
    return {name: _scale(name) for name in map(str, table) if _scale(name) != 1}


def _heading(name: str) -> str:
    """The printed name of a column."""
    if name.endswith(ERROR):
        return _heading(name.removesuffix(ERROR)) + ERROR
    if name.startswith("local_energy_"):
        return f"δE({name.split('_')[2]})"
    if name.startswith("local_entropy_"):
        engine, distance = name.split("_")[2:]
        return f"Φ({distance}) {engine} ×1e3"
    return "test error %" if name == "test_error" else name
