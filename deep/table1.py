"""``python -m deep table1``: train what Table 1 lacks, print it beside the paper's numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Annotated

import tyro

from deep.algorithms import ALGORITHMS
from deep.config import Hardware
from deep.run import run_folder
from deep.tables import ROWS, Cells, cells, costs, state_of, table1, table1_text
from message_passing.tools.files import write_atomically, write_table


@dataclass(frozen=True)
class Table1Command:
    """Train the cells of Table 1 that are missing, then print the table beside the paper's.

    Row by row in the table's order, of a row all algorithms for each seed. Complete runs (also runs
    of python -m deep train) are not trained again; interrupted ones resume. The table counts every
    complete seed in --runs. Several of these commands may share a folder, one for each GPU: each
    run is trained by one of them. Writes table1.csv and table1.md.
    """

    rows: tuple[str, ...] = ROWS
    """Rows to train, DATASET-MODEL."""
    algorithms: tuple[str, ...] = ALGORITHMS
    """Columns to train."""
    seeds: tuple[int, ...] = (0,)
    """Seeds to train, one run each."""
    budget: Annotated[float | None, tyro.conf.arg(metavar="HOURS")] = None
    """Stop after this time, at the next row of the log; None: when all is there."""
    dry_run: bool = False
    """Train nothing: list the cells, what is there of them and what the rest costs. Hours are from
    the speed of complete runs in --runs."""
    runs: Path = Path("runs")
    """Folder for the runs: RUNS/DATASET-MODEL-ALGORITHM/seed-N."""
    passes: float | None = None
    """For a look: N passes in each run. Kept apart, in RUNS/passes-N."""
    archives: dict[str, Path] = field(default_factory=dict)
    """Image-folder archives to take for data sets, e.g. cifar10 cifar10-jpeg.tar.xz. The table
    says so."""
    hardware: Annotated[Hardware, tyro.conf.arg(name="")] = field(default_factory=Hardware)

    def __post_init__(self) -> None:
        if self.budget is not None and not (math.isfinite(self.budget) and self.budget > 0):
            raise ValueError(f"budget is {self.budget}; a positive number of hours was expected.")
        check_seeds(self.seeds)


def check_seeds(seeds: tuple[int, ...]) -> None:
    """Raise ``ValueError`` for no seed, and for a seed twice."""
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds is {seeds}; at least one was expected, each once.")


def train_table1(chosen: Table1Command) -> None:
    """Train what is missing, or list it; print and write the table."""
    from deep.device import launched

    selected = cells(chosen.rows, chosen.algorithms, chosen.passes, chosen.archives)
    runs = chosen.runs if chosen.passes is None else chosen.runs / f"passes-{chosen.passes:g}"
    if chosen.dry_run:
        _list(selected, chosen, runs)
        return
    if launched():
        raise ValueError("table1 was started by torchrun; use torchrun with the train command.")
    _train(selected, chosen, runs)
    everything = cells(passes=chosen.passes, archives=chosen.archives)
    table, notes = table1(runs, everything)
    text = table1_text(table, notes, chosen.passes)
    write_table(runs / "table1.csv", table)
    write_atomically(runs / "table1.md", lambda file: file.write(text.encode()))
    print(f"{text}\nWritten: {runs / 'table1.csv'} and {runs / 'table1.md'}")


def _train(selected: Cells, chosen: Table1Command, runs: Path) -> None:
    """One run after another, until all are there or the budget is used."""
    from deep.training import DivergedError, train
    from message_passing.tools.run_folder import RunInUseError

    configs = [
        replace(config, seed=seed)
        for row in dict.fromkeys(cell[:2] for cell in selected)
        for seed in chosen.seeds
        for cell, config in selected.items()
        if cell[:2] == row
    ]
    for config in configs:
        state, problem = state_of(run_folder(runs, config), config)
        if state == "other":
            raise ValueError(f"{problem} Move it away, or choose another --runs.")
    used = _clock(chosen.budget)
    for config in configs:
        folder = run_folder(runs, config)
        # Read again: another process may have trained it meanwhile.
        state, problem = state_of(folder, config)
        if state in ("complete", "diverged"):
            print(problem, end="\n" if problem else "")
            continue
        if used():
            break
        try:
            result = train(
                config,
                folder,
                **vars(chosen.hardware),
                stop_when=used,
            )
        except (DivergedError, RunInUseError) as error:
            print(f"{folder}: {error}")
            continue
        if result is None:
            break
    else:
        return
    print(f"The budget of {chosen.budget:g} h is used; the same command again resumes.")


def _clock(budget: float | None) -> Callable[[], bool]:
    start = monotonic()
    return lambda: budget is not None and monotonic() - start >= 3600 * budget


def _list(selected: Cells, chosen: Table1Command, runs: Path) -> None:
    """The cells with their state and cost."""
    from message_passing.tools.tables import to_markdown

    table, problems = costs(runs, selected, chosen.seeds)
    print("\n".join([to_markdown(table), "", *problems]))
    hours = table["hours left"].sum(skipna=False)
    speed = f"; {hours:.1f} hours at the speed of the complete runs here" if hours >= 0 else ""
    print(f"Left: {table['PFLOP left'].sum():.4g} PFLOP{speed}.")
