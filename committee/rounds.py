"""The work of an experiment in rounds: the missing units, their order and their computation.

The unit of work is one run of one algorithm with all its curves, together with the controls that
stop when it does. A round has one run of each algorithm on one draw of the patterns. Rounds go
through all draws with one restart, then with the next restart. Workers start the next round while
the previous one ends.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from committee.algorithms import CONTROLS, SGD, Algorithm, EntropySGD, ReplicatedSGD
from committee.flatness import local_energy
from committee.patterns import PatternSet
from committee.results import MACHINE, ExperimentFolder
from committee.training import train_restart
from message_passing.curve_runs import curve_arrays
from message_passing.problem import PatternGeometry
from message_passing.tools.files import arrays_of


@dataclass(frozen=True)
class Unit:
    """Unit of work: one run of an algorithm, and of the controls that stop when it does.

    ``missing`` has a pair (name of the algorithm, engine or "machine") for each missing file,
    machines before their curves. ``stored`` has the machines that exist already.
    """

    draw: int
    restart: int
    algorithms: tuple[Algorithm, ...]
    missing: tuple[tuple[str, str], ...]
    stored: Mapping[str, dict[str, np.ndarray]]

    @property
    def cost(self) -> float:
        """Upper limit of the passes over the patterns."""
        return sum(_passes(algorithm) for algorithm in self.algorithms)


def timed_controls(algorithms: Sequence[Algorithm]) -> dict[str, str]:
    """Map each control that stops when its algorithm does to the name of that algorithm.

    Raises ``ValueError`` if that algorithm is not in ``algorithms``.
    """
    names = [algorithm.name for algorithm in algorithms]
    found = {
        a.name: CONTROLS[a.name]
        for a in algorithms
        if a.name in CONTROLS and isinstance(a, SGD) and a.stop_at == "epochs"
    }
    for control, name in found.items():
        if name not in names:
            raise ValueError(
                f"algorithms contains {control!r}, which stops when {name} does; {name} was "
                "expected beside it."
            )
    return found


def missing_units(
    folder: ExperimentFolder,
    algorithms: Sequence[Algorithm],
    engines: Sequence[str],
    draws: int,
    restarts: int,
) -> list[Unit]:
    """The units with missing files, round by round.

    The longest unit of a round comes first, so that all workers end together. In the first round
    it comes last, so that first results appear soon.
    """
    controls = timed_controls(algorithms)
    groups = [
        (one, *(a for a in algorithms if controls.get(a.name) == one.name))
        for one in algorithms
        if one.name not in controls
    ]
    units: list[Unit] = []
    for restart, draw in itertools.product(range(restarts), range(draws)):
        found = []
        for group in groups:
            parts = itertools.product([a.name for a in group], (MACHINE, *engines))
            missing = tuple(
                (name, kind)
                for name, kind in parts
                if not folder.file(draw, name, restart, kind).exists()
            )
            stored = {
                a.name: folder.load_machine(draw, a.name, restart)
                for a in group
                if missing and (a.name, MACHINE) not in missing
            }
            if missing:
                found.append(Unit(draw, restart, group, missing, stored))
        units += sorted(found, key=lambda unit: unit.cost, reverse=bool(units))
    return units


def compute_unit(
    draws: Mapping[int, dict[str, Any]], hidden_units: int, seed: int, unit: Unit
) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """Arrays of the missing files of a unit, by (name of the algorithm, engine or "machine")."""
    patterns = PatternSet(**draws[unit.draw], name="", description="")
    geometry = PatternGeometry(patterns.train_patterns)
    seed += unit.draw
    sequence = np.random.SeedSequence(seed, spawn_key=(unit.restart,))
    algorithms = {algorithm.name: algorithm for algorithm in unit.algorithms}
    first, *controls = algorithms
    machines, found = dict(unit.stored), {}
    for name, kind in unit.missing:
        if kind == MACHINE:
            algorithm = algorithms[name]
            if name in controls:
                algorithm = replace(algorithm, max_epochs=int(machines[first]["epochs"]))
            machines[name] = train_and_profile(patterns, algorithm, hidden_units, sequence)
            found[name, kind] = machines[name]
        else:
            own = _engine_seed(seed, name, unit.restart)
            found[name, kind] = curve_arrays(
                machines[name]["weights"], geometry, patterns.train_labels, kind, own
            )
    return found


def train_and_profile(
    patterns: PatternSet,
    algorithm: Algorithm,
    hidden_units: int,
    seed_sequence: np.random.SeedSequence,
) -> dict[str, np.ndarray]:
    """Train one machine and measure its local energy. Returns the arrays to store."""
    machine = train_restart(patterns, algorithm, hidden_units, seed_sequence)
    profile = local_energy(machine.weights, patterns.train_patterns, patterns.train_labels)
    return {**arrays_of(machine), "sigma": profile.sigma, "local_energy": profile.local_energy}


def _passes(algorithm: Algorithm) -> int:
    if isinstance(algorithm, ReplicatedSGD):
        return algorithm.max_epochs * algorithm.replicas
    if isinstance(algorithm, EntropySGD):
        return algorithm.max_epochs * algorithm.inner_steps
    return algorithm.max_epochs


def _engine_seed(seed: int, algorithm: str, restart: int) -> int:
    """Seed of a sampling engine for one machine."""
    key = (restart, zlib.crc32(algorithm.encode()))
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1)[0])
