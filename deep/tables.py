"""Tables of runs in print: means over seeds, in percent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deep.run import differing
from message_passing.tools.tables import ERROR, means, to_markdown

if TYPE_CHECKING:
    import pandas as pd

PERCENT = ("train_error", "test_error", "gap", "local_energy", "train_local", "test_local")


def over_seeds(table: pd.DataFrame, settings: Sequence[str] = ()) -> pd.DataFrame:
    """The complete rows of ``runs`` that differ in the seed only, as one: n, means, errors.

    ``settings`` are the columns that are kept; by default all in which the runs differ. Raises
    ``ValueError`` for one in which they do not, and where no run is complete.
    """
    known = [name for name in differing(table) if name != "seed"]
    if unknown := [name for name in settings if name not in known]:
        raise ValueError(f"settings has {unknown[0]!r}; some of {known} were expected.")
    complete = table[table["state"] == "complete"]
    if complete.empty:
        raise ValueError(f"none of {len(table)} runs is complete; at least one was expected.")
    first = [*complete].index("train_error")
    numbers = [name for name in [*complete][first:] if not name.endswith(ERROR)]
    averaged = means(complete, known or ["algorithm"], numbers)
    return averaged[[*(settings or known or ["algorithm"]), *[*averaged][len(known or [1]) :]]]


def in_markdown(table: pd.DataFrame) -> str:
    """A table of means, errors and local energies in percent; what was not measured is left out."""
    counts = [name for name in table if str(name).endswith("_n")]
    shown = table.drop(columns=counts).dropna(axis="columns", how="all")
    percent = [str(name) for name in shown if str(name).startswith(PERCENT)]
    percent = [name for name in percent if not name.endswith(ERROR)]
    text = to_markdown(shown, dict.fromkeys(percent, 100))
    title, *lines = text.splitlines()
    for name in sorted(percent, key=len, reverse=True):
        title = title.replace(f" {name} ", f" {name} % ")
    return "\n".join([title, *lines])
