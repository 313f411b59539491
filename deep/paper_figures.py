"""Figures 2 to 5 of [P21]: the curves of stored runs as tables, and the commands that draw them.

A curve is the mean over the seeds of an algorithm, its band the standard error of the mean; of a
single run the local energy has the standard error over its noise vectors instead. A table has all
that its figure shows: a stored CSV can be drawn again by ``figures.plot_curves``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import tyro

from deep.algorithms import KINDS
from deep.run import Run, open_runs
from message_passing.tools.files import save_figure, write_table
from message_passing.tools.tables import ERROR, means

if TYPE_CHECKING:
    import pandas as pd


def error_curves(runs: Sequence[Run]) -> pd.DataFrame:
    """Figure 2 of [P21]: test error against epochs, a panel for each data set and model.

    Epochs are rescaled by y for rSGD and by L for eSGD, not for rSGD×y. Of runs that are not
    finished a curve has the rows that all its seeds have. Columns: panel, dataset, model,
    algorithm, label, epochs, n, test_error and its standard error. Raises ``ValueError`` for runs
    of an algorithm that differ in more than the seed.
    """
    import pandas as pd

    parts = []
    for cell, seeds in grouped(runs).items():
        logs = [run.log.set_index("step") for run in seeds]
        steps = [s for s in logs[0].index if all(s in log.index for log in logs)]
        long = pd.concat([log.loc[steps, ["test_error"]].reset_index() for log in logs])
        table = means(long, "step", ["test_error"]).drop(columns="step")
        table["epochs"] = seeds[0].epochs(logs[0].loc[steps, "passes"].to_numpy())
        parts.append(_named(table, cell, f"{KINDS[cell[2]].label} (n = {len(seeds)})"))
    return pd.concat(parts, ignore_index=True)


def flatness_curves(runs: Sequence[Run], along: bool = False) -> pd.DataFrame:
    """Local energy δE(σ): a panel for each data set and model, or along training.

    With ``along`` (Figures 3 and 5 of [P21]) the runs are of one data set and model, and each
    panel has the networks after the same fraction of training; else (Figure 4) the final ones.
    Columns: panel, dataset, model, algorithm, label, sigma, n, local_energy and its standard error,
    epoch, noise_vectors, images (which the local energy and train_error are of), train_error,
    test_error, train_loss (of final networks, without augmentation).

    Raises ``ValueError`` for runs that are not finished or not measured, or not measured alike,
    and for runs of an algorithm that differ in more than the seed.
    """
    import pandas as pd

    cells = grouped(runs)
    if along and len({key[:2] for key in cells}) != 1:
        mixed = ["-".join(names) for names in dict.fromkeys(key[:2] for key in cells)]
        raise ValueError(f"the runs are of {mixed}; one data set and model were expected.")
    found: dict[tuple[float, tuple[str, str, str]], list[pd.DataFrame]] = {}
    firsts: dict[tuple[str, str], Run] = {}
    for cell, seeds in cells.items():
        for run in seeds:
            for name in run.networks if along else ["final"]:
                curve = _measured_curve(run, name, firsts.setdefault(cell[:2], run))
                fraction = _fraction(run, name, curve["passes"].iloc[0])
                if name == "final" or fraction < 1:  # else the final network is the same
                    found.setdefault((fraction, cell), []).append(curve)
    parts = []
    for fraction, cell in sorted(found, key=lambda key: key[0]):
        table = _mean_curve(found[fraction, cell], final=fraction == 1)
        one = table.iloc[0]
        errors = f"({100 * one['train_error']:.1f}, {100 * one['test_error']:.1f})"
        label = f"{KINDS[cell[2]].label}, {one['epoch']:.3g} {errors}, n = {one['n']}"
        where = f", {100 * fraction:g} % of training" if fraction < 1 else ", at the end"
        parts.append(_named(table, cell, label, where if along else ""))
    return pd.concat(parts, ignore_index=True)


def grouped(runs: Sequence[Run]) -> dict[tuple[str, str, str], list[Run]]:
    """Data set, model, algorithm → seeds, in the order of the algorithms.

    Raises ``ValueError`` where such runs differ in more than the seed, or not even in it.
    """
    cells: dict[tuple[str, str, str], list[Run]] = {}
    for run in sorted(runs, key=lambda run: [*KINDS].index(run.config.algorithm.name)):
        config = run.config
        cell = cells.setdefault((config.dataset_name, config.model, config.algorithm.name), [])
        if any(other.config.seed == config.seed for other in cell):
            raise ValueError(f"{run.folder} and another run have the seed {config.seed}.")
        first = cell[0].cells() if cell else {}
        for name, value in run.cells().items():
            if name != "seed" and first.get(name, value) != value:
                raise ValueError(
                    f"runs that differ in the seed only were expected; {name} is "
                    f"{first[name]!r} in {cell[0].folder} and {value!r} in {run.folder}."
                )
        cell.append(run)
    return cells


def _measured_curve(run: Run, name: str, first: Run) -> pd.DataFrame:
    """The local energy of a network, measured with the options that the first run has."""
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
    """The planned fraction of the run after which a network was stored; 1 in the last row."""
    steps = run.log["step"].to_numpy()
    done = steps[np.abs(run.log["passes"].to_numpy() - passes).argmin()] / steps[-1]
    return (
        1.0 if name == "final" or done == 1 else max(f for f in run.config.snapshots if f <= done)
    )


def _mean_curve(curves: Sequence[pd.DataFrame], final: bool) -> pd.DataFrame:
    """The mean over seeds; of one seed with the standard error over its noise vectors."""
    import pandas as pd

    table, first = means(pd.concat(curves), "sigma", ["local_energy"]), curves[0].iloc[0]
    if len(curves) == 1:
        table["local_energy" + ERROR] = curves[0]["local_energy" + ERROR]
    names = ["reference_error", "test_error", "train_loss"]
    train, test, loss = pd.DataFrame([curve.iloc[0] for curve in curves])[names].mean()
    return table.assign(
        epoch=first["epoch"], noise_vectors=first["samples"], images=first["images"],
        train_error=train, test_error=test, train_loss=loss if final else np.nan,
    )  # fmt: skip


def _named(
    table: pd.DataFrame, cell: tuple[str, str, str], label: str, where: str = ""
) -> pd.DataFrame:
    """With what it is of in the first columns."""
    import pandas as pd

    dataset, model, algorithm = cell
    names = {"panel": f"{model}, {dataset}{where}", "dataset": dataset, "model": model}
    names |= {"algorithm": algorithm, "label": label}
    return pd.DataFrame(names, index=table.index).join(table)


@dataclass(frozen=True)
class FigureCommand:
    """Options of the figures of the paper."""

    number: ClassVar[int]
    networks: ClassVar[tuple[tuple[str, str], ...]]

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Folders of runs, or of the seeds of a run, of any network; none: those in --runs."""
    runs: Path = Path("runs")
    """Folder that is searched for the runs of the paper's figure."""
    out: Path = Path("figures")
    """Folder for the figure (PDF, PNG) and the numbers behind it (CSV)."""


