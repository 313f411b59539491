"""Dependence of the results on choices that the paper leaves open: a table of variations.

Every row trains one algorithm with one change: the draw or the balance of the patterns, the
reduction of the loss, or the averaging of Entropy-SGD. ``elastic_term`` decides the strength of
Replicated-SGD's elastic term.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from committee.algorithms import PUBLISHED, MinibatchAlgorithm
from committee.experiments import DataName, DataOptions
from committee.flatness import local_energy
from committee.patterns import PatternSet, load_patterns
from committee.training import train
from message_passing import local_entropy_curve
from message_passing.tools.files import read_records, write_records, write_table
from message_passing.tools.parallel import check_scheduler
from message_passing.tools.run_folder import RunFolder, as_json
from message_passing.tools.tables import means, to_markdown
from message_passing.tools.validation import check_least

if TYPE_CHECKING:
    import pandas as pd

SIGMAS = (0.5, 1.0, 1.5)
DISTANCE = 0.3


@dataclass(frozen=True)
class SensitivityConfig(DataOptions):
    """Vary the choices that the paper leaves open, with one row of a table per variation."""

    out: Path = Path("results/sensitivity")
    """Folder of the results. Running again with the same folder resumes."""
    restarts: int = 10
    """Independent machines of each variation."""
    scheduler: str | None = None
    """Address of a Dask scheduler, tcp://host:port. Its workers replace local processes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, restarts=2)  # for standard errors


@dataclass(frozen=True)
class Variation:
    """One row: an algorithm, its patterns, and the name of the change."""

    change: str
    algorithm: MinibatchAlgorithm
    balanced: bool = False
    draw: int = 0  # added to the seed of the patterns

    @property
    def name(self) -> str:
        return f"{self.algorithm.name}, {self.change}"


def variations() -> list[Variation]:
    """All rows of the table."""
    rows = []
    for name in ("sgd-fast", "sgd-slow", "esgd"):
        algorithm = PUBLISHED[name]
        rows.append(Variation("as in Figure 1", algorithm))
        rows.append(Variation("balanced patterns", algorithm, balanced=True))
        rows.append(Variation("another draw of the patterns", algorithm, draw=1))
        if name != "esgd":
            rows.append(Variation("mean of the loss", replace(algorithm, reduction="mean")))
    for averaging in (0.0, 0.5, 0.9):
        changed: dict[str, Any] = {"averaging": averaging}
        rows.append(Variation(f"averaging {averaging:g}", replace(PUBLISHED["esgd"], **changed)))
    return rows


def run(config: SensitivityConfig) -> pd.DataFrame:
    """Compute the missing rows, print each row when it is ready, write the table.

    Raises ``ValueError`` if the folder holds results of other settings.
    """
    import pandas as pd

    if config.scheduler is not None:
        check_scheduler(config.scheduler)
    # Resolve "auto" once, so that all rows use one data set.
    patterns = load_patterns(config.data, config.size, config.seed, config.data_dir)
    config = replace(config, data=cast(DataName, patterns.name))
    folder = RunFolder(config.out, extensible=("variations",), units=("rows",))
    names = ("restarts", "data", "size", "seed")
    settings: dict[str, Any] = {name: getattr(config, name) for name in names}
    settings["variations"] = {variation.name: as_json(variation) for variation in variations()}
    folder.store_config("What the paper leaves open", settings)
    rows = []
    for variation in variations():
        path = config.out / "rows" / f"{variation.name.replace(' ', '-')}.json"
        if not path.exists():
            write_records(path, measure_one(config, variation))
        rows.append(summarise(read_records(path)))
        text = to_markdown(rows[-1], {"test_error": 100, "constant_test_error": 100}).splitlines()
        print("\n".join(text if len(rows) == 1 else text[2:]), flush=True)
    table = pd.concat(rows, ignore_index=True)
    write_table(config.out / "sensitivity.csv", table)
    return table


def measure_one(config: SensitivityConfig, variation: Variation) -> pd.DataFrame:
    """Train the machines of one row and measure their local energy and local entropy at d = 0.3.

    The local entropy is by belief propagation, as in the paper, so the rows compare with its
    published ranges. It is NaN if belief propagation did not converge.
    """
    patterns: PatternSet = load_patterns(
        config.data, config.size, config.seed + variation.draw, config.data_dir, variation.balanced
    )
    X, y = patterns.train_patterns, patterns.train_labels
    machines = train(
        patterns,
        variation.algorithm,
        restarts=config.restarts,
        seed=config.seed,
        workers=config.workers,
        scheduler=config.scheduler,
        progress=True,
    )
    runs = machines.to_frame()
    runs.insert(1, "change", variation.change)
    runs["patterns"] = len(y)
    runs["constant_test_error"] = patterns.constant_test_error
    energies = local_energy(machines.weights, X, y, SIGMAS).local_energy
    for sigma, energy in zip(SIGMAS, energies.T, strict=True):
        runs[f"local_energy_{sigma:g}"] = energy
    curves = [
        local_entropy_curve(weights, X, y, engine="bp", distances=[DISTANCE])
        for weights in machines.weights
    ]
    runs[f"local_entropy_bp_{DISTANCE:g}"] = [
        curve.local_entropy[0] if curve.converged[0] else np.nan for curve in curves
    ]
    return runs


def summarise(runs: pd.DataFrame) -> pd.DataFrame:
    """The row of one variation: counts, the median number of epochs, means ± standard errors."""
    keys = ["algorithm", "change", "patterns", "constant_test_error"]
    measured = [name for name in map(str, runs) if name.startswith(("test_error", "local_"))]
    row = means(runs, keys, measured)
    row.insert(5, "converged", runs["converged"].sum())
    row.insert(6, "with_errors", (runs["train_error"] > 0).sum())
    row.insert(7, "collapsed", runs["collapsed"].sum())
    row.insert(8, "median_epochs", runs["epochs"].median())
    return row
