"""Tables of runs: means over seeds, and Table 1 of [P21] beside the paper's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deep.algorithms import ALGORITHMS, KINDS
from deep.config import TrainingConfig
from deep.recipes import TABLE, recipe
from deep.run import Run, cell_folder, check_folder, differing, run_folder
from message_passing.tools.tables import ERROR, means, to_markdown, with_error

ROWS = tuple(f"{dataset}-{model}" for dataset, model in TABLE)
PERCENT = ("train_error", "test_error", "gap", "local_energy", "train_local", "test_local")
TRAINING_IMAGES = {"cifar10": 50_000, "cifar100": 50_000, "tinyimagenet": 100_000}

if TYPE_CHECKING:
    import pandas as pd

CELL = ["dataset", "model", "algorithm"]
Cells = dict[tuple[str, str, str], TrainingConfig]
State = Literal["missing", "begun", "interrupted", "complete", "diverged", "other"]


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


# -- Table 1 ----------------------------------------------------------------------------


def cells(
    rows: Sequence[str] = ROWS,
    algorithms: Sequence[str] = ALGORITHMS,
    passes: float | None = None,
    archives: Mapping[str, Path] | None = None,
) -> Cells:
    """The runs (of seed 0) of these rows and columns of Table 1, in its order.

    With ``passes`` every run is shortened, or stretched, to this number. ``archives`` gives
    image-folder archives to take in place of data sets. Raises ``ValueError`` for unknown names,
    archives that are not there, passes that are not positive.
    """
    archives = archives or {}
    for kind, names, known in (
        ("rows", rows, ROWS), ("algorithms", algorithms, ALGORITHMS),
        ("archives", [*archives], sorted({dataset for dataset, _ in TABLE})),
    ):  # fmt: skip
        for name in names:
            if name not in known:
                raise ValueError(f"{kind} has {name!r}; some of {[*known]} were expected.")
    for archive in archives.values():
        if not archive.exists():
            raise ValueError(f"archives has {str(archive)!r}, which is not there.")
    found = {}
    for dataset, model in TABLE:
        for algorithm in ALGORITHMS:
            if f"{dataset}-{model}" in rows and algorithm in algorithms:
                config = recipe(dataset, model, algorithm)
                config = config if passes is None else config.stretched(passes)
                config = replace(config, dataset=str(archives.get(dataset, dataset)))
                found[dataset, model, algorithm] = config
    return found


def state_of(folder: Path, config: TrainingConfig) -> tuple[State, str]:
    """What the folder of a run holds, and a sentence if something is wrong with it."""
    try:
        check_folder(folder, config.settings())
    except ValueError as error:
        return "other", str(error)
    if not (folder / "config.json").exists():
        return "missing", ""
    state = Run(folder).state
    return state, f"{folder} diverged; delete it to try again." if state == "diverged" else ""


def states(runs: Path, chosen: Cells, seeds: Sequence[int] = ()) -> pd.DataFrame:
    """A row for each run of a cell: the seeds in ``runs``, and ``seeds``.

    Columns: dataset, model, algorithm, seed, folder, state, problem (a sentence), done (a
    fraction), test_error, seconds.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for cell, config in chosen.items():
        stored = [path.name[5:] for path in cell_folder(runs, config).glob("seed-*")]
        for seed in sorted({*seeds, *(int(name) for name in stored if name.isdigit())}):
            one = replace(config, seed=seed)
            folder = run_folder(runs, one)
            state, problem = state_of(folder, one)
            run = None if state in ("missing", "other") else Run(folder)
            result = (run.result if run else None) or {}
            rows.append(
                {
                    **dict(zip(CELL, cell, strict=True)), "seed": seed, "folder": folder,
                    "state": state, "problem": problem, "done": run.done if run else 0.0,
                    "test_error": result.get("test_error"), "seconds": result.get("seconds"),
                }
            )  # fmt: skip
    columns = [*CELL, "seed", "folder", "state", "problem", "done", "test_error", "seconds"]
    table = pd.DataFrame(rows, columns=columns)
    return table.astype({"test_error": float, "seconds": float, "done": float})


