"""Figures 1 and 6 of [P21] as data: train every restart, measure it, store it, resume.

The unit of work is one trained machine, or one local entropy curve. A worker computes a unit, and
this process stores it as one file, which is either whole or not there. An interrupted experiment
loses at most the units in progress; when it resumes it ends with the same files.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import numpy as np
import tyro

from committee.algorithms import SGD, Algorithm, EntropySGD, ReplicatedSGD
from committee.flatness import local_energy
from committee.patterns import PatternSet, load_patterns
from committee.results import ExperimentFolder, ExperimentResults, about_patterns, load_results
from committee.training import resolve_algorithm, train_restart
from message_passing.curve_runs import curve_arrays
from message_passing.local_entropy import ENGINES, resolve_engine
from message_passing.tools.files import arrays_of, write_npz
from message_passing.tools.parallel import check_scheduler, run_tasks
from message_passing.tools.run_folder import as_json

AlgorithmName = Literal["sgd-fast", "sgd-slow", "rsgd-fast", "rsgd-slow", "esgd"]
DataName = Literal["auto", "fashion-mnist", "hidden-manifold", "random", "teacher"]


@dataclass(frozen=True)
class ExperimentConfig(ABC):
    """What Figures 1 and 6 have in common."""

    title: ClassVar[str]

    out: Path = Path("results")
    """Folder of the results. Running again with the same folder resumes."""
    restarts: int = 50
    """Independent machines of each algorithm. More can be added to the same folder later."""
    data: DataName = "auto"
    """Training and test patterns. auto: Fashion-MNIST where it can be had, else the hidden
    manifold (made from the seed, no download)."""
    data_dir: Path | None = None
    """Folder with the four files of Fashion-MNIST. Default: the environment variable
    WIDE_FLAT_MINIMA_DATA, the user's cache, a download."""
    size: int = 500
    """Training patterns."""
    balanced: bool = False
    """Draw the same number of training patterns from each class."""
    seed: int = 0
    """Seed of the draw of the patterns and of all restarts."""
    hidden_units: int = 9
    """Hidden units K, an odd number."""
    max_epochs: int | None = None
    """Epochs after which training gives up. Default: the algorithm's own number."""
    engines: Annotated[tuple[str, ...], tyro.conf.arg(aliases=("--engine",))] = tuple(ENGINES)
    """Estimates of the local entropy. bp: belief propagation as published. ep: expectation
    propagation. mc: Monte Carlo, the slowest; it alone has error bars."""
    workers: int | None = None
    """Processes on this machine. Default: one on each core."""
    scheduler: str | None = None
    """Address of a Dask scheduler, tcp://host:port. Its workers compute then."""

    def __post_init__(self) -> None:
        for name in ("restarts", "size", "workers", "max_epochs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; a positive integer was expected.")
        if self.hidden_units < 1 or self.hidden_units % 2 == 0:
            raise ValueError(
                f"hidden_units is {self.hidden_units}; an odd positive number was expected."
            )
        if not self.engines or len(set(self.engines)) != len(self.engines):
            raise ValueError(
                f"engines is {self.engines}; different ones of {', '.join(ENGINES)}, at least one, "
                "were expected."
            )
        for engine in self.engines:
            resolve_engine(engine)
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; an integer ≥ 0 was expected.")

    @abstractmethod
    def compared(self) -> list[Algorithm]:
        """The algorithms of the figure, one a curve."""


@dataclass(frozen=True)
class Figure1Config(ExperimentConfig):
    """Figure 1: local entropy, local energy and test error of five algorithms."""

    title = "Committee machines trained by SGD and entropic algorithms"

    out: Path = Path("results/figure1")
    """Folder of the results. Running again with the same folder resumes."""
    algorithms: tuple[AlgorithmName, ...] = get_args(AlgorithmName)
    """Algorithms to compare."""

    def compared(self) -> list[Algorithm]:
        """The algorithms by their names."""
        return [resolve_algorithm(name, self.max_epochs) for name in self.algorithms]


