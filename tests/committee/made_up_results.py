"""Results with chosen numbers, for tests of tables, statistics and figures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from committee.algorithms import CONTROLS, PUBLISHED
from committee.flatness import LocalEnergyProfile
from committee.patterns import PatternSet
from committee.results import AlgorithmResults, ExperimentResults
from message_passing.local_entropy import LocalEntropyCurve


def curve(slope: float, last: float = 0.32, engine: str = "bp") -> LocalEntropyCurve:
    """Φ_LE(d) = slope · √d. The curve's interpolation reproduces it exactly."""
    d = np.linspace(0.0005, last, 9)
    zeros = np.zeros(9)
    return LocalEntropyCurve(
        variance=2 * d,
        distance=d,
        local_entropy=slope * np.sqrt(d),
        free_entropy=slope * np.sqrt(d),
        displacement=np.ones(9),
        converged=np.ones(9, bool),
        iterations=np.ones(9, np.int64),
        residual=zeros,
        standard_error=zeros,
        distance_error=zeros,
        training_errors=0,
        patterns=500,
        engine=engine,
    )


def algorithm(
    name: str,
    test_error: list[float],
    energy: list[float],
    slopes: list[float],
    train_error: list[float] | None = None,
    engines: tuple[str, ...] = ("bp",),
    draws: int = 1,
) -> AlgorithmResults:
    """Runs with δE(σ) = energy · σ. Those without training errors have Φ_LE(d) = slope · √d.

    The runs are ordered by draw.
    """
    R = len(test_error)
    errors = np.array(train_error or [0.0] * R)
    sigma = np.linspace(0, 1.5, 4)
    runs = {
        "draw": np.repeat(np.arange(draws), R // draws),
        "restart": np.tile(np.arange(R // draws), draws),
        "epochs": 100 * (1 + np.arange(R)),
        "train_error": errors,
        "test_error": test_error,
        "loss": 0.0,
        "converged": errors == 0,
        "collapsed": False,
    }
    numbers = [*zip(runs["draw"].tolist(), runs["restart"].tolist(), strict=True)]
    solved = {run: slope for run, slope, e in zip(numbers, slopes, errors, strict=True) if e == 0}
    return AlgorithmResults(
        name=name,
        weights=np.ones((R, 1, 2)),
        runs=pd.DataFrame(runs),
        profile=LocalEnergyProfile(
            sigma, np.outer(energy, sigma), np.zeros((R, 4)), errors, samples=0
        ),
        curves={e: {run: curve(s, engine=e) for run, s in solved.items()} for e in engines},
    )


def results(*algorithms: AlgorithmResults) -> ExperimentResults:
    patterns = PatternSet(
        np.ones((500, 784)),
        np.ones(500),
        np.ones((1000, 784)),
        np.where(np.arange(1000) < 109, 1.0, -1.0),
        "fashion-mnist",
        "Fashion-MNIST, made up",
    )
    draws = pd.concat([own.runs for own in algorithms])["draw"].unique().tolist()
    return ExperimentResults(
        title="Made up",
        hidden_units=9,
        patterns=dict.fromkeys(draws, patterns),
        algorithms={a.name: a for a in algorithms},
    )


TWO = results(
    algorithm("sharp", [0.08, 0.07, 0.09], [0.10, 0.12, 0.14], [-0.01, -0.02, -0.03]),
    algorithm(
        "flat", [0.05, 0.04, 0.06], [0.02, 0.03, 0.04], [-0.001, -0.002, -0.9], [0, 0, 0.002]
    ),
)

# Approximate test error, δE(1) and −Φ_LE(0.3) on one draw.
_ABOUT = {
    "sgd-fast": (0.070, 0.116, 2.9e-3),
    "sgd-slow": (0.053, 0.032, 1.2e-3),
    "rsgd-fast": (0.057, 0.0093, 4.1e-4),
    "rsgd-slow": (0.058, 0.0040, 0.8e-4),
    "esgd": (0.052, 0.013, 3.2e-4),
    "control-rsgd-fast": (0.0575, 0.0172, 4.9e-4),
    "control-rsgd-fast-epochs": (0.057, 0.019, 5.5e-4),
    "rsgd-fast-uncoupled": (0.0572, 0.018, 5.2e-4),
    "control-rsgd-slow": (0.053, 0.0060, 0.75e-4),
    "control-rsgd-slow-epochs": (0.054, 0.0055, 1.0e-4),
    "rsgd-slow-uncoupled": (0.0545, 0.0058, 0.9e-4),
    "control-esgd": (0.055, 0.020, 6e-4),
    "control-esgd-sgd": (0.056, 0.022, 7e-4),
}


def figure1(draws: int, restarts: int, seed: int = 0) -> ExperimentResults:
    """All algorithms of Figure 1. A draw shifts all of them jointly and each one separately."""
    rng = np.random.default_rng(seed)
    together = rng.normal(size=draws)
    made = []
    for name in (*PUBLISHED, *CONTROLS):
        test_error, energy, entropy = _ABOUT[name]
        own = 0.2 * together + 0.05 * rng.normal(size=draws)
        shift = (own[:, None] + 0.1 * rng.normal(size=(draws, restarts))).ravel()
        errors = np.round(
            677 * test_error * np.exp(0.3 * shift + 0.04 * rng.normal(size=shift.size))
        )
        training = np.where(rng.random(shift.size) < 0.1, 0.002, 0.0)
        a = algorithm(
            name,
            (errors / 677).tolist(),
            (energy * np.exp(1.5 * shift)).tolist(),
            (-entropy / np.sqrt(0.3) * np.exp(1.5 * shift)).tolist(),
            training.tolist(),
            ("mc", "ep"),
            draws,
        )
        if name == "rsgd-slow":
            constant = np.arange(len(a.runs)) == 1
            test = a.runs["test_error"].mask(constant, 0.109)
            a = replace(a, runs=a.runs.assign(collapsed=constant, test_error=test))
        made.append(a)
    return results(*made)


def nested(
    rng: np.random.Generator,
    draws: int,
    restarts: int,
    between: float = 1.0,
    rho_between: float = 0.5,
    rho_within: float = 0.2,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y and draw of nested Gaussians. The restarts of a draw scatter with variance 1."""
    covariances = [np.array([[1.0, rho], [rho, 1.0]]) for rho in (rho_between, rho_within)]
    centres = between * rng.multivariate_normal([0, 0], covariances[0], draws)
    values = centres[:, None] + rng.multivariate_normal([0, 0], covariances[1], (draws, restarts))
    x, y = values.reshape(-1, 2).T
    return x, y, np.repeat(np.arange(draws), restarts)


def runs_of(name: str, draws: int, test_error: np.ndarray, energy: np.ndarray) -> pd.DataFrame:
    """Runs of one algorithm with given test errors and δE(1)."""
    restarts = len(test_error) // draws
    return pd.DataFrame(
        {
            "algorithm": name,
            "draw": np.repeat(np.arange(draws), restarts),
            "restart": np.tile(np.arange(restarts), draws),
            "train_error": 0.0,
            "test_error": test_error,
            "local_energy_1": energy,
            "collapsed": False,
        }
    )
