"""Data of the Gaussian-mixture figure: simulated samples and theory, stored and resumable.

::

    results/gaussian-mixture/
        config.json                 settings, versions, hardware
        samples/0000.json, ...      all estimators on one sample
        theory.json                 the same estimators for N → ∞
        summary.csv                 means over the samples, and the theory
        figure.pdf, figure.png
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from committee.gaussian_mixture import (
    ConvergenceWarning,
    LinearClassifier,
    ReplicaSymmetricState,
    bayes_error,
    bayes_overlap,
    best_bias,
    error_under_noise,
    error_under_noise_theory,
    fit,
    hebb,
    hebb_error_under_noise,
    max_flat_classifier,
    max_flat_loss,
    max_flat_loss_theory,
    max_flat_theory,
    mean_margin_theory,
    normalised_margins,
    overlap_error,
    replica_symmetric,
    sample,
)
from committee.gaussian_mixture.losses import LOSSES
from committee.gaussian_mixture.samples import check_parameters
from message_passing.tools.files import AGAIN, read_records, write_records, write_table
from message_passing.tools.run_folder import RunFolder, make_missing
from message_passing.tools.tables import means
from message_passing.tools.validation import check_least

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

RIDGES = tuple(float(x) for x in np.geomspace(1e-2, 1e2, 9))
NOISES = (4.0, 2.0, 1.4, 1.0, 0.7, 0.5, 0.35)
SIGMAS = tuple(float(x) for x in np.linspace(0.0, 4.0, 21))
NOISE_COLUMNS = [f"error_under_noise_{sigma:g}" for sigma in SIGMAS]
MEASURED = ["error", "training_error", "overlap", "mean_margin", "best_error"]
SETTINGS = ("alpha", "delta", "rho", "inputs", "seed")
LARGEST_SAMPLE = 10**8  # numbers, 0.8 GB


@dataclass(frozen=True)
class GaussianMixtureConfig:
    """Error, flatness and overlap of estimators on a Gaussian mixture: theory and simulation."""

    out: Path = Path("results/gaussian-mixture")
    """Folder of the results. Running again with the same folder resumes."""
    alpha: float = 2.0
    """Patterns per input, P/N."""
    delta: float = 1.0
    """Variance Δ of each cloud, per input."""
    rho: float = 0.5
    """Fraction of labels +1. If it is not 0.5, minimisers learn a bias."""
    inputs: int = 400
    """Inputs N of the simulated samples."""
    samples: int = 10
    """Number of simulated samples. More can be added to the same folder later."""
    seed: int = 0
    """Seed of the samples."""
    workers: int | None = None
    """Number of processes. Default: one per core."""

    def __post_init__(self) -> None:
        check_parameters(self.alpha, self.delta, self.rho)
        check_least(self, inputs=20, samples=2, workers=1, seed=0)
        P, largest = self.alpha * self.inputs, LARGEST_SAMPLE / self.inputs
        if not 2 <= round(P) <= largest:
            raise ValueError(
                f"alpha is {self.alpha:g}, which makes {P:.4g} patterns of {self.inputs} inputs; "
                f"2 to {largest:.4g} were expected."
            )
        if not 0 < round(self.rho * round(P)) < round(P):
            raise ValueError(
                f"rho is {self.rho:g}, which gives all {round(P)} patterns the same label; both "
                "labels were expected."
            )


@dataclass(frozen=True, repr=False)
class GaussianMixtureResults:
    """Simulation and theory of all estimators.

    Attributes
    ----------
    config : GaussianMixtureConfig
    simulation : DataFrame
        One row per sample, estimator and parameter (ridge λ or noise σ): ``error``,
        ``training_error``, ``overlap``, ``mean_margin``, ``best_error`` (at the best bias for
        this overlap) and ``error_under_noise_σ``; NaN if a minimiser did not converge.
    theory : DataFrame
        One row per estimator and parameter, on a finer grid, with the column ``stable``.
    """

    config: GaussianMixtureConfig
    simulation: pd.DataFrame
    theory: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """One row per estimator: mean and standard error over the samples, and theory."""
        keys = ["estimator", "parameter"]
        theory = self.theory[[*keys, *MEASURED, "stable"]]
        theory = theory.rename(columns={name: f"{name}_theory" for name in [*MEASURED, "stable"]})
        return means(self.simulation, keys, MEASURED).merge(theory, how="left", on=keys)

    def plot(self) -> Figure:
        """The figure with its four panels."""
        from committee.gaussian_mixture.figures import plot_gaussian_mixture

        return plot_gaussian_mixture(self)

    def __repr__(self) -> str:
        c = self.config
        return (
            f"GaussianMixtureResults(α={c.alpha:g}, Δ={c.delta:g}, ρ={c.rho:g}, N={c.inputs}, "
            f"{c.samples} samples)"
        )


def compute(config: GaussianMixtureConfig, progress: bool = False) -> GaussianMixtureResults:
    """Simulate the missing samples in ``config.out``; add the theory and ``summary.csv``.

    Raises
    ------
    ValueError
        The folder holds results of other settings, or a damaged file.
    """
    folder = RunFolder(config.out, units=("samples", "theory.json"))
    settings = {name: getattr(config, name) for name in SETTINGS}
    folder.store_config("Gaussian mixture", settings)
    seeds = np.random.SeedSequence(config.seed).spawn(config.samples)
    make_missing(
        measure,
        {config.out / "samples" / f"{i:04d}.json": seed for i, seed in enumerate(seeds)},
        write_records,
        progress,
        common=(config,),
        workers=config.workers,
        description="samples",
    )
    if not (config.out / "theory.json").exists():
        write_records(config.out / "theory.json", predict(config))
    results = load(config.out, config.samples)
    write_table(config.out / "summary.csv", results.to_frame())
    return results


def load(folder: str | Path, samples: int | None = None) -> GaussianMixtureResults:
    """Read the results of :func:`compute`; ``samples`` takes only the first ones.

    Raises ``ValueError`` if there are no results, or a file is damaged.
    """
    import pandas as pd

    folder = Path(folder)
    settings = (RunFolder(folder).config() or {}).get("settings", {})
    if settings.keys() != {*SETTINGS}:
        raise ValueError(
            f"folder is {str(folder)!r}; one with the config.json of a Gaussian mixture was "
            "expected."
        )
    files = sorted((folder / "samples").glob("*.json"))[:samples]
    if len(files) < 2:
        raise ValueError(f"{folder} holds {len(files)} samples; at least 2 were expected.")
    simulation = pd.concat([_read(file) for file in files], ignore_index=True)
    config = GaussianMixtureConfig(out=folder, samples=len(files), **settings)
    return GaussianMixtureResults(config, simulation, _read(folder / "theory.json", "stable"))


def _read(path: Path, *more: str) -> pd.DataFrame:
    """Read stored rows; a missing column raises ``ValueError``."""
    rows = read_records(path)
    columns = ["estimator", "parameter", *MEASURED, *NOISE_COLUMNS, *more]
    if missing := [name for name in columns if name not in rows]:
        raise ValueError(f"{path} lacks {', '.join(missing)}. {AGAIN}")
    return rows


def measure(config: GaussianMixtureConfig, seed: np.random.SeedSequence) -> pd.DataFrame:
    """Unit of work: all estimators on one sample."""
    import pandas as pd

    x, y, centre = sample(config.inputs, config.alpha, config.delta, config.rho, seed)
    trained = config.rho != 0.5

    def row(family: str, parameter: float, classifier: LinearClassifier) -> dict[str, Any]:
        if not classifier.converged:
            return {"estimator": family, "parameter": parameter}  # the rest is NaN
        error = classifier.error(centre, config.delta, config.rho)
        margin = float(np.mean(normalised_margins(classifier.weights, x, y)))
        values = error, classifier.error_rate(x, y), classifier.overlap(centre), margin
        return _row(config, family, parameter, values, error_under_noise(classifier, x, y, SIGMAS))

    learnt = hebb(x, y)
    if trained:
        overlap = bayes_overlap(config.alpha, config.delta)
        length = float(np.linalg.norm(learnt.weights)) / np.sqrt(config.inputs)
        b = length * float(best_bias(overlap, config.delta, config.rho))
        learnt = LinearClassifier(learnt.weights, b, "hebb with the Bayes-optimal bias")
    rows = [row("hebb", 0.0, learnt)]
    for loss in LOSSES:
        rows += [row(loss, ridge, fit(x, y, loss, ridge, trained)) for ridge in RIDGES]
        rows += [row(f"flat {loss}", s, max_flat_loss(x, y, loss, s)) for s in NOISES]
    flattest = max_flat_classifier(x, y, NOISES)
    rows += [row("flattest", s, c) for s, c in zip(NOISES, flattest, strict=True)]
    return pd.DataFrame(rows)


def predict(config: GaussianMixtureConfig) -> pd.DataFrame:
    """Theory of all estimators, on finer grids of the ridge and σ, where a solution exists."""
    import pandas as pd

    alpha, delta, rho = config.alpha, config.delta, config.rho

    def row(family: str, parameter: float, state: ReplicaSymmetricState) -> dict[str, Any]:
        margin = mean_margin_theory(state) if state.bias == 0 else np.nan
        values = state.error, state.training_error, state.overlap, margin
        noisy = error_under_noise_theory(state, SIGMAS)
        return _row(config, family, parameter, values, noisy, stable=state.stable)

    R = bayes_overlap(alpha, delta)
    b = float(best_bias(R, delta, rho))
    noisy = np.asarray(hebb_error_under_noise(SIGMAS, alpha, delta, b, rho))
    margin = float(np.sqrt((alpha + delta) / (alpha * delta)))
    values = bayes_error(alpha, delta, rho), float(noisy[0]), R, margin
    rows = [_row(config, "hebb", 0.0, values, noisy, stable=True)]
    bias: Literal["train"] | None = "train" if rho != 0.5 else None
    ridges = np.union1d(RIDGES, np.geomspace(RIDGES[0], RIDGES[-1], 25))[::-1].tolist()
    noises = np.union1d(NOISES, np.geomspace(NOISES[-1], NOISES[0], 16))[::-1].tolist()
    for loss in LOSSES:
        state: ReplicaSymmetricState | None = None
        for ridge in ridges:
            state = replica_symmetric(loss, alpha, delta, ridge, rho, bias, start=state)
            rows += [row(loss, ridge, state)] if state.converged else []
        state = None
        for sigma in noises:
            state = max_flat_loss_theory(loss, alpha, delta, sigma, start=state)
            rows += [row(f"flat {loss}", sigma, state)] if state.converged else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a σ without a solution is left out
        states = max_flat_theory(alpha, delta, noises)
    pairs = zip(noises, states, strict=True)
    rows += [row("flattest", sigma, state) for sigma, state in pairs if state.converged]
    return pd.DataFrame(rows)


def _row(
    config: GaussianMixtureConfig,
    family: str,
    parameter: float,
    values: tuple[float, float, float, float],
    noisy: np.ndarray,
    **more: bool,
) -> dict[str, Any]:
    """One row: ``values`` are MEASURED without the last, ``noisy`` the errors under SIGMAS."""
    _, _, overlap, _ = values
    best = float(best_error(overlap, config))
    return {
        "estimator": family,
        "parameter": parameter,
        **dict(zip(MEASURED, (*values, best), strict=True)),
        **more,
        **dict(zip(NOISE_COLUMNS, noisy.tolist(), strict=True)),
    }


def best_error(overlap: ArrayLike, config: GaussianMixtureConfig) -> NDArray | np.float64:
    """Error at the best bias for this overlap."""
    bias = 0.0 if config.rho == 0.5 else best_bias(overlap, config.delta, config.rho)
    return overlap_error(overlap, config.delta, bias, config.rho)
