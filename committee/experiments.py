"""Figures 1 and 6 of [P21] as data: train every restart on every draw, measure, store, resume.

The unit of error is the draw of the training patterns. Draw j has the patterns of seed + j, and
restart i on it starts every algorithm from the same random stream. A worker computes a unit of
work (see ``rounds``), and this process stores it in atomic writes. An interrupted experiment loses
at most the units in progress. When it resumes, it ends with the same files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from committee.algorithms import CONTROLS, PUBLISHED, SGD, Algorithm
from committee.patterns import PAIR, PatternSet, load_patterns
from committee.results import ExperimentFolder, ExperimentResults, load_results, small_arrays
from committee.rounds import compute_unit, missing_units, timed_controls
from committee.training import check_hidden_units, resolve_algorithm
from message_passing.local_entropy import ENGINES, resolve_engine
from message_passing.tools.files import write_npz
from message_passing.tools.parallel import check_scheduler, run_tasks
from message_passing.tools.run_folder import as_json
from message_passing.tools.validation import check_least

if TYPE_CHECKING:
    AlgorithmName = str
else:  # what the command line accepts
    AlgorithmName = Literal[(*PUBLISHED, *CONTROLS)]
DataName = Literal["auto", "fashion-mnist", "hidden-manifold", "random", "teacher"]


@dataclass(frozen=True)
class DataOptions:
    """Options of all experiments on a data set."""

    out: Path = Path("results")
    """Folder of the results. Running again with the same folder resumes."""
    data: DataName = "auto"
    """Training and test patterns. auto: Fashion-MNIST if it is available, else the hidden
    manifold (made from the seed, no download)."""
    data_dir: Path | None = None
    """Folder with the four files of Fashion-MNIST. Default: the folder in the environment variable
    WIDE_FLAT_MINIMA_DATA, else the user's cache, else a download."""
    size: int = 500
    """Number of training patterns."""
    seed: int = 0
    """Seed of the first draw of the patterns and of all restarts on it. The next draw has the next
    seed."""
    workers: int | None = None
    """Processes on this computer. Default: one on each core."""

    def __post_init__(self) -> None:
        check_least(self, size=1, seed=0, workers=1)


@dataclass(frozen=True)
class DrawOptions(DataOptions):
    """Options of experiments on several draws."""

    draws: int = 10
    """Number of draws of the training patterns. More can be added to the same folder later."""
    restarts: int = 5
    """Independent machines of each kind on each draw. More can be added later."""
    balanced: bool = False
    """Draw the same number of training patterns from each class."""
    classes: tuple[str, str] = PAIR
    """Classes of Fashion-MNIST. The first has the label +1."""
    hidden_units: int = 9
    """Hidden units K, an odd number."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, draws=1, restarts=1)
        check_hidden_units(self.hidden_units)


@dataclass(frozen=True)
class ExperimentConfig(DrawOptions, ABC):
    """Options of Figures 1 and 6."""

    title: ClassVar[str]

    max_epochs: int | None = None
    """Epochs after which training gives up. Default: the number of each algorithm."""
    engines: Annotated[tuple[str, ...], tyro.conf.arg(aliases=("--engine",))] = tuple(ENGINES)
    """Estimates of the local entropy. bp: belief propagation as published. ep: expectation
    propagation. mc: Monte Carlo, the slowest, and the only one with error bars."""
    scheduler: str | None = None
    """Address of a Dask scheduler, tcp://host:port. Its workers replace local processes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, max_epochs=1)
        if not self.engines or len(set(self.engines)) != len(self.engines):
            raise ValueError(
                f"engines is {self.engines}; different ones of {', '.join(ENGINES)}, at least one, "
                "were expected."
            )
        for engine in self.engines:
            resolve_engine(engine)

    @abstractmethod
    def compared(self) -> list[Algorithm]:
        """The algorithms of the figure, one per curve."""


@dataclass(frozen=True)
class Figure1Config(ExperimentConfig):
    """Figure 1: local entropy, local energy and test error of algorithms and their controls.

    The paper has one draw and 50 restarts: --draws 1 --restarts 50.
    """

    title = "Committee machines trained by SGD and entropic algorithms"

    out: Path = Path("results/figure1")
    """Folder of the results. Running again with the same folder resumes."""
    algorithms: tuple[AlgorithmName, ...] = (*PUBLISHED, *CONTROLS)
    """Algorithms to compare."""

    def compared(self) -> list[Algorithm]:
        """The algorithms with the names in ``algorithms``."""
        return [resolve_algorithm(name, self.max_epochs) for name in self.algorithms]


