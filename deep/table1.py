"""Table 1 of [P21]: its 32 cells, and what a folder of runs holds of them."""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from deep.config import ALGORITHMS, Algorithm, TrainingConfig
from deep.recipes import PUBLISHED, TABLE, recipe
from deep.run_folders import cell_folder, difference, run_folder
from deep.standard_error import standard_error

ROWS = tuple(f"{dataset}-{model}" for dataset, model in TABLE)
NAMES: dict[Algorithm, str] = {"sgd": "SGD", "rsgd": "rSGD", "esgd": "eSGD", "rsgd-xy": "rSGD×y"}


@dataclass(frozen=True)
class Cell:
    """A cell of the table: the paper's data set and model, and the run behind it (of seed 0).

    ``config.dataset`` is the data set too, or the path of an image-folder archive of it.
    """

    dataset: str
    model: str
    config: TrainingConfig

    @property
    def row(self) -> str:
        """Name of the row."""
        return f"{self.dataset}-{self.model}"

    @property
    def data(self) -> str:
        """What it is trained on: the data set, or the file name of the archive."""
        return Path(self.config.dataset).name

    @property
    def published(self) -> tuple[float, float | None] | None:
        """The paper's test error in percent and its error, where printed."""
        return PUBLISHED[self.dataset, self.model].get(self.config.algorithm)


@dataclass(frozen=True)
class RunState:
    """What the folder of a run holds; ``done`` is the fraction of the run that is logged."""

    folder: Path
    kind: Literal["missing", "interrupted", "complete", "diverged", "other"]
    done: float = 0.0
    test_error: float | None = None
    problem: str = ""


@dataclass(frozen=True)
class CellResult:
    """The stored runs of a cell, of all seeds."""

    cell: Cell
    states: tuple[RunState, ...]

    @property
    def errors(self) -> list[float]:
        """Test errors of the complete runs in percent."""
        return [100 * s.test_error for s in self.states if s.test_error is not None]

    @property
    def mean(self) -> float | None:
        """Their mean."""
        return statistics.mean(self.errors) if self.errors else None

    @property
    def standard_error(self) -> float | None:
        """Standard error of the mean, from two runs on."""
        return standard_error(self.errors)


def cells(
    rows: Sequence[str] = ROWS,
    algorithms: Sequence[Algorithm] = ALGORITHMS,
    passes: float | None = None,
    archives: Mapping[str, Path] | None = None,
) -> list[Cell]:
    """The cells of these rows and columns, in the order of the table.

    With ``passes`` every run is shortened, or stretched, to so many. ``archives`` gives
    image-folder archives to take in place of data sets.

    Raises ``ValueError`` for unknown names, for passes that are not positive.
    """
    archives = archives or {}
    datasets = sorted({dataset for dataset, _ in TABLE})
    for kind, names, known in (
        ("rows", rows, ROWS), ("algorithms", algorithms, ALGORITHMS),
        ("archives", list(archives), datasets),
    ):  # fmt: skip
        for name in names:
            if name not in known:
                raise ValueError(f"{kind} has {name!r}; of {list(known)} was expected.")
    if passes is not None and not (math.isfinite(passes) and passes > 0):
        raise ValueError(f"passes is {passes}; a positive number was expected.")
    found = []
    for dataset, model in TABLE:
        if f"{dataset}-{model}" not in rows:
            continue
        for algorithm in ALGORITHMS:
            if algorithm not in algorithms:
                continue
            config = recipe(dataset, model, algorithm)
            config = config if passes is None else config.stretched(passes)
            config = replace(config, dataset=str(archives.get(dataset, dataset)))
            found.append(Cell(dataset, model, config))
    return found


