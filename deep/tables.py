"""Printed tables of runs: means over seeds, in percent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deep.run import differing
from message_passing.tools.tables import ERROR, means, to_markdown

if TYPE_CHECKING:
    import pandas as pd

PERCENT = ("train_error", "test_error", "gap", "local_energy", "train_local", "test_local")


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Merge the complete rows of ``runs`` that differ only in the seed: n, means, standard errors.

    Raises ``ValueError`` if no run is complete.
    """
    complete = table[table["state"] == "complete"]
    if complete.empty:
        raise ValueError(f"none of {len(table)} runs is complete; at least one was expected.")
    first = [*complete].index("train_error")
    numbers = [name for name in [*complete][first:] if not name.endswith(ERROR)]
    settings = [name for name in differing(table) if name != "seed"]
    return means(complete, settings or ["algorithm"], numbers)


def in_markdown(table: pd.DataFrame) -> str:
    """A table of means, with errors and local energies in percent and without empty columns."""
    counts = [name for name in table if str(name).endswith("_n")]
    shown = table.drop(columns=counts).dropna(axis="columns", how="all")
    percent = [str(name) for name in shown if str(name).startswith(PERCENT)]
    percent = [name for name in percent if not name.endswith(ERROR)]
    named = {name + end: f"{name} %{end}" for name in percent for end in ("", ERROR)}
    scales = {f"{name} %": 100.0 for name in percent}
    return to_markdown(shown.rename(columns=named), scales)