@dataclass(frozen=True)
class Figure6Config(ExperimentConfig):
    """Figure 6: the same three panels for SGD fast with dropout on the inputs."""

    title = "Committee machines trained by SGD fast with dropout"

    out: Path = Path("results/figure6")
    """Folder of the results. Running again with the same folder resumes."""
    dropout: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.3)
    """Probabilities that a training step drops an input. The paper does not publish its values.
    The default shows the effect. From 0.4 on training seldom ends without errors."""

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


def run_experiment(
    config: ExperimentConfig,
    progress: bool = False,
    on_round: Callable[[ExperimentResults], object] | None = None,
) -> ExperimentResults:
    """Train, measure and store the missing runs of a figure. Returns all results.

    >>> results = run_experiment(Figure1Config(draws=2, restarts=1, out=Path("results/small")))

    ``results.plot()`` draws the figure. ``committee.results.load_results`` reads stored results.
    Everything is checked before any long work. ``on_round`` is called with the results so far
    after half of the first round, and after every round but the last.

    Raises
    ------
    ValueError
        A corrupt file, impossible settings, or a folder with results of other settings.
    DataUnavailableError
        The patterns are not available.
    """
    algorithms = config.compared()
    folder, patterns = _prepare(config, algorithms)
    units = missing_units(folder, algorithms, config.engines, config.draws, config.restarts)
    if progress and units:
        print(f"Data: {patterns[0].description}; {config.draws} draws", flush=True)
    left = Counter((unit.draw, unit.restart) for unit in units)
    first, half = next(((run, count // 2) for run, count in left.items()), (None, 0))
    completed = run_tasks(
        compute_unit,
        units,
        common=(
            {draw: small_arrays(own) for draw, own in patterns.items()},
            config.hidden_units,
            config.seed,
        ),
        workers=config.workers,
        scheduler=config.scheduler,
        progress=progress and bool(units),
        description="machines with their curves",
    )

    def load() -> ExperimentResults:
        names = [algorithm.name for algorithm in algorithms]
        return load_results(config.out, config.draws, config.restarts, names)

    for index, found in completed:
        unit = units[index]
        for (name, kind), arrays in found.items():
            write_npz(folder.file(unit.draw, name, unit.restart, kind), **arrays)
        this = unit.draw, unit.restart
        left[this] -= 1
        worth_a_look = left[this] == 0 or (this == first and left[this] == half)
        if on_round is not None and worth_a_look and left.total():
            on_round(load())
    return load()


def check_folder(config: ExperimentConfig) -> tuple[ExperimentFolder, str]:
    """The folder of an experiment, and its data: the stored ones for "auto". Creates nothing.

    Raises ``ValueError`` if the folder holds results of other settings.
    """
    folder = ExperimentFolder(config.out)
    known = folder.config() is not None
    data = folder.entry("settings", "data") if known and config.data == "auto" else config.data
    folder.check(_settings(config, config.compared(), data))
    return folder, data


def _prepare(
    config: ExperimentConfig, algorithms: list[Algorithm]
) -> tuple[ExperimentFolder, dict[int, PatternSet]]:
    """Check everything, open the folder and load the patterns of all draws."""
    names = [algorithm.name for algorithm in algorithms]
    if len(set(names)) != len(names) or not names:
        raise ValueError(
            f"the curves of the figure are [{', '.join(names)}]; different ones, at least one, "
            "were expected."
        )
    timed_controls(algorithms)
    if config.scheduler is not None:
        check_scheduler(config.scheduler)
    folder, data = check_folder(config)
    patterns, new = {}, []
    for draw in range(config.draws):
        own = folder.load_patterns(draw)
        if own is None:
            seed, classes = config.seed + draw, config.classes
            own = load_patterns(data, config.size, seed, config.data_dir, config.balanced, classes)
            new.append(draw)
        patterns[draw], data = own, own.name  # the first draw resolves "auto"
    about = folder.about_patterns(patterns)
    folder.store_config(config.title, _settings(config, algorithms, data), patterns=about)
    for draw in new:
        write_npz(folder.patterns(draw), **small_arrays(patterns[draw]))
    return folder, patterns


def _settings(config: ExperimentConfig, algorithms: list[Algorithm], data: str) -> dict[str, Any]:
    """Everything that decides the numbers, in JSON's types."""
    names = ("size", "balanced", "classes", "seed", "hidden_units")
    return {
        "data": data,
        **{name: as_json(getattr(config, name)) for name in names},
        "algorithms": {algorithm.name: as_json(algorithm) for algorithm in algorithms},
        "engines": {name: as_json(resolve_engine(name)) for name in config.engines},
    }
