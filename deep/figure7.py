"""``python -m deep figure7``: local energy against test error over PGDL's networks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro

from deep.correlations import correlation_report
from deep.figures import pearson_in_words, plot_figure7
from deep.pgdl.archive import Archive
from deep.pgdl.measurements import Architecture, MeasurementOptions, measure_task
from deep.pgdl.task import PgdlTask
from message_passing.tools.files import save_figure, write_table
from message_passing.tools.tables import to_markdown

# 12 is the number of networks of this architecture in task 1: with n = 12, r = 0.90 has p = 7e-5.
PUBLISHED = "published for task 1, σ = 0.5: r(12) = 0.90, p = 1e-4"
# Between the training error that is measured and the published one, where all images were used.
LARGEST_DEVIATION = 0.01


@dataclass(frozen=True)
class Figure7Command:
    """Local energy against test error over trained networks of the PGDL competition ([P21] Fig. 7).

    Networks that were measured are not measured again. Needs the extra pgdl (pip install
    "wide-flat-minima[pgdl]"). Writes figure7.csv, figure7-correlations.csv and the figure.
    """

    archive: Path
    """The zip file http://storage.googleapis.com/gresearch/pgdl/public_data.zip (8.8 GB)."""
    task: str = "1"
    """Number of the task, or the name of its folder."""
    architecture: Annotated[Architecture, tyro.conf.arg(name="")] = field(
        default_factory=Architecture
    )
    options: Annotated[MeasurementOptions, tyro.conf.arg(name="")] = field(
        default_factory=MeasurementOptions
    )
    out: Path = Path("figure7")
    """Folder for the measurements, the tables and the figure."""
    device: str = "auto"
    """auto, cpu, cuda."""


def draw_figure7(chosen: Figure7Command) -> None:
    """Measure what is missing, write the tables and the figure, print the correlations."""
    task = PgdlTask(Archive(chosen.archive), chosen.task)
    table = measure_task(
        task, chosen.architecture, chosen.options, chosen.out / "measurements", chosen.device
    )
    if len(table) < 3:
        raise ValueError(f"{task.name} has {len(table)} such networks; at least 3 were expected.")
    report = report_correlations(table)
    write_table(chosen.out / "figure7.csv", table)
    write_table(chosen.out / "figure7-correlations.csv", report)
    save_figure(plot_figure7(table).figure, chosen.out / "figure7")
    print(f"{to_markdown(report)}\nlow, high: 95 % confidence limits")
    print(pearson_in_words(table))
    if task.name.startswith("task1_"):
        print(PUBLISHED)
    if chosen.options.images is None:
        deviation = (table["train_error"] - table["published_train_error"]).abs()
        for _, row in table[deviation > LARGEST_DEVIATION].iterrows():
            print(
                f"note: {row['model']} has the training error {row['train_error']:.4f}; "
                f"{row['published_train_error']:.4f} is published."
            )
    print(f"Written: {chosen.out / 'figure7.csv'}")


def report_correlations(table: pd.DataFrame) -> pd.DataFrame:
    """Correlations of the local energy with the test error and the generalisation gap.

    Hyper-parameters are the columns between "model" and "train_error" that vary.
    """
    names = [*table][1 : [*table].index("train_error")]
    varied = [name for name in names if table[name].nunique(dropna=False) > 1]
    return correlation_report(table, ["local_energy"], ["test_error", "gap"], varied)
