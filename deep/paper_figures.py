"""Figures 2 to 5 of [P21]: the curves of stored runs as tables, and the commands that draw them.

A curve is the mean over the seeds of an algorithm, its band the standard error of the mean; of a
single run the local energy has the standard error over its noise vectors instead. A table has all
that its figure shows: a stored CSV can be drawn again by ``figures.plot_curves``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

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
    for (dataset, model, algorithm), seeds in grouped(runs).items():
        logs = [run.log.set_index("step") for run in seeds]
        steps = [s for s in logs[0].index if all(s in log.index for log in logs)]
        long = pd.concat([log.loc[steps, ["test_error"]].reset_index() for log in logs])
        table = means(long, "step", ["test_error"])
        epochs = seeds[0].epochs(logs[0].loc[steps, "passes"].to_numpy())
        label = f"{KINDS[algorithm].label} (n = {len(seeds)})"
        table = table.drop(columns="step").assign(epochs=epochs)
        parts.append(_named(table, f"{model}, {dataset}", dataset, model, algorithm, label))
    return pd.concat(parts, ignore_index=True)


def flatness_curves(runs: Sequence[Run], along: bool = False) -> pd.DataFrame:
    """Local energy δE(σ): a panel for each data set and model, or along training.

    With ``along`` (Figures 3 and 5 of [P21]) the runs are of one data set and model, and each
    panel has the networks after the same fraction of training; else (Figure 4) the final ones.
    Columns: panel, dataset, model, algorithm, label, epoch, n, noise_vectors, images (which the
    local energy and train_error are of), train_error, test_error, train_loss (of final networks,
    without augmentation), sigma, local_energy and its standard error.

    Raises ``ValueError`` for runs that are not finished or not measured, or not measured alike,
    and for runs of an algorithm that differ in more than the seed.
    """
    import pandas as pd

    found: dict[tuple[float, str, str, str], list[dict[str, Any]]] = {}
    cells = grouped(runs)
    if along and len({key[:2] for key in cells}) != 1:
        mixed = ["-".join(names) for names in dict.fromkeys(key[:2] for key in cells)]
        raise ValueError(f"the runs are of {mixed}; one data set and model were expected.")
    for cell, seeds in cells.items():
        for run in seeds:
            for fraction, one in _measured_networks(run, along):
                found.setdefault((fraction, *cell), []).append(one)
    for names in dict.fromkeys(key[:2] for key in cells):
        _check_alike([one for key, own in found.items() if key[1:3] == names for one in own])
    parts = []
    for fraction, dataset, model, algorithm in sorted(found, key=lambda key: key[0]):
        panel = f"{model}, {dataset}"
        if along:
            panel += f", {100 * fraction:g} % of training" if fraction < 1 else ", at the end"
        measured = found[fraction, dataset, model, algorithm]
        table = _flatness_curve(algorithm, measured, final=fraction == 1)
        label = table.pop("label").iloc[0]
        parts.append(_named(table, panel, dataset, model, algorithm, label))
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
        if cell:
            first = cell[0].cells()
            for name, value in run.cells().items():
                if name != "seed" and first[name] != value:
                    raise ValueError(
                        f"runs that differ in the seed only were expected; {name} is "
                        f"{first[name]!r} in {cell[0].folder} and {value!r} in {run.folder}."
                    )
        cell.append(run)
    return cells


def _measured_networks(run: Run, along: bool) -> list[tuple[float, dict[str, Any]]]:
    if run.result is None:
        raise ValueError(
            f"{run.folder} is not finished; `python -m deep train` or `table1` resumes it."
        )
    measured = []
    for name in run.networks if along else ["final"]:
        stored, profile = run.measured(name), run.flatness(name)
        if stored is None or profile is None:
            raise ValueError(
                f"the flatness of {run.path(name)} has not been measured; `python -m deep "
                f"flatness {run.folder}` does it."
            )
        nearest = (run.log["passes"] - stored["passes"]).abs().idxmin()
        done = run.log["step"][nearest] / run.log["step"].iloc[-1]
        if name != "final" and done == 1:  # the final network
            continue
        fraction = 1.0 if name == "final" else max(f for f in run.config.snapshots if f <= done)
        measured.append((fraction, {"run": run, "stored": stored, "profile": profile}))
    return measured


def _check_alike(measured: Sequence[Mapping[str, Any]]) -> None:
    """The networks of a data set and model were measured with the same options."""
    first, options = measured[0]["run"], measured[0]["stored"]["options"]
    for one in measured:
        for key, value in options.items():
            if one["stored"]["options"][key] != value:
                raise ValueError(
                    f"the flatness of {first.folder} was measured with {key} {value!r}, the "
                    f"flatness of {one['run'].folder} with {one['stored']['options'][key]!r}; "
                    "measure both with the same options of `python -m deep flatness`."
                )


def _flatness_curve(
    algorithm: str, measured: Sequence[Mapping[str, Any]], final: bool
) -> pd.DataFrame:
    import pandas as pd

    long = pd.concat([one["profile"].to_frame() for one in measured])
    table = means(long, "sigma", ["local_energy"])
    if len(measured) == 1:
        table["local_energy" + ERROR] = long["local_energy" + ERROR].to_numpy()
    run, profile, stored = (measured[0][name] for name in ("run", "profile", "stored"))
    train = float(np.mean([float(one["profile"].reference_error) for one in measured]))
    test = float(np.mean([one["stored"]["test_error"] for one in measured]))
    loss = np.mean([one["run"].result["train_loss"] for one in measured]) if final else np.nan
    epoch = run.epochs(stored["passes"])
    errors = f"({100 * train:.1f}, {100 * test:.1f})"
    return table.assign(
        epoch=epoch,
        noise_vectors=profile.samples,
        images=profile.images,
        train_error=train,
        test_error=test,
        train_loss=loss,
        label=f"{KINDS[algorithm].label}, {epoch:.3g} {errors}, n = {len(measured)}",
    )


def _named(
    table: pd.DataFrame, panel: str, dataset: str, model: str, algorithm: str, label: str
) -> pd.DataFrame:
    names = {"panel": panel, "dataset": dataset, "model": model, "algorithm": algorithm}
    for place, (name, value) in enumerate((names | {"label": label}).items()):
        table.insert(place, name, value)
    return table


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