@dataclass(frozen=True)
class Figure6Config(ExperimentConfig):
    """Figure 6: the same three panels for SGD fast with dropout on the inputs."""

    title = "Committee machines trained by SGD fast with dropout"

    out: Path = Path("results/figure6")
    """Folder of the results. Running again with the same folder resumes."""
    dropout: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.3)
    """Probabilities that an input is dropped in a training step. The paper does not publish its
    own. These show the effect; from 0.4 on training seldom ends without errors."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for p in self.dropout:
            if not 0 <= p < 1:
                raise ValueError(f"dropout contains {p}; probabilities in [0, 1) were expected.")

    def compared(self) -> list[Algorithm]:
        """SGD fast with each dropout probability."""
        sgd = resolve_algorithm("sgd-fast", self.max_epochs)
        assert isinstance(sgd, SGD)
        return [replace(sgd, name=f"dropout {p:g}", dropout=p) for p in self.dropout]


@dataclass(frozen=True)
class Experiment:
    """A prepared experiment: checked, patterns at hand, folder open. ``run`` it."""

    config: ExperimentConfig
    patterns: PatternSet
    folder: ExperimentFolder

    @classmethod
    def prepare(cls, config: ExperimentConfig) -> Experiment:
        """Check everything, load the patterns and open the folder, before any long work.

        Raises
        ------
        ValueError
            A corrupt file, impossible settings, or a folder with results of other settings.
        DataUnavailableError
            The patterns cannot be had.
        """
        names = [algorithm.name for algorithm in config.compared()]
        if len(set(names)) != len(names) or not names:
            raise ValueError(
                f"the curves of the figure are [{', '.join(names)}]; different ones, at least "
                "one, were expected."
            )
        if config.scheduler is not None:
            check_scheduler(config.scheduler)
        folder = ExperimentFolder(config.out)
        known = folder.config() is not None
        data = folder.entry("patterns", "name") if known and config.data == "auto" else config.data
        folder.check(_settings(config, data))
        patterns = folder.load_patterns()
        if patterns is None:
            patterns = load_patterns(
                data, config.size, config.seed, config.data_dir, config.balanced
            )
            folder.check_patterns(patterns)
            folder.store_patterns(patterns)
        settings = _settings(config, patterns.name)
        folder.store_config(config.title, settings, patterns=about_patterns(patterns))
        return cls(config, patterns, folder)

    def run(self, progress: bool = False) -> ExperimentResults:
        """Compute the missing units; return all results that the configuration names."""
        self._train(progress)
        self._measure(progress)
        return load_results(
            self.config.out,
            restarts=self.config.restarts,
            algorithms=[algorithm.name for algorithm in self.config.compared()],
        )

    def _train(self, progress: bool) -> None:
        seeds = np.random.SeedSequence(self.config.seed).spawn(self.config.restarts)
        units = [
            (algorithm, restart)
            for restart in range(self.config.restarts)
            for algorithm in sorted(self.config.compared(), key=_cost, reverse=True)
            if not self.folder.machine(algorithm.name, restart).exists()
        ]
        tasks = [(algorithm, seeds[restart]) for algorithm, restart in units]
        work = partial(train_and_profile, hidden_units=self.config.hidden_units)
        for index, arrays in self._compute(work, tasks, "training", progress):
            algorithm, restart = units[index]
            write_npz(self.folder.machine(algorithm.name, restart), **arrays)

    def _measure(self, progress: bool) -> None:
        units, tasks = [], []
        for restart in range(self.config.restarts):
            for algorithm in self.config.compared():
                machine = self.folder.load_machine(algorithm.name, restart)
                for engine in self.config.engines:
                    path = self.folder.curve(algorithm.name, restart, engine)
                    if not path.exists():
                        units.append(path)
                        seed = _engine_seed(self.config.seed, algorithm.name, restart)
                        tasks.append((machine["weights"], engine, seed))
        for index, arrays in self._compute(measure_local_entropy, tasks, "local entropy", progress):
            write_npz(units[index], **arrays)

    def _compute(self, work: Any, tasks: list, description: str, progress: bool) -> Any:
        return run_tasks(
            work,
            tasks,
            common=(self.patterns,),
            workers=self.config.workers,
            scheduler=self.config.scheduler,
            progress=progress and bool(tasks),
            description=description,
        )


def train_and_profile(
    patterns: PatternSet, task: tuple[Algorithm, np.random.SeedSequence], hidden_units: int
) -> dict[str, np.ndarray]:
    """Unit of work: train one machine, take its local energy; arrays to be stored."""
    algorithm, seed_sequence = task
    machine = train_restart(patterns, algorithm, hidden_units, seed_sequence)
    profile = local_energy(machine.weights, patterns.train_patterns, patterns.train_labels)
    return {**arrays_of(machine), "sigma": profile.sigma, "local_energy": profile.local_energy}


def measure_local_entropy(
    patterns: PatternSet, task: tuple[np.ndarray, str, int]
) -> dict[str, np.ndarray]:
    """Unit of work: one local entropy curve of one machine; arrays to be stored."""
    weights, name, seed = task
    return curve_arrays(weights, patterns.train_patterns, patterns.train_labels, name, seed)


def run_experiment(config: ExperimentConfig, progress: bool = False) -> ExperimentResults:
    """Train, measure and store what a figure needs and does not have yet.

    >>> results = run_experiment(Figure1Config(restarts=3, out=Path("results/small")))

    ``results.plot()`` draws the figure. ``committee.results.load_results`` reads stored results.
    """
    return Experiment.prepare(config).run(progress)


def _cost(algorithm: Algorithm) -> float:
    """Passes over the patterns at most: the longest work starts first."""
    if isinstance(algorithm, ReplicatedSGD):
        return algorithm.max_epochs * algorithm.replicas
    if isinstance(algorithm, EntropySGD):
        return algorithm.max_epochs * algorithm.inner_steps
    return algorithm.max_epochs


def _settings(config: ExperimentConfig, data: str) -> dict[str, Any]:
    """Everything that decides the numbers, in JSON's types."""
    names = ("size", "balanced", "seed", "hidden_units")
    return {
        "data": data,
        **{name: getattr(config, name) for name in names},
        "algorithms": {algorithm.name: as_json(algorithm) for algorithm in config.compared()},
        "engines": {name: as_json(resolve_engine(name)) for name in config.engines},
    }


def _engine_seed(seed: int, algorithm: str, restart: int) -> int:
    """Seed of an engine that samples, for one machine."""
    key = (restart, zlib.crc32(algorithm.encode()))
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1)[0])
