"""``python -m deep table1``: train the missing cells of Table 1 of [P21], and print both tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from deep.algorithms import ALGORITHMS, KINDS
from deep.config import Hardware, TrainingConfig
from deep.recipes import TABLE, recipe
from deep.run import CELL, Run, cell_folder, check_folder, run_folder
from message_passing.tools.files import write_atomically, write_table
from message_passing.tools.tables import ERROR, means, to_markdown, with_error
from message_passing.tools.validation import check, check_seeds

if TYPE_CHECKING:
    import pandas as pd

ROWS = tuple(f"{dataset}-{model}" for dataset, model in TABLE)
DATASETS = tuple(dict.fromkeys(dataset for dataset, _ in TABLE))
Cells = dict[tuple[str, str, str], TrainingConfig]


@dataclass(frozen=True)
class Table1Command:
    """Train the missing cells of Table 1, then print the table together with the paper's.

    Rows are trained in the table's order; within a row, all algorithms for one seed, then the next
    seed. Complete runs (also runs of python -m deep train) are not trained again. Interrupted runs
    resume, so you can stop the command at any time (timeout 3h python -m deep table1). The table
    counts every complete seed in --runs. Several of these commands may share a folder, for example
    one per GPU; each run is then trained by only one. Writes table1.csv and table1.md.
    """

    rows: tuple[Literal[ROWS], ...] = ROWS  # type: ignore[valid-type]
    """Rows to train, DATASET-MODEL."""
    algorithms: tuple[Literal[ALGORITHMS], ...] = ALGORITHMS  # type: ignore[valid-type]
    """Columns (algorithms) to train."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the runs to train, one run each."""
    dry_run: bool = False
    """Train nothing. List the cells and the states of their runs."""
    runs: Path = Path("runs")
    """Folder for the runs: RUNS/DATASET-MODEL-ALGORITHM/seed-N."""
    passes: float | None = None
    """Passes of each run, for a quick preview. The runs are then in RUNS/passes-N."""
    archives: dict[Literal[DATASETS], Path] = field(  # type: ignore[valid-type]
        default_factory=dict
    )
    """Image-folder archives that replace data sets, e.g. cifar10 cifar10-jpeg.tar.xz. A note in the
    table says so."""
    hardware: Annotated[Hardware, tyro.conf.arg(name="")] = field(default_factory=Hardware)

    def __post_init__(self) -> None:
        check_seeds(self.seeds)


def train_table1(chosen: Table1Command) -> None:
    """Train the missing runs, then print and write the table; or list the runs."""
    from deep.device import launched

    selected = cells(chosen.rows, chosen.algorithms, chosen.passes, chosen.archives)
    runs = chosen.runs if chosen.passes is None else chosen.runs / f"passes-{chosen.passes:g}"
    if chosen.dry_run:
        listed = states(runs, selected, chosen.seeds)
        print(to_markdown(listed[[*CELL, "seed", "state", "done"]]))
        print("\n".join(problem for problem in listed["problem"] if problem))
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
    """Train the missing runs one after another."""
    from deep.training import DivergedError, train
    from message_passing.tools.run_folder import RunInUseError

    rows = dict.fromkeys(cell[:2] for cell in selected)
    configs = [
        replace(config, seed=seed)
        for row in rows
        for seed in chosen.seeds
        for cell, config in selected.items()
        if cell[:2] == row
    ]
    for config in configs:
        check_folder(run_folder(runs, config), config)
    for config in configs:
        folder = run_folder(runs, config)
        # Another process may have trained it in the meantime.
        if state_of(folder) in ("complete", "diverged"):
            continue
        try:
            train(config, folder, **vars(chosen.hardware))
        except (DivergedError, RunInUseError) as error:
            print(f"{folder}: {error}")


# -- stored runs ------------------------------------------------------------------------


def cells(
    rows: Sequence[str] = ROWS,
    algorithms: Sequence[str] = ALGORITHMS,
    passes: float | None = None,
    archives: Mapping[str, Path] | None = None,
) -> Cells:
    """The runs (with seed 0) of these rows and columns of Table 1, in its order.

    ``passes`` shortens or stretches every run to this number. ``archives`` maps data sets to
    image-folder archives that replace them. Raises ``ValueError`` for archives that do not exist
    and for passes that are not positive.
    """
    archives = archives or {}
    for archive in archives.values():
        check("archives", str(archive), archive.exists(), "an existing path")
    found = {}
    for dataset, model in TABLE:
        for algorithm in ALGORITHMS:
            if f"{dataset}-{model}" in rows and algorithm in algorithms:
                config = recipe(dataset, model, algorithm)
                config = config if passes is None else config.stretched(passes)
                config = replace(config, dataset=str(archives.get(dataset, dataset)))
                found[dataset, model, algorithm] = config
    return found


