"""Figures 2 to 5 of [P21]: the curves of stored runs as tables, and the command that draws them.

A curve is the mean over the seeds of an algorithm. Its band is the standard error of the mean. With
a single run, the band of the local energy is the standard error over the noise vectors. A table
has everything that its figure shows, so ``figures.plot_curves`` can redraw a stored CSV.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from deep.algorithms import KINDS
from deep.run import CELL, Run, check_different, differing, open_runs
from message_passing.tools.files import save_figure, write_table
from message_passing.tools.tables import ERROR, means

if TYPE_CHECKING:
    import pandas as pd


def error_curves(runs: Sequence[Run]) -> pd.DataFrame:
    """Figure 2 of [P21]: test error against epochs, one panel per data set and model.

    Epochs are rescaled by y for rSGD and by L for eSGD, not for rSGD×y. Unfinished runs count up to
    the last epoch that all seeds of the curve have reached. Columns: panel, dataset, model,
    algorithm, label, epochs, n, test_error and its standard error. Raises ``ValueError`` if runs of
    an algorithm differ in more than the seed.
    """
    import pandas as pd

    long = pd.concat(
        [run.log.assign(**cell, epochs=run.epochs(run.log["passes"])) for run, cell in _cells(runs)]
    )
    table = means(long, [*CELL, "step", "epochs"], ["test_error"])
    seeds = table.groupby(CELL)["n"].transform("max")
    table = table[table["n"] == seeds].drop(columns="step")
    rows = table.to_dict("records")
    labels = [f"{KINDS[row['algorithm']].label} (n = {row['n']})" for row in rows]
    return _named(table, labels)


def flatness_curves(runs: Sequence[Run], along: bool = False) -> pd.DataFrame:
    """Local energy δE(σ) of final networks (Figure 4 of [P21]) or along training (Figures 3, 5).

    By default there is one panel per data set and model. With ``along`` the runs must share both,
    and a panel has the networks after the same fraction of training. Columns: panel, dataset,
    model, algorithm, label, sigma, n, local_energy and its standard error, epoch, noise_vectors,
    images (used for local_energy and train_error), train_error, test_error, train_loss (final
    networks only, without augmentation).

    Raises ``ValueError`` for runs that are unfinished, not measured, or measured with different
    options, and if runs of an algorithm differ in more than the seed.
    """
    import pandas as pd

    cells = _cells(runs)
    if along and len({(cell["dataset"], cell["model"]) for _, cell in cells}) != 1:
        mixed = list(dict.fromkeys(f"{cell['dataset']}-{cell['model']}" for _, cell in cells))
        raise ValueError(f"the runs are of {mixed}; one data set and model were expected.")
    firsts: dict[tuple[str, str], Run] = {}
    curves = []
    for run, cell in cells:
        first = firsts.setdefault((cell["dataset"], cell["model"]), run)
        for name in run.networks if along else ["final"]:
            curve = _measured_curve(run, name, first)
            fraction = _fraction(run, name, curve["passes"].iloc[0])
            if name == "final" or fraction < 1:  # a snapshot at the end repeats the final network
                curves.append(curve.assign(**cell, fraction=fraction))
    long = pd.concat(curves).sort_values("fraction", kind="stable")
    long["train_loss"] = long["train_loss"].where(long["fraction"] == 1)
    by = ["fraction", *CELL, "sigma"]
    table = means(long, by, ["local_energy"])
    others = long.groupby(by).agg(
        epoch=("epoch", "first"), noise_vectors=("samples", "first"), images=("images", "first"),
        train_error=("reference_error", "mean"), test_error=("test_error", "mean"),
        train_loss=("train_loss", "mean"), of_noise=("local_energy" + ERROR, "first"),
    )  # fmt: skip
    table = table.merge(others.reset_index(), on=by)
    of_noise = table.pop("of_noise")
    table["local_energy" + ERROR] = table["local_energy" + ERROR].where(table["n"] > 1, of_noise)
    labels = [
        f"{KINDS[row['algorithm']].label}, {row['epoch']:.3g} ({100 * row['train_error']:.1f}, "
        f"{100 * row['test_error']:.1f}), n = {row['n']}"
        for row in table.to_dict("records")
    ]
    ends = [f", {100 * f:g} % of training" if f < 1 else ", at the end" for f in table["fraction"]]
    return _named(table.drop(columns="fraction"), labels, ends if along else None)


def _cells(runs: Sequence[Run]) -> list[tuple[Run, dict[str, str]]]:
    """Each run with its cell (data set, model and algorithm), in the order of the algorithms.

    Raises ``ValueError`` if two runs are equal, or runs of a cell differ in more than the seed.
    """
    import pandas as pd

    runs = sorted(runs, key=lambda run: [*KINDS].index(run.config.algorithm.name))
    table = pd.DataFrame([{"run": str(run.folder), **run.cells()} for run in runs])
    check_different(table)
    for cell, own in table.groupby(CELL):
        if names := [name for name in differing(own) if name != "seed"]:
            raise ValueError(
                f"runs that differ in the seed only were expected; {names[0]} is "
                f"{' and '.join(map(str, own[names[0]].unique()))} in {', '.join(map(str, cell))}."
            )
    cells: list[dict[str, Any]] = table[CELL].to_dict("records")  # type: ignore[assignment]
    return list(zip(runs, cells, strict=True))


def _measured_curve(run: Run, name: str, first: Run) -> pd.DataFrame:
    """The stored local energy of a network. Its options must equal those of the run ``first``."""
    if run.result is None:
        raise ValueError(
            f"{run.folder} is not finished; `python -m deep train` or `table1` resumes it."
        )
    curve, stored = run.curve(name), run.measured(name)
    if curve is None or stored is None:
        raise ValueError(
            f"the flatness of {run.path(name)} has not been measured; `python -m deep "
            f"flatness {run.folder}` does it."
        )
    options = (first.measured() or stored)["options"]
    for key, value in stored["options"].items():
        if options[key] != value:
            raise ValueError(
                f"the flatness of {first.folder} was measured with {key} {options[key]!r}, the "
                f"flatness of {run.folder} with {value!r}; "
                "measure both with the same options of `python -m deep flatness`."
            )
    return curve.assign(epoch=run.epochs(curve["passes"]), train_loss=run.result["train_loss"])


def _fraction(run: Run, name: str, passes: float) -> float:
    """The planned fraction of the run at which a network was stored. It is 1 at the end."""
    steps = run.log["step"].to_numpy()
    done = steps[(run.log["passes"] - passes).abs().to_numpy().argmin()] / steps[-1]
    if name == "final" or done == 1:
        return 1.0
    return max(f for f in run.config.snapshots if f <= done)


def _named(
    table: pd.DataFrame, labels: Sequence[str], ends: Sequence[str] | None = None
) -> pd.DataFrame:
    """Add the columns panel and label to a table of curves."""
    cells = zip(table["model"], table["dataset"], ends or [""] * len(table), strict=True)
    table.insert(0, "panel", [f"{model}, {dataset}{end}" for model, dataset, end in cells])
    table.insert(1 + len(CELL), "label", labels)
    return table


@dataclass(frozen=True)
class FigureCommand:
    """Draw Figures 2 to 5 of the paper from stored runs: means ± standard errors over the seeds.

    2: test error along training, with epochs rescaled by y for rSGD and by L for eSGD. 3 and 5:
    local energy δE(σ) along training and at the end, in the paper of ResNet-18 and ResNet-110 on
    CIFAR-10. 4: local energy at the end, in the paper of EfficientNet-B0, PyramidNet, ResNet-50 and
    DenseNet. Measure the flatness first: python -m deep flatness RUN … Legends give the epoch, the
    training and test errors in percent, and the number of seeds.
    """

    number: Annotated[Literal[2, 3, 4, 5], tyro.conf.Positional]
    """Number of the figure in the paper."""
    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of runs, or of the seeds of a run, of any network."""
    out: Path = Path("figures")
    """Folder for the figure (PDF, PNG) and its numbers (CSV)."""


def draw_figure(chosen: FigureCommand) -> None:
    """Read the runs; write the figure and its numbers."""
    from deep.figures import legend_note, plot_curves

    every = open_runs(chosen.folders)
    found = [run for run in every if run.state != "begun"] or every
    if chosen.number == 2:
        table = error_curves(found)
    else:
        table = flatness_curves(found, along=chosen.number in (3, 5))
        print(legend_note(table).replace("\n", " "))
    path = chosen.out / f"figure{chosen.number}"
    write_table(path.with_suffix(".csv"), table)
    save_figure(plot_curves(table)[0].figure, path)
    print(f"Written: {path}.csv, .pdf and .png")
