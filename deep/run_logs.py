"""Stored runs as they are logged: found in folders, put together by what was trained."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deep.config import ALGORITHMS, Algorithm, TrainingConfig
from deep.run_folders import dataset_name, difference, stored_config


@dataclass(frozen=True)
class LoggedRun:
    """Configuration and log of a run, and its result if it is finished."""

    folder: Path
    config: TrainingConfig
    log: tuple[dict[str, float], ...]
    result: dict[str, Any] | None

    def epochs(self, passes: float) -> float:
        """Passes in the log as the paper counts them, the data that the baseline would consume.

        rSGD's are shared by its replicas and eSGD's are those of its minibatches; rSGD×y logs the
        passes of all replicas, each of which makes all of them.
        """
        return passes / (self.config.replicas if self.config.algorithm == "rsgd-xy" else 1)


def load_run(folder: Path) -> LoggedRun:
    """A run's log. Raises ``ValueError`` for a folder without one."""
    content = stored_config(folder)
    if content is None:
        raise ValueError(f"{folder} holds no config.json; a run's folder was expected.")
    log = folder / "log.csv"
    if not log.exists():
        raise ValueError(
            f"{folder} has no log.csv yet; `python -m deep train` or `table1` continues it."
        )
    with log.open() as file:
        rows = tuple({k: float(v) for k, v in row.items()} for row in csv.DictReader(file))
    result = folder / "result.json"
    return LoggedRun(
        folder,
        TrainingConfig.from_json(content),
        rows,
        json.loads(result.read_text()) if result.exists() else None,
    )


def runs_of(folders: Iterable[Path]) -> list[LoggedRun]:
    """The runs in folders, each that of a run or of the seeds of one."""
    runs = []
    for folder in folders:
        inside = sorted(folder.glob("seed-*"), key=lambda path: (len(path.name), path.name))
        own = (folder / "config.json").exists() or not inside
        runs += [load_run(path) for path in ([folder] if own else inside)]
    return runs


def find_runs(runs: Path, rows: Sequence[tuple[str, str]]) -> list[LoggedRun]:
    """The runs of these data sets (or of image-folder archives of them) and models.

    Those that have not written a row of their log yet are left out. Raises ``ValueError`` where
    there are none.
    """
    found = []
    for path in sorted(runs.glob("*/*/config.json")):
        config = TrainingConfig.from_json(json.loads(path.read_text()))
        begun = (path.parent / "log.csv").exists()
        if begun and (dataset_name(config).split("-")[0], config.model) in rows:
            found.append(load_run(path.parent))
    if not found:
        names = " ".join("-".join(row) for row in rows)
        raise ValueError(
            f"{runs} holds no run for this figure; `python -m deep table1 --rows {names} --runs "
            f"{runs}` makes them. Runs of other networks can be named one by one."
        )
    return found


Networks = dict[tuple[str, str], dict[Algorithm, list[LoggedRun]]]


def by_network(runs: Sequence[LoggedRun]) -> Networks:
    """Data set and model → algorithm → seeds.

    Raises ``ValueError`` where runs of an algorithm differ in more than the seed.
    """
    networks: Networks = {}
    for run in runs:
        names = dataset_name(run.config), run.config.model
        seeds = networks.setdefault(names, {}).setdefault(run.config.algorithm, [])
        if seeds and (problem := difference(seeds[0].folder, _with_seed(run, seeds[0]))):
            raise ValueError(f"runs that differ in the seed only were expected; {problem}")
        if any(other.config.seed == run.config.seed for other in seeds):
            raise ValueError(f"{run.folder} and another run have the seed {run.config.seed}.")
        seeds.append(run)
    return {
        names: {algorithm: found[algorithm] for algorithm in ALGORITHMS if algorithm in found}
        for names, found in networks.items()
    }


def _with_seed(run: LoggedRun, other: LoggedRun) -> TrainingConfig:
    return replace(run.config, seed=other.config.seed)
