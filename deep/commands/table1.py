"""``python -m deep table1``: train what Table 1 lacks, print it beside the paper's numbers."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Annotated, Literal

import torch.distributed as dist
import tyro

from deep.config import ALGORITHMS, Algorithm
from deep.cost import SHAPES, Speed, gradients, hours, measure_speed
from deep.place import Place
from deep.run_folders import RunInUseError
from deep.table1 import ROWS, Cell, cells, state_of, stored_result, table_rows, table_text
from deep.training import DivergedError, train
from message_passing.tools.files import write_atomically, write_csv


@dataclass(frozen=True)
class Table1Command:
    """Train the cells of Table 1 that are missing, then print the table beside the paper's.

    Row by row in the table's order, of a row all algorithms for each seed. Complete runs (also
    those of ``python -m deep train``) are not trained again, interrupted ones continue. The table
    counts every complete seed in --runs. Several of these commands may share a folder: each run
    is trained by one of them. Writes table1.csv and table1.md.
    """

    rows: tuple[str, ...] = ROWS
    """Rows to train, <data set>-<model>."""
    algorithms: tuple[Algorithm, ...] = ALGORITHMS
    """Columns to train."""
    seeds: tuple[int, ...] = (0,)
    """Seeds to train, one run each."""
    budget: Annotated[float | None, tyro.conf.arg(metavar="HOURS")] = None
    """Stop after so many hours, at the next row of the log; none: when all is there."""
    dry_run: bool = False
    """Train nothing: list the cells, what is there of them and what the rest costs here."""
    runs: Path = Path("runs")
    """Folder for the runs: <runs>/<dataset>-<model>-<algorithm>/seed-<n>."""
    passes: float | None = None
    """For a look: so many passes in each run. Kept apart, in <runs>/passes-<n>."""
    archives: dict[str, Path] = field(default_factory=dict)
    """Image-folder archives to take for data sets, e.g. cifar10 cifar10-jpeg.tar.xz."""
    device: str = "auto"
    """auto, cpu, cuda."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Number format of the networks' passes; auto: bf16 on a GPU, float32 elsewhere."""
    data_folder: Path | None = None
    """Where the official archives are; else $WIDE_FLAT_MINIMA_DATA, the cache, a download."""


def main(command: str, arguments: Sequence[str]) -> None:
    """Train what is missing, or list it; print and write the table."""
    chosen = tyro.cli(Table1Command, prog=f"python -m deep {command}", args=arguments)
    if dist.is_available() and dist.is_torchelastic_launched():
        raise ValueError("table1 was started by torchrun; use torchrun with the train command.")
    if chosen.budget is not None and not (math.isfinite(chosen.budget) and chosen.budget > 0):
        raise ValueError(f"budget is {chosen.budget}; a positive number of hours was expected.")
    for archive in chosen.archives.values():
        if not archive.exists():
            raise ValueError(f"archives has {str(archive)!r}, which is not there.")
    selected = cells(chosen.rows, chosen.algorithms, chosen.passes, chosen.archives)
    runs = chosen.runs if chosen.passes is None else chosen.runs / f"passes-{chosen.passes:g}"
    if chosen.dry_run:
        _list(selected, chosen, runs)
        return
    _train(selected, chosen, runs)
    results = [
        stored_result(runs, cell) for cell in cells(passes=chosen.passes, archives=chosen.archives)
    ]
    text = table_text(results, chosen.passes)
    write_csv(runs / "table1.csv", table_rows(results))
    write_atomically(runs / "table1.md", lambda file: file.write(text.encode()))
    print(f"{text}\nwritten: {runs / 'table1.csv'} and {runs / 'table1.md'}")


def _train(selected: Sequence[Cell], chosen: Table1Command, runs: Path) -> None:
    """One run after another, until all are there or the budget is used."""
    configs = [
        replace(cell.config, seed=seed)
        for row in dict.fromkeys(cell.row for cell in selected)
        for seed in chosen.seeds
        for cell in selected
        if cell.row == row
    ]
    for config in configs:
        if (state := state_of(runs, config)).kind == "other":
            raise ValueError(f"{state.problem} Move it away, or choose another --runs.")
    start = monotonic()

    def used() -> bool:
        return chosen.budget is not None and monotonic() - start >= 3600 * chosen.budget

    for config in configs:
        # Read again: another process may have trained it meanwhile.
        state = state_of(runs, config)
        if state.kind == "complete":
            continue
        if state.kind == "diverged":
            print(state.problem)
            continue
        if used():
            break
        try:
            result = train(
                config, state.folder, chosen.device, data_folder=chosen.data_folder,
                precision=chosen.precision, stop_when=used,
            )  # fmt: skip
        except (DivergedError, RunInUseError) as error:
            print(f"{state.folder}: {error}")
            continue
        if result is None:
            break
    else:
        return
    print(f"The budget of {chosen.budget:g} h is used; the same command again continues.")


def _list(selected: Sequence[Cell], chosen: Table1Command, runs: Path) -> None:
    """The cells with their state and cost."""
    place = Place(chosen.device, chosen.precision)
    speed_of = _speeds(place)
    print(
        f"Hours on {place.name()} in {'bf16' if place.bf16 else 'float32'}; gradients: of "
        "minibatches, for one seed.\n"
    )
    print(f"{'cell':<34} {'passes':>6} {'gradients':>10} {'h a seed':>9} {'h left':>9}  state")
    total = 0.0
    for cell in selected:
        shape = SHAPES[cell.dataset]
        states = [state_of(runs, replace(cell.config, seed=seed)) for seed in chosen.seeds]
        whole = hours(cell.config, shape, speed_of(cell))
        unfinished = [state for state in states if state.kind in ("missing", "interrupted")]
        left = sum(whole * (1 - state.done) for state in unfinished)
        total += left
        replicas = cell.config.replicas if cell.config.algorithm == "rsgd-xy" else 1
        descriptions = []
        for seed, state in zip(chosen.seeds, states, strict=True):
            passes = cell.config.passes * replicas
            where = f" at pass {passes * state.done:.4g} of {passes:g}"
            at = where if state.kind in ("interrupted", "diverged") else ""
            kind = "another run" if state.kind == "other" else state.kind
            descriptions.append(f"seed {seed} {kind}{at}")
        print(
            f"{cell.row + ' ' + cell.config.algorithm:<34} {cell.config.passes:6g} "
            f"{gradients(cell.config, shape):10d} {whole:9.2f} {left:9.2f}  "
            f"{', '.join(descriptions)}",
            flush=True,
        )
        for state in states:
            if state.problem:
                print(f"  {state.problem}")
    print(f"\ntotal: {total:.2f} hours left")


def _speeds(place: Place) -> Callable[[Cell], Speed]:
    """Timings, one for each network, size of its images and of its minibatches."""
    known: dict[tuple[str, int, int], Speed] = {}

    def speed_of(cell: Cell) -> Speed:
        config, shape = cell.config, SHAPES[cell.dataset]
        key = config.model, config.image_size or shape.side, config.batch_size
        if key not in known:
            print(f"timing {cell.model}", file=sys.stderr)
            known[key] = measure_speed(config, shape, place)
        return known[key]

    return speed_of
