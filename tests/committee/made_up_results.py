"""Results with chosen numbers, for tests of tables, statistics and figures."""

from __future__ import annotations

import numpy as np
import pandas as pd

from committee.flatness import LocalEnergyProfile
from committee.patterns import PatternSet
from committee.results import AlgorithmResults, ExperimentResults
from message_passing.local_entropy import LocalEntropyCurve


def curve(slope: float, last: float = 0.32, engine: str = "bp") -> LocalEntropyCurve:
    """Φ_LE(d) = slope · √d, which the curve's interpolation returns exactly."""
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
) -> AlgorithmResults:
    """δE(σ) = energy · σ; slopes of the local entropy, for the runs without training errors."""
    R = len(test_error)
    errors = np.array(train_error or [0.0] * R)
    sigma = np.linspace(0, 1.5, 4)
    runs = {
        "restart": range(R),
        "epochs": 100 * (1 + np.arange(R)),
        "train_error": errors,
        "test_error": test_error,
        "loss": 0.0,
        "converged": errors == 0,
        "collapsed": False,
    }
    return AlgorithmResults(
        name=name,
        weights=np.ones((R, 1, 2)),
        runs=pd.DataFrame(runs),
        profile=LocalEnergyProfile(
            sigma, np.outer(energy, sigma), np.zeros((R, 4)), errors, samples=0
        ),
        curves={
            e: {r: curve(slopes[r], engine=e) for r in range(R) if errors[r] == 0} for e in engines
        },
    )


def results(*algorithms: AlgorithmResults) -> ExperimentResults:
    return ExperimentResults(
        title="Made up",
        hidden_units=9,
        patterns=PatternSet(
            np.ones((500, 784)),
            np.ones(500),
            np.ones((1000, 784)),
            np.where(np.arange(1000) < 109, 1.0, -1.0),
            "fashion-mnist",
            "Fashion-MNIST, made up",
        ),
        algorithms={a.name: a for a in algorithms},
    )


TWO = results(
    algorithm("sharp", [0.08, 0.07, 0.09], [0.10, 0.12, 0.14], [-0.01, -0.02, -0.03]),
    algorithm(
        "flat", [0.05, 0.04, 0.06], [0.02, 0.03, 0.04], [-0.001, -0.002, -0.9], [0, 0, 0.002]
    ),
)
