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
from typing import TYPE_CHECKING, Any

import numpy as np

from committee.algorithms import PUBLISHED, Algorithm, ReplicatedSGD
from committee.experiments import DataOptions
from committee.patterns import PatternSet, load_patterns
from committee.training import check_hidden_units, train_restart
from message_passing.curve_runs import curve_arrays
from message_passing.tools.files import read_json, write_json, write_table
from message_passing.tools.run_folder import RunFolder, as_json, make_missing
from message_passing.tools.tables import ERROR, to_markdown
from message_passing.tools.validation import check_least

if TYPE_CHECKING:
    import pandas as pd

N, BATCH, REPLICAS = 784, 100, 10
REFERENCE = "sgd-slow"
DISTANCE = 0.3
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
class ElasticTermConfig(DataOptions):
    """Decide the strength of Replicated-SGD's elastic term by training errors and flatness."""

    out: Path = Path("results/elastic-term")
    """Folder of the results. Running again with the same folder resumes."""
    draws: int = 5
    """Draws of the training patterns, once random and once balanced. More can be added later."""
    restarts: int = 6
    """Independent machines of each reading on each draw. More can be added later."""
    seed: int = 100
    """Seed of the first draw. The next draw has the next seed. Figure 1 uses other draws."""
    hidden_units: int = 9
    """Hidden units K, an odd number."""
    max_epochs: int = MOST_EPOCHS
    """Epochs after which training gives up. It also ends when the growing γ would make the
    explicit step overshoot the centre."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, draws=1, restarts=1, max_epochs=1)
        check_hidden_units(self.hidden_units)


def readings(max_epochs: int = MOST_EPOCHS) -> dict[tuple[str, str], Algorithm]:
    """Map (reading, name) to algorithm: each reading of both algorithms, and the reference."""
    slow = PUBLISHED[REFERENCE]
    found: dict[tuple[str, str], Algorithm] = {
        ("", REFERENCE): replace(slow, max_epochs=min(slow.max_epochs, max_epochs))
    }
    for name in ("rsgd-fast", "rsgd-slow"):
        published = PUBLISHED[name]
        assert isinstance(published, ReplicatedSGD)
        for reading, (factor, threshold) in READINGS.items():
            scale = factor(published.lr)
            growth = -np.log(published.lr * scale * published.gamma(0))
            stable = 1 + int(growth / np.log(published.gamma(1) / published.gamma(0)))
            found[reading, name] = replace(
                published,
                elastic_scale=scale,
                distance_threshold=threshold,
                max_epochs=min(stable, max_epochs),
            )
    return found


def compute(config: ElasticTermConfig, progress: bool = False) -> pd.DataFrame:
    """Train and measure the missing runs. Returns one row per run.

    Columns: reading, algorithm, balanced, draw, restart, epochs, met, training_errors, collapsed,
    local_entropy with its standard error, and ``converged`` for the local entropy.

    Raises ``ValueError`` for a folder with results of other settings.
    """
    import pandas as pd

    compared = readings(config.max_epochs)
    names = ("data", "size", "seed", "hidden_units", "max_epochs")
    settings = {
        **{name: getattr(config, name) for name in names},
        "readings": {"; ".join(key): as_json(value) for key, value in compared.items()},
    }
    folder = RunFolder(config.out, units=("runs",))
    folder.check(settings)
    patterns = {
        (draw, balanced): load_patterns(
            config.data, config.size, config.seed + draw, config.data_dir, balanced
        )
        for draw in range(config.draws)
        for balanced in (False, True)
    }
    folder.store_config("The strength of the elastic term", settings)
    # Restarts are the outer loop, so an interrupted command has equally many runs everywhere.
    rows: list[dict[str, Any]] = [
        {"reading": reading, "algorithm": name, "balanced": balanced, "draw": draw, "restart": r}
        for r in range(config.restarts)
        for draw, balanced in patterns
        for reading, name in compared
    ]
    tasks = {
        run_path(config.out, row): (
            row,
            patterns[row["draw"], row["balanced"]],
            compared[row["reading"], row["algorithm"]],
            np.random.SeedSequence(config.seed + row["draw"], spawn_key=(row["restart"],)),
        )
        for row in rows
    }
    make_missing(
        measure_run,
        tasks,
        write_json,
        progress,
        common=(config.hidden_units,),
        workers=config.workers,
        description="readings of the elastic term",
    )
    return pd.DataFrame(map(read_json, tasks))


def run_path(out: Path, row: dict[str, Any]) -> Path:
    """File of one run."""
    setting = "balanced" if row["balanced"] else "random"
    reading = row["reading"].split(":")[0].replace("/", "-") or "reference"
    draw, restart = (f"{row[name]:02d}" for name in ("draw", "restart"))
    return out / "runs" / setting / draw / f"{row['algorithm']} {reading} {restart}.json"


def measure_run(
    hidden_units: int, task: tuple[dict[str, Any], PatternSet, Algorithm, np.random.SeedSequence]
) -> dict[str, Any]:
    """Unit of work: one machine, its training errors and its local entropy."""
    row, patterns, algorithm, seed_sequence = task
    machine = train_restart(patterns, algorithm, hidden_units, seed_sequence)
    seed = int(seed_sequence.generate_state(1)[0])
    X, y = patterns.train_patterns, patterns.train_labels
    curve = curve_arrays(machine.weights, X, y, "mc", seed, distances=(DISTANCE,))
    return {
        **row,
        "epochs": machine.epochs,
        "met": machine.converged,
        "training_errors": round(machine.train_error * len(y)),
        "collapsed": machine.collapsed,
        "local_entropy": float(curve["local_entropy"][0]),
        f"local_entropy{ERROR}": float(curve["standard_error"][0]),
        "converged": bool(curve["converged"][0]),
    }


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
    runs = compute(config, progress=True)
    judged = judge(runs)
    write_table(config.out / "runs.csv", runs)
    write_table(config.out / "criteria.csv", judged)
    print(to_markdown(judged, {"local_entropy": 1e3, "met": 100}))
    reading, acceptable = decide(judged)
    verdict = "" if acceptable else "No reading meets the criteria. By training errors: "
    print(f"{verdict}{reading}")