def state_of(folder: Path) -> str:
    """State of the run in a folder; "missing" if there is none."""
    return Run(folder).state if (folder / "config.json").exists() else "missing"


def states(runs: Path, chosen: Cells, seeds: Sequence[int] = ()) -> pd.DataFrame:
    """One row per cell and seed. The seeds are ``seeds`` and all seeds with a folder in ``runs``.

    Columns: dataset, model, algorithm, seed, folder, state, problem (a sentence), done (a
    fraction), test_error. The state is "other" if a folder holds another run or is damaged.
    """
    import pandas as pd

    rows = []
    for cell, config in chosen.items():
        stored = [path.name[5:] for path in cell_folder(runs, config).glob("seed-*")]
        for seed in sorted({*seeds, *(int(name) for name in stored if name.isdigit())}):
            one = replace(config, seed=seed)
            folder = run_folder(runs, one)
            state, problem, done, error = "missing", "", 0.0, math.nan
            try:
                check_folder(folder, one)
                if (state := state_of(folder)) != "missing":
                    run = Run(folder)
                    done, error = run.done, (run.result or {}).get("test_error", math.nan)
            except ValueError as reason:
                state, problem = "other", str(reason)
            if state == "diverged":
                problem = f"{folder} diverged; delete it to try again."
            rows.append([*cell, seed, folder, state, problem, done, error])
    columns = [*CELL, "seed", "folder", "state", "problem", "done", "test_error"]
    return pd.DataFrame(rows, columns=columns).astype({"test_error": float, "done": float})


def table1(runs: Path, chosen: Cells) -> tuple[pd.DataFrame, list[str]]:
    """One row per cell, over all its complete seeds in ``runs``, and notes on the excluded runs.

    Columns: dataset, model, algorithm, passes, published and its standard error (as printed, in
    percent), data (the training data), n, test_error and its standard error.
    """
    import pandas as pd

    columns = [*CELL, "passes", "published", "published" + ERROR, "data"]
    rows = [
        (*cell, config.passes, *TABLE[cell[:2]].published.get(cell[2], (None, None)),
         Path(config.dataset).name)
        for cell, config in chosen.items()
    ]  # fmt: skip
    table, found = pd.DataFrame(rows, columns=columns), states(runs, chosen)
    measured = means(found[found["state"] == "complete"], CELL, ["test_error"])
    table = table.astype({"published": float, "published" + ERROR: float})
    table = table.merge(measured, "left", CELL).fillna({"n": 0}).astype({"n": int})
    left_out = found[~found["state"].isin(["complete", "missing"])]
    notes = []
    for row in left_out.to_dict("records"):
        problem = row["problem"] or f"{row['folder']}, {100 * row['done']:.3g} % done."
        notes.append(f"Not counted: {problem}")
    return table, notes


def table1_text(table: pd.DataFrame, notes: Sequence[str] = (), passes: float | None = None) -> str:
    """Table 1 in Markdown, each row above the paper's, followed by notes."""
    import pandas as pd

    lines = []
    for (dataset, model), row in table.groupby(["dataset", "model"], sort=False):
        here, paper = {}, {}
        for _, cell in row.iterrows():
            name = KINDS[str(cell["algorithm"])].label
            own = with_error(cell["test_error"], cell["test_error" + ERROR], 2, 100)
            here[name] = own if cell["n"] == 0 else f"{own} (n={cell['n']})"
            paper[name] = with_error(cell["published"], cell["published" + ERROR], 1)
        mark = " \\*" if (row["data"] != dataset).any() else ""
        lines.append({"data set": f"{dataset}{mark}", "model": model, "": "here", **here})
        lines.append({"data set": "", "model": "", "": "paper", **paper})
    sentences = ["Test error in percent; here: mean ± standard error over n seeds."]
    if passes is not None:
        sentences.append(
            f"Short runs for a look: {passes:g} passes over the data each, not the published "
            "number; not to be compared with the paper."
        )
    for dataset, archive in table[["dataset", "data"]].drop_duplicates().to_numpy():
        if dataset != archive:
            sentences.append(
                f"\\* trained and tested on the image-folder archive {archive}, the paper on the "
                f"original {dataset}."
            )
    text = to_markdown(pd.DataFrame(lines).fillna("–"))
    return "\n".join([text, "", *(f"- {note}" for note in [*sentences, *notes])]) + "\n"
