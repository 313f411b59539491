"""``python -m message_passing COMMAND``: local entropy from the command line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from message_passing import benchmark
from message_passing.benchmark import BenchmarkConfig
from message_passing.curve_runs import CurveConfig, CurveRun, closing_table, curve_table
from message_passing.figures import plot_costs, plot_curves
from message_passing.tools.commands import Commands, run_command
from message_passing.tools.files import save_figure, write_table


def draw_curves(config: CurveConfig) -> None:
    """Compute the missing curves, write the table and the figure, print the closing table."""
    run = CurveRun.prepare(config)
    print(f"Local entropy of {run.network.size}", flush=True)
    for machine in np.flatnonzero(run.training_errors):
        print(f"Machine {machine} makes {run.training_errors[machine]} training errors.")
    curves, refused = run.run(progress=True)
    if refused:
        print("\n".join(refused))
    table = write_table(config.out / "curves.csv", curve_table(curves))
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    ax = plot_curves({e: list(group.values()) for e, group in curves.items()}, figure.subplots())
    ax.set_title(f"Local entropy: {run.network.size}", fontsize="medium")
    files = [*save_figure(figure, config.out / "figure"), table]
    print(f"\n{closing_table(curves)}\n\nWritten: {', '.join(map(str, files))}")


def show_speed(config: BenchmarkConfig) -> None:
    """Measure and print. With ``--out`` and ``--scaling``, draw the growth with the sizes."""
    rows = benchmark.run(config)
    if config.out is not None:
        written = [config.out / "benchmark.csv"]
        if config.scaling:
            figure = Figure(figsize=(11.0, 6.0), layout="constrained")
            plot_costs(rows, figure.subplots(2, len(benchmark.GRID), sharey="row"))
            written += save_figure(figure, config.out / "benchmark")
        print(f"\nWritten: {', '.join(map(str, written))}")


COMMANDS: Commands = {
    "curve": (CurveConfig, draw_curves),
    "benchmark": (BenchmarkConfig, show_speed),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run its command."""
    description = "Local entropy of committee machines: BP, EP and Monte Carlo."
    run_command("message_passing", description, COMMANDS, arguments)


if __name__ == "__main__":
    main()
