"""Machines of varied algorithms on several draws, each measured once: one row per run.

::

    OUT/config.json                                settings, versions, hardware, git revision
    OUT/runs/random/00/rsgd-fast 1e4 00.json       setting, draw, algorithm with change, restart
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from committee.algorithms import MinibatchAlgorithm
from committee.experiments import DataName, DataOptions
from committee.flatness import local_energy
from committee.patterns import PatternSet, load_patterns
from committee.training import check_hidden_units, train_restart
from message_passing.curve_runs import curve_arrays
from message_passing.tools.files import read_json, write_json
from message_passing.tools.parallel import check_scheduler
from message_passing.tools.run_folder import RunFolder, as_json, make_missing
from message_passing.tools.tables import ERROR
from message_passing.tools.validation import check_least

if TYPE_CHECKING:
    import pandas as pd

SIGMAS = (0.5, 1.0, 1.5)
DISTANCE = 0.3


@dataclass(frozen=True)
class VariationOptions(DataOptions):
    """Options of experiments that vary algorithms."""

    draws: int = 5
    """Draws of the training patterns. More can be added later."""
    restarts: int = 1
    """Independent machines of each variation on each draw. More can be added later."""
    hidden_units: int = 9
    """Hidden units K, an odd number."""
    scheduler: str | None = None
    """Address of a Dask scheduler, tcp://host:port. Its workers replace local processes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, draws=1, restarts=1)
        check_hidden_units(self.hidden_units)


@dataclass(frozen=True)
class Variation:
    """An algorithm, the name of what is changed in it, and its patterns."""

    change: str
    algorithm: MinibatchAlgorithm
    balanced: bool = False

    @property
    def setting(self) -> str:
        """Random or balanced patterns."""
        return "balanced" if self.balanced else "random"

    @property
    def name(self) -> str:
        """Algorithm and change, up to a colon."""
        return f"{self.algorithm.name} {self.change.split(':')[0].replace('/', '-')}"


def measure_variations(
    config: VariationOptions, variations: Sequence[Variation], title: str, engine: str
) -> pd.DataFrame:
    """Train and measure the missing runs. Returns one row per run.

    Columns: change, algorithm, balanced, draw, restart, constant_test_error, epochs, met,
    training_errors, collapsed, test_error, local_energy_σ, and by ``engine`` local_entropy at
    d = 0.3 with its standard error and ``converged``.

    Raises ``ValueError`` for a folder with results of other settings.
    """
    import pandas as pd

    if config.scheduler is not None:
        check_scheduler(config.scheduler)
    # "auto" is resolved once, so that all runs come from one data set.
    first = load_patterns(config.data, config.size, config.seed, config.data_dir)
    config = replace(config, data=cast(DataName, first.name))
    names = ("data", "size", "seed", "hidden_units")
    settings = {
        **{name: getattr(config, name) for name in names},
        "engine": engine,
        "variations": {f"{v.setting}: {v.name}": as_json(v) for v in variations},
    }
    folder = RunFolder(config.out, extensible=("variations",), units=("runs",))
    folder.check(settings)
    patterns = {
        (draw, balanced): load_patterns(
            config.data, config.size, config.seed + draw, config.data_dir, balanced
        )
        for draw in range(config.draws)
        for balanced in {variation.balanced for variation in variations}
    }
    folder.store_config(title, settings, patterns=first.description)
    print(f"Data: {first.description}; {config.draws} draws", flush=True)
    # Restarts are the outer loop, so an interrupted command has equally many runs everywhere.
    tasks = {
        config.out / "runs" / v.setting / f"{draw:02d}" / f"{v.name} {restart:02d}.json": (
            v, draw, restart, patterns[draw, v.balanced]
        )
        for restart in range(config.restarts)
        for draw in range(config.draws)
        for v in variations
    }  # fmt: skip
    make_missing(
        measure_run,
        tasks,
        write_json,
        progress=True,
        common=(config.hidden_units, config.seed, engine),
        workers=config.workers,
        scheduler=config.scheduler,
        description="variations",
    )
    return pd.DataFrame(map(read_json, tasks))


def measure_run(
    hidden_units: int, seed: int, engine: str, task: tuple[Variation, int, int, PatternSet]
) -> dict[str, Any]:
    """Unit of work: train one machine and measure its errors and its flatness."""
    variation, draw, restart, patterns = task
    sequence = np.random.SeedSequence(seed + draw, spawn_key=(restart,))
    machine = train_restart(patterns, variation.algorithm, hidden_units, sequence)
    X, y = patterns.train_patterns, patterns.train_labels
    energies = local_energy(machine.weights, X, y, SIGMAS).local_energy
    own = int(sequence.generate_state(1)[0])
    curve = curve_arrays(machine.weights, X, y, engine, own, distances=(DISTANCE,))
    return {
        "change": variation.change,
        "algorithm": variation.algorithm.name,
        "balanced": variation.balanced,
        "draw": draw,
        "restart": restart,
        "constant_test_error": patterns.constant_test_error,
        "epochs": machine.epochs,
        "met": machine.converged,
        "training_errors": round(machine.train_error * len(y)),
        "collapsed": machine.collapsed,
        "test_error": machine.test_error,
        **{f"local_energy_{s:g}": float(e) for s, e in zip(SIGMAS, energies, strict=True)},
        "local_entropy": float(curve["local_entropy"][0]),
        f"local_entropy{ERROR}": float(curve["standard_error"][0]),
        "converged": bool(curve["converged"][0]),
    }
