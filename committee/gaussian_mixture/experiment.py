"""The figure on Gaussian mixtures as data: simulated samples and theory, stored, resumable."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from committee.gaussian_mixture.bayes import (
    bayes_error,
    bayes_overlap,
    best_bias,
    hebb_local_energy,
    overlap_error,
)
from committee.gaussian_mixture.estimators import LinearClassifier, fit, hebb
from committee.gaussian_mixture.flatness import (
    local_energy,
    local_energy_theory,
    mean_margin_theory,
    normalised_margins,
)
from committee.gaussian_mixture.losses import LOSSES
from committee.gaussian_mixture.maximum_flatness import (
    max_flat_classifier,
    max_flat_loss,
    max_flat_loss_theory,
    max_flat_theory,
)
from committee.gaussian_mixture.replica_symmetric import replica_symmetric
from committee.gaussian_mixture.samples import check_parameters, sample
from committee.gaussian_mixture.state import ConvergenceWarning, ReplicaSymmetricState
from message_passing.tools.files import write_csv, write_json
from message_passing.tools.parallel import run_tasks

RIDGES = tuple(float(x) for x in np.geomspace(1e-2, 1e2, 9))
NOISES = (4.0, 2.0, 1.4, 1.0, 0.7, 0.5, 0.35)
SIGMAS = tuple(float(x) for x in np.linspace(0.0, 4.0, 21))
MEASURED = ("error", "training_error", "overlap", "mean_margin", "best_error")

Row = dict[str, Any]


@dataclass(frozen=True)
class GaussianMixtureConfig:
    """Error, flatness and overlap of estimators on a Gaussian mixture: theory and simulation."""

    out: Path = Path("results/gaussian-mixture")
    """Folder of the results; a run that was interrupted goes on."""
    alpha: float = 2.0
    """Patterns per input, P/N."""
    delta: float = 1.0
    """Variance Δ of each cloud, per input."""
    rho: float = 0.5
    """Fraction of labels +1; where it is not 0.5, minimisers learn a bias."""
    inputs: int = 400
    """N of the simulated samples."""
    samples: int = 10
    """Simulated samples."""
    seed: int = 0
    """Seed of the samples."""
    jobs: int = 2
    """Processes."""

    def __post_init__(self) -> None:
        check_parameters(self.alpha, self.delta, self.rho)
        for name, least in (("inputs", 20), ("samples", 2), ("jobs", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; at least {least} was expected.")


def compute(config: GaussianMixtureConfig, progress: bool = False) -> dict[str, list[Row]]:
    """Rows of "simulation" (one per estimator and sample) and "theory", stored in ``config.out``.

    A sample already on disk is not computed again.

    Raises
    ------
    ValueError
        The folder holds the results of another configuration.
    """
    science = {key: value for key, value in asdict(config).items() if key not in ("out", "jobs")}
    stored = config.out / "config.json"
    if stored.exists() and (found := json.loads(stored.read_text())) != science:
        raise ValueError(f"out is {config.out}, which holds another run: {found}.")
    write_json(stored, science)

    files = [config.out / "samples" / f"{i:04d}.json" for i in range(config.samples)]
    seeds = np.random.SeedSequence(config.seed).spawn(config.samples)
    todo = [(config, seeds[i], file) for i, file in enumerate(files) if not file.exists()]
    if todo:
        tasks = run_tasks(
            _measure_and_store,
            todo,
            workers=config.jobs,
            progress=progress,
            description="samples",
        )
        for _ in tasks:  # each stores its own file
            pass
    if not (config.out / "theory.json").exists():
        write_json(config.out / "theory.json", predict(config))
    results = load(config.out)
    write_csv(config.out / "summary.csv", summarise(results))
    return results


def load(folder: str | Path) -> dict[str, list[Row]]:
    """Read what :func:`compute` stored."""
    folder = Path(folder)
    files = sorted((folder / "samples").glob("*.json"))
    simulation = [row for file in files for row in json.loads(file.read_text())]
    return {"simulation": simulation, "theory": json.loads((folder / "theory.json").read_text())}


def measure(config: GaussianMixtureConfig, seed: np.random.SeedSequence) -> list[Row]:
    """All estimators on one sample."""
    x, y, centre = sample(config.inputs, config.alpha, config.delta, config.rho, seed)
    trained = config.rho != 0.5

    def row(family: str, parameter: float, classifier: LinearClassifier) -> Row:
        if not classifier.converged:
            raise RuntimeError(f"{classifier.name} did not converge on this sample.")
        overlap = classifier.overlap(centre)
        return {
            "estimator": family,
            "parameter": parameter,
            "error": classifier.error(centre, config.delta, config.rho),
            "training_error": classifier.error_rate(x, y),
            "overlap": overlap,
            "mean_margin": float(np.mean(normalised_margins(classifier.weights, x, y))),
            "best_error": _best_error(overlap, config),
            "local_energy": local_energy(classifier, x, y, SIGMAS).tolist(),
        }

    learnt = hebb(x, y)
    if trained:
        overlap = bayes_overlap(config.alpha, config.delta)
        length = float(np.linalg.norm(learnt.weights)) / np.sqrt(config.inputs)
        b = length * float(best_bias(overlap, config.delta, config.rho))
        learnt = LinearClassifier(learnt.weights, b, "hebb with the Bayes-optimal bias")
    rows = [row("hebb", 0.0, learnt)]
    for loss in LOSSES:
        rows += [row(loss, ridge, fit(x, y, loss, ridge, trained)) for ridge in RIDGES]  # type: ignore[arg-type]
        rows += [row(f"flat {loss}", s, max_flat_loss(x, y, loss, s)) for s in NOISES]  # type: ignore[arg-type]
    flattest = max_flat_classifier(x, y, NOISES)
    rows += [row("flattest", s, c) for s, c in zip(NOISES, flattest, strict=True)]
    return rows


def predict(config: GaussianMixtureConfig) -> list[Row]:
    """Theory of all estimators, the ridge and σ on finer grids; a solution must exist to appear."""
    alpha, delta, rho = config.alpha, config.delta, config.rho

    def row(family: str, parameter: float, state: ReplicaSymmetricState) -> Row:
        return {
            "estimator": family,
            "parameter": parameter,
            "error": state.error,
            "training_error": state.training_error,
            "overlap": state.overlap,
            "mean_margin": mean_margin_theory(state) if state.bias == 0 else None,
            "best_error": _best_error(state.overlap, config),
            "local_energy": local_energy_theory(state, SIGMAS).tolist(),
            "stable": state.stable,
        }

    R = bayes_overlap(alpha, delta)
    b = float(best_bias(R, delta, rho))
    energies = np.asarray(hebb_local_energy(SIGMAS, alpha, delta, b, rho))
    rows: list[Row] = [
        {
            "estimator": "hebb",
            "parameter": 0.0,
            "error": bayes_error(alpha, delta, rho),
            "training_error": float(energies[0]),
            "overlap": R,
            "mean_margin": float(np.sqrt((alpha + delta) / (alpha * delta))),
            "best_error": _best_error(R, config),
            "local_energy": energies.tolist(),
            "stable": True,
        }
    ]
    bias = "train" if rho != 0.5 else None
    noises = np.union1d(NOISES, np.geomspace(NOISES[-1], NOISES[0], 16))[::-1]
    for loss in LOSSES:
        state: ReplicaSymmetricState | None = None
        for ridge in np.union1d(RIDGES, np.geomspace(RIDGES[0], RIDGES[-1], 25))[::-1]:
            state = replica_symmetric(loss, alpha, delta, float(ridge), rho, bias, start=state)  # type: ignore[arg-type]
            if state.converged:
                rows.append(row(loss, float(ridge), state))
        state = None
        for sigma in noises:
            state = max_flat_loss_theory(loss, alpha, delta, float(sigma), start=state)  # type: ignore[arg-type]
            if state.converged:
                rows.append(row(f"flat {loss}", float(sigma), state))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # where none exists, no line is drawn
        states = max_flat_theory(alpha, delta, noises)
    pairs = zip(noises, states, strict=True)
    return rows + [row("flattest", float(s), state) for s, state in pairs if state.converged]


def summarise(results: dict[str, list[Row]]) -> list[Row]:
    """One row per estimator: mean and standard error over the samples, beside the theory."""
    theory = {(row["estimator"], row["parameter"]): row for row in results["theory"]}
    groups: dict[tuple[str, float], list[Row]] = {}
    for row in results["simulation"]:
        groups.setdefault((row["estimator"], row["parameter"]), []).append(row)
    table = []
    for (estimator, parameter), rows in groups.items():
        line: Row = {"estimator": estimator, "parameter": parameter, "samples": len(rows)}
        predicted = theory.get((estimator, parameter))
        for name in MEASURED:
            values = np.array([row[name] for row in rows])
            line[name] = float(values.mean())
            line[f"{name}_standard_error"] = float(values.std(ddof=1) / np.sqrt(len(values)))
            value = predicted[name] if predicted else None
            line[f"{name}_theory"] = "" if value is None else value
        line["stable_theory"] = predicted["stable"] if predicted else ""
        table.append(line)
    return table


def _measure_and_store(task: tuple[GaussianMixtureConfig, np.random.SeedSequence, Path]) -> None:
    config, seed, file = task
    write_json(file, measure(config, seed))


def _best_error(overlap: float, config: GaussianMixtureConfig) -> float:
    """Error at the best bias for this overlap."""
    bias = 0.0 if config.rho == 0.5 else best_bias(overlap, config.delta, config.rho)
    return float(overlap_error(overlap, config.delta, bias, config.rho))
