"""How strong is the elastic term of Replicated-SGD? A decision by criteria fixed beforehand.

[P21] publishes γ but not the units of distances and losses. Each reading of them gives a factor of
γ, and a unit for the squared distance at which replicas have met (1e-8). A reading is acceptable
if, over fresh random and balanced draws of the patterns and for both algorithms,

1. the replicas collapse onto their centre in at least 9 of 10 runs,
2. the runs have on average no more training errors than sgd-slow on the same draw.

The decision is for the acceptable reading with the highest mean Φ_LE(0.3) by Monte Carlo. If none
is acceptable, it is for the reading with the fewest training errors. Test errors are not used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from committee.algorithms import PUBLISHED, MinibatchAlgorithm, ReplicatedSGD
from committee.variations import Variation, VariationOptions, measure_variations
from message_passing.tools.files import write_table
from message_passing.tools.tables import ERROR, to_markdown
from message_passing.tools.validation import check_least

if TYPE_CHECKING:
    import pandas as pd

N, BATCH, REPLICAS = 784, 100, 10
REFERENCE = "sgd-slow"
LEAST_MET = 0.9
MOST_EPOCHS = 120_000

#: Factor of γ as a function of the learning rate, and threshold of the squared distance.
READINGS: dict[str, tuple[Callable[[float], float], float]] = {
    "1: as printed": (lambda lr: 1.0, 1e-8),
    "N: rows of norm √N": (lambda lr: float(N), 1e-8 / N),
    "1/η: kick without the learning rate": (lambda lr: 1 / lr, 1e-8),
    "N·y: rows of norm √N, all pairs of replicas": (lambda lr: float(N * REPLICAS), 1e-8 / N),
    "1e4: 1/η of rsgd-fast": (lambda lr: 1e4, 1e-8),
    "N·B: rows of norm √N, mean of the loss": (lambda lr: float(N * BATCH), 1e-8 / N),
}


@dataclass(frozen=True)
class ElasticTermConfig(VariationOptions):
    """Decide the strength of Replicated-SGD's elastic term by training errors and flatness.

    Each draw is made twice, random and balanced.
    """

    out: Path = Path("results/elastic-term")
    """Folder of the results. Running again with the same folder resumes."""
    restarts: int = 6
    """Independent machines of each reading on each draw. More can be added later."""
    seed: int = 100
    """Seed of the first draw. The next draw has the next seed. Figure 1 uses other draws."""
    max_epochs: int = MOST_EPOCHS
    """Epochs after which training gives up. It also ends when the growing γ would make the
    explicit step overshoot the centre."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, max_epochs=1)


def readings(max_epochs: int = MOST_EPOCHS) -> list[tuple[str, MinibatchAlgorithm]]:
    """Pairs of a reading and an algorithm: the reference, then all readings of both algorithms."""
    slow = PUBLISHED[REFERENCE]
    found: list[tuple[str, MinibatchAlgorithm]] = [
        ("reference", replace(slow, max_epochs=min(slow.max_epochs, max_epochs)))
    ]
    for name in ("rsgd-fast", "rsgd-slow"):
        published = PUBLISHED[name]
        assert isinstance(published, ReplicatedSGD)
        for reading, (factor, threshold) in READINGS.items():
            scale = factor(published.lr)
            growth = -np.log(published.lr * scale * published.gamma(0))
            stable = 1 + int(growth / np.log(published.gamma(1) / published.gamma(0)))
            changed = replace(
                published,
                elastic_scale=scale,
                distance_threshold=threshold,
                max_epochs=min(stable, max_epochs),
            )
            found.append((reading, changed))
    return found


def compute(config: ElasticTermConfig) -> pd.DataFrame:
    """One row per run: what the criteria need, and no test error.

    Columns: reading, algorithm, balanced, draw, restart, epochs, met, training_errors, collapsed,
    local_entropy with its standard error, and ``converged`` for the local entropy.

    Raises ``ValueError`` for a folder with results of other settings.
    """
    rows = [
        Variation(reading, algorithm, balanced)
        for balanced in (False, True)
        for reading, algorithm in readings(config.max_epochs)
    ]
    runs = measure_variations(config, rows, "The strength of the elastic term", "mc")
    unused = [c for c in map(str, runs) if c.endswith("test_error") or c.startswith("local_energy")]
    return runs.drop(columns=unused).rename(columns={"change": "reading"})


def judge(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per reading, algorithm and setting: the criteria, means ± errors over draws.

    Columns: ``met``, the fraction of runs whose replicas met; ``excess_errors``, training errors
    minus the errors of sgd-slow on the same draw; ``local_entropy``; ``n``, the number of draws.
    """
    keys = ["reading", "algorithm", "balanced"]
    measured = ["met", "training_errors", "local_entropy"]
    draws = runs.groupby([*keys, "draw"], sort=False)[measured].mean().reset_index()
    reference = draws[draws["algorithm"] == REFERENCE].set_index(["balanced", "draw"])
    draws = draws[draws["algorithm"] != REFERENCE]
    own = reference["training_errors"].loc[draws.set_index(["balanced", "draw"]).index]
    draws["excess_errors"] = draws["training_errors"] - own.to_numpy()
    groups = draws.groupby(keys, sort=False)
    table = groups["met"].agg(n="size", met="mean")
    for name in ("excess_errors", "local_entropy"):
        table[name], table[name + ERROR] = groups[name].mean(), groups[name].sem()
    return table.reset_index()


def decide(judged: pd.DataFrame) -> tuple[str, bool]:
    """The reading that the criteria select, and whether it is acceptable in all settings."""
    good = (judged["met"] >= LEAST_MET) & (judged["excess_errors"] <= 0)
    groups = judged.assign(good=good).groupby("reading", sort=False)
    acceptable = groups["good"].all()
    if acceptable.any():
        entropy = groups["local_entropy"].mean()[acceptable]
        return str(entropy.idxmax()), True
    return str(groups["excess_errors"].mean().idxmin()), False


def run(config: ElasticTermConfig) -> None:
    """Compute, write ``runs.csv`` and ``criteria.csv``, print the table and the decision."""
    runs = compute(config)
    judged = judge(runs)
    write_table(config.out / "runs.csv", runs)
    write_table(config.out / "criteria.csv", judged)
    print(to_markdown(judged, {"local_entropy": 1e3, "met": 100}))
    reading, acceptable = decide(judged)
    verdict = "" if acceptable else "No reading meets the criteria. By training errors: "
    print(f"{verdict}{reading}")
