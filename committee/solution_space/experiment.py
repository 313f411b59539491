"""From typical to flattest, as data: every family of machines on every draw of the patterns.

::

    results/flatness-range/
        config.json                     settings, versions, hardware, git revision
        figure1/, figure6/              machines of the figures, as their commands store them
        draws/00/typical/000.npz        other machines, their errors and their flatness
        machines.csv, statements.csv    made from the above, after each draw
        figure.png, figure.pdf

A family is an algorithm, or "typical": uniform samples of the solutions. The machines of Figures 1
and 6 are made as by their commands. A finished folder of such a command may stand in place of
``figure1`` or ``figure6``, so that nothing is trained twice. For the other families, the unit of
work is one restart on one draw. Entropy ascent gives one machine for each Δ of its ladder. Draws
run one after the other: at any time, the results are complete up to some draw. A folder holds one
condition: a size, a pair of classes, balanced or not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from committee.algorithms import (
    ALGORITHMS,
    CONTROLS,
    PUBLISHED,
    Algorithm,
    EntropyAscent,
    WeightNoise,
)
from committee.experiments import (
    DataName,
    DrawOptions,
    ExperimentConfig,
    Figure1Config,
    Figure6Config,
    check_folder,
    run_experiment,
)
from committee.flatness import local_energy
from committee.machine import error_rate
from committee.patterns import PatternSet, load_patterns
from committee.results import load_results
from committee.schedules import Constant
from committee.solution_space.entropy_ascent import ascend
from committee.solution_space.typical import typical_solutions
from committee.training import train_restart
from message_passing.curve_runs import curve_arrays
from message_passing.problem import PatternGeometry
from message_passing.tools.files import read_npz, write_npz
from message_passing.tools.run_folder import RunFolder, as_json, make_missing

if TYPE_CHECKING:
    import pandas as pd

TYPICAL = "typical"
#: Settings that all draws of a folder share. They are columns of the table of machines.
CONDITION = ("data", "size", "classes", "balanced")
COLUMNS = (
    "draw", "family", "restart", "stop", "train_error", "test_error", "local_energy_0.5",
    "local_energy_1", "local_entropy", "local_entropy_standard_error", "converged",
)  # fmt: skip
DISTANCE = 0.3
SIGMAS = (0.5, 1.0)
DROPOUT = (0.05, 0.1, 0.2, 0.3)
NOISE = (0.5, 0.7, 1.0, 1.4, 2.0)
FIGURE1 = (*PUBLISHED, *CONTROLS)
#: Flatness takes minutes, so it is measured on this many machines of the typical sample.
TYPICAL_MACHINES = 1


@dataclass(frozen=True)
class FlatnessRangeConfig(DrawOptions):
    """Test error against flatness, from typical solutions to the flattest."""

    out: Path = Path("results/flatness-range")
    """Folder of the results. Running again with the same folder resumes. A finished folder of
    figure1 or figure6, or a link to it, may stand there as OUT/figure1 or OUT/figure6."""
    restarts: int = 2
    """Independent machines of each family on each draw. More can be added later."""
    families: tuple[str, ...] = ()
    """Families to compute. Default: all."""
    also: tuple[Path, ...] = ()
    """Folders of other conditions. Their machines join the tables, and conditions.png has a panel
    for each condition."""

    def __post_init__(self) -> None:
        super().__post_init__()
        known = all_families()
        for family in self.families:
            if family not in known:
                raise ValueError(f"families contains {family!r}; {', '.join(known)} are known.")

    def compared(self) -> list[str]:
        """Names of the families."""
        return list(self.families or all_families())

    def figures(self, draws: int) -> list[ExperimentConfig]:
        """The experiments that make the machines of Figures 1 and 6, for the first draws."""
        options: dict[str, Any] = {own.name: getattr(self, own.name) for own in fields(DrawOptions)}
        options |= {"draws": draws, "engines": ("mc",)}
        first = tuple(name for name in FIGURE1 if name in self.compared())
        dropout = tuple(p for p in DROPOUT if f"dropout {p:g}" in self.compared())
        parts: list[ExperimentConfig] = []
        if first:
            options["out"] = self.out / "figure1"
            parts.append(Figure1Config(**options, algorithms=first))
        if dropout:
            options["out"] = self.out / "figure6"
            parts.append(Figure6Config(**options, dropout=dropout))
        return parts


def all_families() -> list[str]:
    """Figure 1 with its controls, dropout, weight noise, entropy ascent, typical solutions."""
    return [*FIGURE1, *(f"dropout {p:g}" for p in DROPOUT), *flattest(), TYPICAL]


def flattest() -> dict[str, Algorithm]:
    """The algorithms that search for flat machines, beyond Figures 1 and 6."""
    found = [ALGORITHMS["weight-noise"], ALGORITHMS["entropy-ascent"]]
    found += [WeightNoise(f"weight-noise {s:g}", sigma=Constant(s)) for s in NOISE]
    return {algorithm.name: algorithm for algorithm in found}


def compute(
    config: FlatnessRangeConfig,
    progress: bool = False,
    on_draw: Callable[[pd.DataFrame], object] | None = None,
) -> pd.DataFrame:
    """Compute missing results draw by draw; return the table of all machines (``load_machines``).

    ``on_draw`` is called with the table after each draw.

    Raises
    ------
    ValueError
        The folder holds results of other settings, the data has too few patterns for the size, or
        the patterns cannot be learnt.
    """
    folder = RunFolder(config.out, extensible=("families",), units=("draws",))
    known = flattest()
    # The sampler takes longest, so it starts first.
    own = [family for family in (TYPICAL, *known) if family in config.compared()]
    draws = (
        load_patterns(
            config.data, config.size, config.seed + draw, config.data_dir, config.balanced,
            classes=config.classes,
        )
        for draw in range(config.draws)
    )  # fmt: skip
    first = next(draws)
    # "auto" is resolved once, so that all draws come from one data set.
    config = replace(config, data=cast(DataName, first.name))
    names = (*CONDITION, "seed", "hidden_units")
    settings = {
        **{name: as_json(getattr(config, name)) for name in names},
        "families": {name: as_json(known.get(name, TYPICAL)) for name in own},
    }
    for figure in config.figures(config.draws):
        check_folder(figure)
    folder.store_config(
        "From typical solutions to the flattest", settings, patterns=first.description
    )
    if progress:
        print(f"Data: {first.description}", flush=True)
    for draw, patterns in enumerate(itertools.chain([first], draws)):
        for figure in config.figures(draw + 1):
            run_experiment(figure, progress)
        make_missing(
            measure_family,
            {
                unit_path(config.out, draw, family, restart): (known.get(family), restart)
                for restart in range(config.restarts)
                for family in own
                if family != TYPICAL or restart == 0
            },
            lambda path, arrays: write_npz(path, **arrays),
            progress,
            common=(patterns, config.hidden_units, config.seed + draw),
            workers=config.workers,
            description=f"draw {draw}",
        )
        machines = load_machines(config.out, *config.also)
        if on_draw is not None:
            on_draw(machines)
    return machines


def unit_path(out: Path, draw: int, family: str, restart: int) -> Path:
    return out / "draws" / f"{draw:02d}" / family.replace(" ", "-") / f"{restart:03d}.npz"


def measure_family(
    patterns: PatternSet, hidden_units: int, seed: int, task: tuple[Algorithm | None, int]
) -> dict[str, NDArray[Any]]:
    """Unit of work: the machines of one restart of a family, their errors and their flatness."""
    algorithm, restart = task
    X, y = patterns.train_patterns, patterns.train_labels
    sequence = np.random.SeedSequence(seed, spawn_key=(restart,))
    arrays: dict[str, NDArray[Any]] = {}
    if algorithm is None:
        sample = typical_solutions(patterns, hidden_units, seed=seed, workers=1)
        machines = sample.weights[:TYPICAL_MACHINES]
        stops = np.full(len(machines), np.nan)
        for name in ("test_error", "standard_error", "vote_error", "r_hat", "converged", "overlap"):
            arrays[f"sample_{name}"] = np.array(getattr(sample, name))
    elif isinstance(algorithm, EntropyAscent):
        start = train_restart(patterns, PUBLISHED[algorithm.start], hidden_units, sequence)
        path = ascend(start.weights, X, y, algorithm)
        machines, stops = path.weights, path.variance
    else:
        machines = train_restart(patterns, algorithm, hidden_units, sequence).weights[None]
        stops = np.array([np.nan])
    arrays |= {"weights": machines, "stop": stops}
    arrays["train_error"] = np.asarray(error_rate(machines, X, y))
    arrays["test_error"] = np.asarray(
        error_rate(machines, patterns.test_patterns, patterns.test_labels)
    )
    energies = local_energy(machines, X, y, SIGMAS).local_energy.T
    arrays |= {f"local_energy_{s:g}": e for s, e in zip(SIGMAS, energies, strict=True)}
    geometry = PatternGeometry(X)
    curves = [curve_arrays(w, geometry, y, "mc", seed, distances=(DISTANCE,)) for w in machines]
    for name, own in (
        ("local_entropy", "local_entropy"),
        ("local_entropy_standard_error", "standard_error"),
        ("converged", "converged"),
    ):
        arrays[name] = np.array([curve[own][0] for curve in curves])
    return arrays


def load_machines(*folders: Path | str) -> pd.DataFrame:
    """One row per machine of all folders: condition, draw, family, restart, stop (Δ), errors,
    δE(σ), Φ_LE(0.3).

    The test error of a typical machine is the mean over the whole sample. Raises ``ValueError``
    if a folder has no finished draws.
    """
    import pandas as pd

    rows = []
    for out in map(Path, folders):
        settings = (RunFolder(out).config() or {}).get("settings", {})
        condition = {name: settings.get(name) for name in CONDITION}
        condition["classes"] = ", ".join(condition["classes"] or ())
        paths = sorted(out.glob("draws/*/*/*.npz"))
        figures = [figure_machines(path.parent) for path in sorted(out.glob("figure?/config.json"))]
        if not paths and not figures:
            raise ValueError(f"out is {str(out)!r}; a folder with finished draws was expected.")
        finished = {int(path.parts[-3]) for path in paths}
        for table in figures:
            there = table[table["draw"].isin(finished)] if finished else table
            rows.append(there.assign(**condition))
        for path in paths:
            arrays = read_npz(path)
            draw, family = path.parts[-3:-1]
            columns = {
                name: values
                for name, values in arrays.items()
                if name != "weights" and not name.startswith("sample_")
            }
            if "sample_test_error" in arrays:
                columns["test_error"] = np.full(len(arrays["stop"]), arrays["sample_test_error"])
            about = {"draw": int(draw), "family": family, "restart": int(path.stem)}
            rows.append(pd.DataFrame({**condition, **about, **columns}))
    table = pd.concat(rows, ignore_index=True)[[*CONDITION, *COLUMNS]]
    stopped = table["stop"].notna()
    table.loc[stopped, "family"] += table["stop"][stopped].map(" Δ={:g}".format)
    return table


def figure_machines(folder: Path) -> pd.DataFrame:
    """The machines of a folder of figure1 or figure6 that have a curve by Monte Carlo.

    "dropout 0" is "sgd-fast" and does not count twice.
    """
    import pandas as pd

    results, distance = load_results(folder), np.array([DISTANCE])
    parts = []
    for name, own in results.algorithms.items():
        if name not in all_families():
            continue
        entropy = own.local_entropy("mc", distance)[:, 0]
        about: dict[str, Any] = {
            "family": name.replace(" ", "-"),
            "stop": np.nan,
            "local_entropy": entropy,
            "local_entropy_standard_error": own.local_entropy("mc", distance, error=True)[:, 0],
            "converged": np.isfinite(entropy),
        }
        parts.append(own.to_frame().assign(**about)[[*COLUMNS]].dropna(subset="local_entropy"))
    return pd.concat(parts)
