"""``python -m deep runs``: finished runs side by side, with standard errors over their seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from deep.run_table import in_markdown, over_seeds, run_table
from message_passing.tools.files import write_csv


@dataclass(frozen=True)
class RunsCommand:
    """Compare finished runs: the settings in which they differ, errors, flatness.

    Prints a table with a row for each choice of settings, means ± standard errors over the seeds.
    Flatness, the norm of the weights and the Hessian are there for runs that were measured before,
    by python -m deep flatness --hessian.
    """

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of finished runs."""
    sigmas: tuple[float, ...] = (0.3, 0.5)
    """Noise intensities of the local energy."""
    settings: tuple[str, ...] = ()
    """Settings to print (none: all in which the runs differ)."""
    output: Path = Path("runs.csv")
    """File for the table, a row for each run."""


def main(command: str, arguments: Sequence[str]) -> None:
    """Write the runs and print their means."""
    chosen = tyro.cli(RunsCommand, prog=f"python -m deep {command}", args=arguments)
    rows = run_table(chosen.folders, chosen.sigmas)
    print(in_markdown(over_seeds(rows), chosen.settings))
    print(f"written: {write_csv(chosen.output, rows)}")
