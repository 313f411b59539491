"""Dependence of the results on choices that the paper leaves open: a table of variations.

Every row has one change: the balance of the patterns, the reduction of the loss, the averaging of
Entropy-SGD, or the reading of Replicated-SGD's elastic term. ``elastic_term`` decides that reading
on other draws, without test errors. The local entropy is by belief propagation, as in the paper, so
the rows compare with its published ranges.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from committee.algorithms import PUBLISHED
from committee.elastic_term import readings
from committee.variations import Variation, VariationOptions, measure_variations
from message_passing.tools.files import write_table
from message_passing.tools.tables import means, to_markdown

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SensitivityConfig(VariationOptions):
    """Vary the choices that the paper leaves open, with one row of a table per variation."""

    out: Path = Path("results/sensitivity")
    """Folder of the results. Running again with the same folder resumes."""


def variations() -> list[Variation]:
    """All rows of the table."""
    rows = []
    for name in ("sgd-fast", "sgd-slow", "esgd"):
        algorithm = PUBLISHED[name]
        rows.append(Variation("as in Figure 1", algorithm))
        rows.append(Variation("balanced patterns", algorithm, balanced=True))
        if name != "esgd":
            rows.append(Variation("mean of the loss", replace(algorithm, reduction="mean")))
    for averaging in (0.0, 0.5, 0.9):
        changed: dict[str, Any] = {"averaging": averaging}
        rows.append(Variation(f"averaging {averaging:g}", replace(PUBLISHED["esgd"], **changed)))
    rows += [Variation(f"elastic term {change}", own) for change, own in readings()[1:]]
    return rows


def run(config: SensitivityConfig) -> None:
    """Compute the missing runs, write ``sensitivity_runs.csv`` and ``sensitivity.csv``, print.

    Raises ``ValueError`` if the folder holds results of other settings.
    """
    runs = measure_variations(config, variations(), "What the paper leaves open", "bp")
    table = summarise(runs)
    write_table(config.out / "sensitivity_runs.csv", runs)
    write_table(config.out / "sensitivity.csv", table)
    print(to_markdown(table, {"test_error": 100, "constant_test_error": 100}))


def summarise(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per variation: counts of runs, and means ± standard errors over draws.

    Columns: ``n`` draws, ``runs``, ``met`` the stopping rule, ``with_errors``, ``collapsed``, the
    median of ``epochs``. Means leave out runs that collapsed onto the constant answer, and local
    entropies that did not converge.
    """
    keys = ["algorithm", "change"]
    measured = [c for c in map(str, runs) if c == "test_error" or c.startswith("local_energy")]
    measured.append("local_entropy")
    kept = runs.assign(with_errors=runs["training_errors"] > 0)
    kept.loc[kept["collapsed"], measured] = np.nan
    kept.loc[~kept["converged"], "local_entropy"] = np.nan
    groups = kept.groupby(keys, sort=False)
    counts = groups.agg(
        runs=("met", "size"), met=("met", "sum"), with_errors=("with_errors", "sum"),
        collapsed=("collapsed", "sum"), epochs=("epochs", "median"),
    )  # fmt: skip
    measured.append("constant_test_error")
    draws = kept.groupby([*keys, "draw"], sort=False)[measured].mean().reset_index()
    return counts.reset_index().merge(means(draws, keys, measured), on=keys)