def table1(runs: Path, chosen: Cells) -> tuple[pd.DataFrame, list[str]]:
    """A row for each cell, of all its seeds in ``runs``; and sentences on what does not count.

    Columns: dataset, model, algorithm, passes, published and its standard error (as printed, in
    percent), data (what it was trained on), n, test_error and its standard error.
    """
    import pandas as pd

    cell_rows = []
    for cell, config in chosen.items():
        value, error = TABLE[cell[:2]].published.get(cell[2], (None, None))
        published = {"published": value, "published" + ERROR: error}
        data = {"passes": config.passes, **published, "data": Path(config.dataset).name}
        cell_rows.append({**dict(zip(CELL, cell, strict=True)), **data})
    table, found = pd.DataFrame(cell_rows), states(runs, chosen)
    measured = means(found[found["state"] == "complete"], CELL, ["test_error"])
    table = table.astype({"published": float, "published" + ERROR: float})
    table = table.merge(measured, "left", CELL).fillna({"n": 0}).astype({"n": int})
    left_out = found[~found["state"].isin(["complete", "missing"])]
    far = left_out["folder"].astype(str) + [f", {100 * d:.3g} % done." for d in left_out["done"]]
    problems = left_out["problem"].where(left_out["problem"] != "", far)
    notes = [f"Not counted: {problem}" for problem in problems]
    return table, notes


def table1_text(table: pd.DataFrame, notes: Sequence[str] = (), passes: float | None = None) -> str:
    """Table 1 in Markdown, each row above the paper's, with notes on what to know of it."""
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


def cost(cell: tuple[str, str, str], config: TrainingConfig) -> float:
    """Arithmetic of a run in 1e15 operations: forward and backward passes of all gradients.

    A multiply-add counts two, a backward pass twice a forward pass. Evaluations and what the
    entropic algorithms add to a gradient are left out.
    """
    dataset, model, _ = cell
    images = config.passes * TRAINING_IMAGES[dataset] * config.algorithm.passes_per_epoch
    return 6e-6 * TABLE[dataset, model].gflop * images


def costs(runs: Path, chosen: Cells, seeds: Sequence[int]) -> tuple[pd.DataFrame, list[str]]:
    """For each cell the arithmetic of one seed, what is left of ``seeds``, and their states.

    Hours are from the median speed of the complete runs of the same network in ``runs``, else of
    any; NaN without one. The sentences say what is wrong with runs.
    """
    import pandas as pd

    found = states(runs, chosen, seeds)
    cells_of = found[CELL].apply(tuple, axis=1)
    found["cost"] = [cost(cell, chosen[cell]) for cell in cells_of]
    speed = (found["cost"] / found["seconds"]).groupby(found["model"]).median()
    speed = speed.fillna((found["cost"] / found["seconds"]).median())
    wanted = found[found["seed"].isin(seeds)]
    trained = wanted["state"].isin(["missing", "begun", "interrupted"])
    left = (wanted["cost"] * (1 - wanted["done"])).where(trained, 0.0)
    rows = []
    for cell, config in chosen.items():
        own = wanted[cells_of[wanted.index] == cell]
        remaining = float(left[own.index].sum())
        described = [
            f"seed {row['seed']} {'another run' if row['state'] == 'other' else row['state']}"
            + (f" {100 * row['done']:.3g} %" if row["state"] == "interrupted" else "")
            for _, row in own.iterrows()
        ]
        rows.append(
            {
                "cell": f"{cell[0]}-{cell[1]} {cell[2]}", "passes": config.passes,
                "PFLOP a seed": cost(cell, config), "PFLOP left": remaining,
                "hours left": remaining / speed[cell[1]] / 3600, "state": ", ".join(described),
            }
        )  # fmt: skip
    return pd.DataFrame(rows), [problem for problem in wanted["problem"] if problem]
