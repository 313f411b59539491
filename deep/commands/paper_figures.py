"""``python -m deep figure2 … figure5``: the paper's figures of deep networks, from stored runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from deep.figures import plot_curves
from deep.paper_figures import (
    Panels,
    error_panels,
    flatness_along_training,
    flatness_at_the_end,
    train_losses,
)
from deep.run_logs import LoggedRun, find_runs, runs_of
from message_passing.tools.files import save_figure, write_csv


@dataclass(frozen=True)
class PaperFigure:
    """What a figure shows, and of which rows of Table 1."""

    about: str
    rows: tuple[tuple[str, str], ...]
    panels: Callable[[Sequence[LoggedRun]], tuple[Panels, list[dict[str, Any]]]]


ALONG = (
    "Local energy δE(σ) along training and at the end, {} (flatness has to be measured: `python "
    "-m deep flatness RUN …`). In the legends: epoch, train and test error in percent, seeds."
)
FIGURES = {
    "figure2": PaperFigure(
        "Test error along training, epochs rescaled by y for rSGD and by L for eSGD, of ResNet-18 "
        "on CIFAR-10 and ResNet-50 on Tiny ImageNet.",
        (("cifar10", "resnet18"), ("tinyimagenet", "resnet50")),
        error_panels,
    ),
    "figure3": PaperFigure(
        ALONG.format("of ResNet-18 on CIFAR-10"),
        (("cifar10", "resnet18"),),
        flatness_along_training,
    ),
    "figure4": PaperFigure(
        "Local energy δE(σ) at the end of training of EfficientNet-B0 and PyramidNet on "
        "CIFAR-100, ResNet-50 and DenseNet-121 on Tiny ImageNet (flatness has to be measured: "
        "`python -m deep flatness RUN …`).",
        (
            ("cifar100", "efficientnet_b0"), ("cifar100", "pyramidnet272"),
            ("tinyimagenet", "resnet50"), ("tinyimagenet", "densenet121"),
        ),
        flatness_at_the_end,
    ),
    "figure5": PaperFigure(
        ALONG.format("of ResNet-110 on CIFAR-10"),
        (("cifar10", "resnet110"),),
        flatness_along_training,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class FigureCommand:
    """Draw a figure of the paper from stored runs."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Folders of runs, or of the seeds of a run, of any network; none: those in --runs."""
    runs: Path = Path("runs")
    """Folder that is searched for the runs of the paper's figure."""
    output: Path = Path("figures")
    """Folder for the figure (PDF, PNG) and the numbers behind it (CSV)."""


def main(command: str, arguments: Sequence[str]) -> None:
    """Read the runs, write the figure and its numbers."""
    figure = FIGURES[command]
    chosen = tyro.cli(
        FigureCommand, prog=f"python -m deep {command}", args=arguments,
        description=f"{figure.about} Means ± standard errors over seeds, from stored runs.",
    )  # fmt: skip
    runs = runs_of(chosen.folders) if chosen.folders else find_runs(chosen.runs, figure.rows)
    panels, rows = figure.panels(runs)
    if command == "figure2":
        axes = plot_curves(panels, "epochs", "test error (%)")
    else:
        axes = plot_curves(
            panels, "noise intensity σ", "train error difference δE (%)",
            "epoch (train, test error in %)",
        )  # fmt: skip
        print(train_losses(rows))
    write_csv(chosen.output / f"{command}.csv", rows)
    save_figure(axes[0].figure, chosen.output / command)
    print(f"written: {chosen.output / command}.csv, .pdf and .png")
