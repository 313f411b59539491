"""``python -m committee COMMAND``: the experiments of the paper from the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import tyro
from matplotlib.figure import Figure

from committee import benchmark, sensitivity
from committee.benchmark import BenchmarkConfig
from committee.costs import GRID
from committee.experiments import Experiment, ExperimentConfig, Figure1Config, Figure6Config
from committee.figures import plot_results, plot_training_costs
from committee.gaussian_mixture import command as gaussian_mixture
from committee.gaussian_mixture.experiment import GaussianMixtureConfig
from committee.perceptron import command as perceptron
from committee.perceptron.experiment import PerceptronConfig
from committee.sensitivity import SensitivityConfig
from committee.tables import (
    closing_table,
    comparison_table,
    correlation_table,
    deviation_table,
    write_tables,
)
from message_passing.storage import save_figure

INTERRUPTED = 130


def draw_figure(config: ExperimentConfig) -> None:
    """Compute what is missing, write tables and the figure, print the closing table."""
    try:
        experiment = Experiment.prepare(config)
    except (ValueError, OSError) as error:
        raise SystemExit(f"Error: {error}") from error
    print(f"Data: {experiment.patterns.description}", flush=True)
    try:
        results = experiment.run(progress=True)
    except (ImportError, OSError) as error:  # no cluster there, no space left
        raise SystemExit(f"Error: {error}") from error
    statistics = write_tables(results, config.out)
    figures = save_figure(plot_results(results), config.out / "figure")
    engine = results.engines[0] if results.engines else None
    print(f"\n{closing_table(results)}\n")
    if statistics.comparisons:
        print("Differences between the algorithms: Mann-Whitney tests, corrected by Holm")
        print(f"{comparison_table(statistics.comparisons, engine)}\n")
    if statistics.deviations:
        print("Local entropy: deviations from Monte Carlo")
        print(f"{deviation_table(statistics.deviations)}\n")
    print("Correlations over the runs, with 95 % confidence intervals")
    print(f"{correlation_table(statistics.correlations, engine)}\n")
    print(f"Written: {', '.join(map(str, figures))} and tables in {config.out}")


def show_speed(config: BenchmarkConfig) -> None:
    """Measure and print; draw the growth with the sizes."""
    rows = benchmark.run(config)
    if config.out is not None and config.scaling:
        figure = Figure(figsize=(12.5, 3.0), layout="constrained")
        plot_training_costs(rows, figure.subplots(1, len(GRID), sharey=True))
        save_figure(figure, config.out)


def tell_errors(run: Callable[[Any], object]) -> Callable[[Any], None]:
    """The command with errors of its input as one sentence."""

    def told(config: Any) -> None:
        try:
            run(config)
        except (ValueError, OSError) as error:
            raise SystemExit(f"{type(config).__name__}: {error}") from error

    return told


# Each command: its options, a frozen dataclass, and what is done with them.
COMMANDS: dict[str, tuple[type, Callable[[Any], object]]] = {
    "figure1": (Figure1Config, draw_figure),
    "figure6": (Figure6Config, draw_figure),
    "sensitivity": (SensitivityConfig, tell_errors(sensitivity.run)),
    "gaussian-mixture": (GaussianMixtureConfig, tell_errors(gaussian_mixture.run)),
    "perceptron": (PerceptronConfig, tell_errors(perceptron.run)),
    "benchmark": (BenchmarkConfig, tell_errors(show_speed)),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run its command."""
    config = tyro.extras.subcommand_cli_from_dict(
        {name: options for name, (options, _) in COMMANDS.items()},
        prog="python -m committee",
        description="Committee machines and wide flat minima: the experiments of the paper.",
        args=arguments,
    )
    run = next(run for options, run in COMMANDS.values() if type(config) is options)
    try:
        run(config)
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on from here.", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
