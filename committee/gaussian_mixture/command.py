"""``python -m committee gaussian-mixture``: compute what is missing, write table and figure."""

from __future__ import annotations

from pathlib import Path

from committee.gaussian_mixture.bayes import bayes_error, oracle_error
from committee.gaussian_mixture.experiment import GaussianMixtureConfig, compute, summarise
from committee.gaussian_mixture.figure import plot_gaussian_mixture
from message_passing.tools.files import save_figure


def run(config: GaussianMixtureConfig) -> list[Path]:
    """Theory, samples, ``summary.csv`` and the figure in ``config.out``; prints a table."""
    results = compute(config, progress=True)
    figures = save_figure(plot_gaussian_mixture(results, config), config.out / "figure")
    print(
        f"Bayes-optimal error {bayes_error(config.alpha, config.delta, config.rho):.5f}, "
        f"of one who knows the centre {oracle_error(config.delta, config.rho):.5f}"
    )
    print(
        f"{'estimator':<15}{'parameter':>10}{'error':>18}{'theory':>9}{'training':>10}{'theory':>9}"
    )
    for row in summarise(results):
        error = f"{row['error']:.5f}±{row['error_standard_error']:.5f}"
        theory, training = (
            f"{value:.5f}" if value != "" else "-"
            for value in (row["error_theory"], row["training_error_theory"])
        )
        print(
            f"{row['estimator']:<15}{row['parameter']:>10.3g}{error:>18}{theory:>9}"
            f"{row['training_error']:>10.4f}{training:>9}"
        )
    print(f"Written: {', '.join(map(str, figures))} and summary.csv in {config.out}")
    return figures