@dataclass(frozen=True)
class Figure2Command(FigureCommand):
    """Test error along training: ResNet-18 on CIFAR-10, ResNet-50 on Tiny ImageNet.

    Epochs are rescaled by y for rSGD and by L for eSGD. Means ± standard errors over the seeds.
    """

    number = 2
    networks = (("cifar10", "resnet18"), ("tinyimagenet", "resnet50"))


@dataclass(frozen=True)
class Figure3Command(FigureCommand):
    """Local energy δE(σ) along training and at the end: ResNet-18 on CIFAR-10.

    Flatness has to be measured before: python -m deep flatness RUN … In the legends: epoch, train
    and test error in percent, seeds. Means ± standard errors over the seeds.
    """

    number = 3
    networks = (("cifar10", "resnet18"),)


@dataclass(frozen=True)
class Figure4Command(FigureCommand):
    """Local energy δE(σ) at the end of training: EfficientNet-B0, PyramidNet, ResNet-50, DenseNet.

    Flatness has to be measured before: python -m deep flatness RUN …
    """

    number = 4
    networks = (
        ("cifar100", "efficientnet_b0"), ("cifar100", "pyramidnet272"),
        ("tinyimagenet", "resnet50"), ("tinyimagenet", "densenet121"),
    )  # fmt: skip


@dataclass(frozen=True)
class Figure5Command(FigureCommand):
    """Local energy δE(σ) along training and at the end: ResNet-110 on CIFAR-10; see figure3."""

    number = 5
    networks = (("cifar10", "resnet110"),)


def draw_figure(chosen: FigureCommand) -> None:
    """Read the runs, write the figure and its numbers."""
    from deep.figures import legend_note, plot_curves

    found = open_runs(chosen.folders) if chosen.folders else _runs_for(chosen)
    if chosen.number == 2:
        table = error_curves([run for run in found if run.state != "begun"])
    else:
        table = flatness_curves(found, along=chosen.number in (3, 5))
        print(legend_note(table).replace("\n", " "))
        final = table.dropna(subset="train_loss").drop_duplicates(["panel", "algorithm"])
        losses = [
            f"{row['model']} on {row['dataset']}, {row['algorithm']}: {row['train_loss']:.2g}"
            for _, row in final.iterrows()
        ]
        print(f"Cross-entropy on the training set at the end: {'; '.join(losses)}.")
    path = chosen.out / f"figure{chosen.number}"
    write_table(path.with_suffix(".csv"), table)
    save_figure(plot_curves(table)[0].figure, path)
    print(f"Written: {path}.csv, .pdf and .png")


def _runs_for(chosen: FigureCommand) -> list[Run]:
    """The runs of the figure's data sets (or of archives of them) and models that have begun."""
    found = [Run(path.parent) for path in sorted(chosen.runs.glob("*/*/config.json"))]
    names = [(run.config.dataset_name.split("-")[0], run.config.model) for run in found]
    own = [
        run
        for run, name in zip(found, names, strict=True)
        if name in chosen.networks and run.state != "begun"
    ]
    if not own:
        rows = " ".join("-".join(network) for network in chosen.networks)
        raise ValueError(
            f"{chosen.runs} holds no run for this figure; `python -m deep table1 --rows {rows} "
            f"--runs {chosen.runs}` makes them. Runs of other networks can be named one by one."
        )
    return own
