"""``python -m deep figure7``: local energy against test error over PGDL's networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from deep.correlations import correlation_report
from deep.pgdl.archive import PUBLIC_ARCHIVE, open_archive
from deep.pgdl.figures import pearson_in_words, plot_figure7
from deep.pgdl.measurements import Architecture, MeasurementOptions, measure_task
from deep.pgdl.task import PgdlTask
from message_passing.tools.files import save_figure, write_csv

# 12 is the number of networks of this architecture in task 1: with n = 12, r = 0.90 has p = 7e-5.
PUBLISHED = "published for task 1, σ = 0.5: r(12) = 0.90, p = 1e-4"
# Between the training error that is measured and the published one, where all images were used.
LARGEST_DEVIATION = 0.01


@dataclass(frozen=True)
class Figure7Command:
    """Local energy against test error over trained networks of the PGDL competition ([P21] Fig. 7).

    Of an archive on the web only what is needed is fetched. Networks that were measured are not
    measured again. Writes figure7.csv, figure7-correlations.csv and the figure.
    """

    archive: str = PUBLIC_ARCHIVE
    """Folder of the unpacked archive, its zip file, or the zip's address on the web."""
    task: str = "1"
    """Number of the task, or the name of its folder."""
    architecture: Annotated[Architecture, tyro.conf.arg(name="")] = field(
        default_factory=Architecture
    )
    options: Annotated[MeasurementOptions, tyro.conf.arg(name="")] = field(
        default_factory=MeasurementOptions
    )
    output: Path = Path("figure7")
    """Folder for the measurements, the tables and the figure."""
    device: str = "auto"
    """auto, cpu, cuda."""


def main(command: str, arguments: Sequence[str]) -> None:
    """Measure what is missing, write the tables and the figure, print the correlations."""
    chosen = tyro.cli(Figure7Command, prog=f"python -m deep {command}", args=arguments)
    task = PgdlTask(open_archive(chosen.archive), chosen.task)
    table = measure_task(
        task, chosen.architecture, chosen.options, chosen.output / "measurements",
        chosen.device,
    )  # fmt: skip
    rows: list[dict[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
    if len(rows) < 3:
        raise ValueError(f"{task.name} has {len(rows)} such networks; at least 3 were expected.")
    report = report_correlations(rows)
    write_csv(chosen.output / "figure7.csv", rows)
    write_csv(chosen.output / "figure7-correlations.csv", report)
    save_figure(plot_figure7(table).figure, chosen.output / "figure7")
    for row in report:
        limits = "" if np.isnan(row["low"]) else f", 95 % [{row['low']:.2f}, {row['high']:.2f}]"
        p_value = "" if np.isnan(row["p_value"]) else f", p = {row['p_value']:.2g}"
        print(f"{row['error']}, {row['kind']}: {row['correlation']:.2f}{limits}{p_value}")
    print(pearson_in_words(table))
    if task.name.startswith("task1_"):
        print(PUBLISHED)
    if chosen.options.images is None:
        for row in rows:
            if abs(row["train_error"] - row["published_train_error"]) > LARGEST_DEVIATION:
                print(
                    f"note: {row['model']} has the training error {row['train_error']:.4f}; "
                    f"{row['published_train_error']:.4f} is published."
                )
    print(f"written: {chosen.output / 'figure7.csv'}")


def report_correlations(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Correlations of the local energy with the test error and the generalisation gap.

    Hyper-parameters are the columns between "model" and "train_error" that vary.
    """
    names = list(rows[0])[1 : list(rows[0]).index("train_error")]
    hyper_parameters = {name: [row[name] for row in rows] for name in names}
    return correlation_report(
        {"local_energy": [row["local_energy"] for row in rows]},
        {name: [row[name] for row in rows] for name in ("test_error", "gap")},
        {name: values for name, values in hyper_parameters.items() if len(set(values)) > 1},
    )
