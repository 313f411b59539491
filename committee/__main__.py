"""``python -m committee COMMAND``: the experiments of the paper from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from committee import benchmark, elastic_term, sensitivity
from committee.benchmark import GRID, BenchmarkConfig
from committee.elastic_term import ElasticTermConfig
from committee.experiments import ExperimentConfig, Figure1Config, Figure6Config, run_experiment
from committee.figures import plot_results, plot_training_costs
from committee.gaussian_mixture.bayes import bayes_error, oracle_error
from committee.gaussian_mixture.experiment import GaussianMixtureConfig, compute
from committee.perceptron import command as perceptron
from committee.perceptron.experiment import PerceptronConfig
from committee.results import ExperimentResults
from committee.sensitivity import SensitivityConfig
from committee.solution_space.experiment import CONDITION, FlatnessRangeConfig
from committee.solution_space.experiment import compute as compute_range
from committee.solution_space.figures import plot_conditions, plot_flatness_range
from committee.solution_space.statements import family_means, statements
from committee.tables import closing_text, write_tables
from message_passing.tools.commands import Commands, run_command
from message_passing.tools.files import save_figure, write_table
from message_passing.tools.tables import to_markdown

if TYPE_CHECKING:
    import pandas as pd


def draw_figure(config: ExperimentConfig) -> None:
    """Compute the missing runs, print the closing tables. Each round updates tables and figure."""

    def write(results: ExperimentResults) -> tuple[dict[str, pd.DataFrame], list[Path]]:
        tables = write_tables(results, config.out)
        return tables, save_figure(plot_results(results), config.out / "figure")

    print(f"Tables and figure so far: {config.out}, after each round", flush=True)
    results = run_experiment(config, progress=True, on_round=write)
    tables, figures = write(results)
    print(f"\n{closing_text(results, tables)}\n")
    print(f"Written: {', '.join(map(str, figures))} and tables in {config.out}")


def draw_gaussian_mixture(config: GaussianMixtureConfig) -> None:
    """Compute theory and samples, draw the figure, print a table."""
    results = compute(config, progress=True)
    figures = save_figure(results.plot(), config.out / "figure")
    print(
        f"Bayes-optimal error {bayes_error(config.alpha, config.delta, config.rho):.5f}, "
        f"of one who knows the centre {oracle_error(config.delta, config.rho):.5f}"
    )
    shown = ["estimator", "parameter", "n", "error", "error_standard_error", "error_theory"]
    shown += ["training_error", "training_error_standard_error", "training_error_theory"]
    print(to_markdown(results.to_frame()[shown]))
    print(f"Written: {', '.join(map(str, figures))} and summary.csv in {config.out}")


def draw_flatness_range(config: FlatnessRangeConfig) -> None:
    """Compute the missing runs, print the last tables. Each draw updates tables and figure."""

    def own_condition(machines: pd.DataFrame) -> pd.DataFrame:
        return next(table for _, table in machines.groupby([*CONDITION], sort=False))

    def write(machines: pd.DataFrame) -> None:
        write_table(config.out / "machines.csv", machines)
        write_table(config.out / "statements.csv", statements(machines))
        save_figure(plot_flatness_range(own_condition(machines)), config.out / "figure")
        if config.also:
            save_figure(plot_conditions(machines), config.out / "conditions")

    print(f"Tables and figure so far: {config.out}, after each draw", flush=True)
    machines = compute_range(config, progress=True, on_draw=write)
    columns = ["test_error", "local_energy_1", "local_entropy", "n"]
    means = family_means(own_condition(machines)).groupby("family", sort=False)[columns].mean()
    print(to_markdown(means.reset_index()))
    print(to_markdown(statements(machines).drop(columns=[] if config.also else [*CONDITION])))
    print(f"Written: figures and tables in {config.out}")


def show_speed(config: BenchmarkConfig) -> None:
    """Measure and print. With ``--out`` and ``--scaling``, draw the growth with the sizes."""
    rows = benchmark.run(config)
    if config.out is not None and config.scaling:
        figure = Figure(figsize=(12.5, 3.0), layout="constrained")
        plot_training_costs(rows, figure.subplots(1, len(GRID), sharey=True))
        save_figure(figure, config.out)


COMMANDS: Commands = {
    "figure1": (Figure1Config, draw_figure),
    "figure6": (Figure6Config, draw_figure),
    "elastic-term": (ElasticTermConfig, elastic_term.run),
    "sensitivity": (SensitivityConfig, sensitivity.run),
    "gaussian-mixture": (GaussianMixtureConfig, draw_gaussian_mixture),
    "perceptron": (PerceptronConfig, perceptron.run),
    "flatness-range": (FlatnessRangeConfig, draw_flatness_range),
    "benchmark": (BenchmarkConfig, show_speed),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run its command."""
    description = "Committee machines and wide flat minima: the experiments of the paper."
    run_command("committee", description, COMMANDS, arguments)


if __name__ == "__main__":
    main()