def state_of(runs: Path, config: TrainingConfig) -> RunState:
    """What is there of a run."""
    folder = run_folder(runs, config)
    if problem := difference(folder, config):
        return RunState(folder, "other", problem=problem)
    result, log = folder / "result.json", folder / "log.csv"
    if not (folder / "config.json").exists():
        if result.exists() or log.exists():
            problem = f"{folder} holds a run without config.json, which may be another one."
            return RunState(folder, "other", problem=problem)
        return RunState(folder, "missing")
    if result.exists():
        error = float(json.loads(result.read_text())["test_error"])
        return RunState(folder, "complete", 1.0, error)
    if not log.exists():
        return RunState(folder, "interrupted")
    with log.open() as file:
        last = list(csv.DictReader(file))[-1]
    # The log of rsgd-xy counts the passes of all replicas together.
    total = config.passes * (config.replicas if config.algorithm == "rsgd-xy" else 1)
    done = float(last["passes"]) / total
    if not math.isfinite(float(last["train_loss"])):
        problem = f"{folder} diverged; delete it to try again."
        return RunState(folder, "diverged", done, problem=problem)
    return RunState(folder, "interrupted", done)


def stored_result(runs: Path, cell: Cell) -> CellResult:
    """All seeds of a cell that a folder of runs holds."""
    names = [p.name for p in cell_folder(runs, cell.config).glob("seed-*")]
    seeds = sorted(int(n[5:]) for n in names if n[5:].isdigit())
    return CellResult(
        cell, tuple(state_of(runs, replace(cell.config, seed=seed)) for seed in seeds)
    )


def table_rows(results: Sequence[CellResult]) -> list[dict[str, Any]]:
    """One row for each cell, errors in percent, empty where there is nothing."""
    rows = []
    for result in results:
        cell = result.cell
        value, error = cell.published or (None, None)
        rows.append(
            {
                "dataset": cell.dataset,
                "model": cell.model,
                "algorithm": cell.config.algorithm,
                "passes": cell.config.passes,
                "n": len(result.errors),
                "mean": _blank(result.mean),
                "se": _blank(result.standard_error),
                "published": _blank(value),
                "published_se": _blank(error),
                "data": cell.data,
            }
        )
    return rows


def _blank(value: float | None) -> float | str:
    return "" if value is None else value


def table_text(results: Sequence[CellResult], passes: float | None = None) -> str:
    """The table in Markdown, each row above the paper's, with notes on what to know of it."""
    found = {(r.cell.row, r.cell.config.algorithm): r for r in results}
    lines = [["data set", "model", "", *NAMES.values()]]
    for row in dict.fromkeys(r.cell.row for r in results):
        here, paper = [], []
        for algorithm in ALGORITHMS:
            result = found.get((row, algorithm))
            here.append("—" if result is None else _measured(result))
            paper.append("—" if result is None else _published(result.cell))
        cell = next(r.cell for r in results if r.cell.row == row)
        mark = " \\*" if cell.data != cell.dataset else ""
        lines += [[cell.dataset + mark, cell.model, "here", *here], ["", "", "paper", *paper]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rules = ["-" * width for width in widths]
    text = []
    for line in [lines[0], rules, *lines[1:]]:
        padded = [item.ljust(width) for item, width in zip(line, widths, strict=True)]
        text.append(f"| {' | '.join(padded)} |")
    return "\n".join([*text, "", *(f"- {note}" for note in _notes(results, passes))]) + "\n"


def _measured(result: CellResult) -> str:
    if result.mean is None:
        return "—"
    spread = "" if result.standard_error is None else f" ± {result.standard_error:.2f}"
    return f"{result.mean:.2f}{spread} (n={len(result.errors)})"


def _published(cell: Cell) -> str:
    if cell.published is None:
        return "—"
    value, error = cell.published
    return f"{value}" if error is None else f"{value} ± {error}"


def _notes(results: Sequence[CellResult], passes: float | None) -> list[str]:
    notes = ["Test error in percent; here: mean ± standard error over n seeds."]
    if passes is not None:
        notes.append(
            f"Short runs for a look: {passes:g} passes over the data each, not the published "
            "number; not to be compared with the paper."
        )
    archives = {r.cell.data: r.cell.dataset for r in results if r.cell.data != r.cell.dataset}
    for archive, dataset in archives.items():
        notes.append(
            f"\\* trained and tested on the image-folder archive {archive}, "
            f"the paper on the original {dataset}."
        )
    for state in (state for result in results for state in result.states):
        if state.kind == "interrupted":
            notes.append(f"Not counted: {state.folder}, {100 * state.done:.3g} % done.")
        elif state.problem:
            notes.append(f"Not counted: {state.problem}")
    return notes
