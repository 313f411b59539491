"""Slope of the free entropy of the solutions around a machine, by two engines.

Z(w, Δ) is the probability that a Gaussian of variance Δ around w (K, N), rows of norm √N, makes no
training errors. The gradient of φ = log Z / (KN) is the mean displacement of these solutions,

    ∂φ/∂w = (⟨w′⟩ − w) / (KNΔ),      ⟨w′_k⟩ − w_k = √N Δ Xᵀf_k / N,      f = ∂log Z/∂u,

with the preactivations u = w·x/√N. Only weights without errors count, even if w makes errors:
allowing "at most the errors of w" would lead to the constant answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from committee.solution_space.white_coordinates import WhiteCoordinates
from message_passing.expectation_propagation import ExpectationPropagation, Sites
from message_passing.problem import ReferenceProblem


@dataclass(frozen=True)
class Slope:
    """φ and its slope at one machine.

    Attributes
    ----------
    variance : Δ
    free_entropy : φ; NaN if the engine does not know it.
    displacement : (K, N)
        ⟨w′⟩ − w.
    converged : bool
    work : sweeps of EP, or slice steps of all chains.
    memory : what the engine needs to start at the next machine.
    """

    variance: float
    free_entropy: float
    displacement: NDArray[np.float64]
    converged: bool
    work: int
    memory: Any


class SlopeEngine(Protocol):
    """Anything that estimates slopes; ``trail`` holds earlier slopes, the nearest one last."""

    def slope(
        self, problem: ReferenceProblem, variance: float, trail: Sequence[Slope]
    ) -> Slope: ...


@dataclass(frozen=True)
class EPSlope:
    """Slope by expectation propagation: deterministic, and φ is known.

    The sites start at a linear extrapolation of the last two slopes at the same Δ. An error of
    the sites changes φ only in second order, so a coarse ``tolerance`` is enough.
    """

    engine: ExpectationPropagation = field(
        default_factory=lambda: ExpectationPropagation(tolerance=1e-2, max_sweeps=60)
    )

    def slope(self, problem: ReferenceProblem, variance: float, trail: Sequence[Slope]) -> Slope:
        starts: list[Sites] = [before.memory for before in trail[-1:]]
        if len(trail) > 1 and trail[-2].variance == variance:
            starts.insert(0, trail[-1].memory.towards(trail[-2].memory, -1.0))
        engine = self.engine
        sites, state, sweeps = engine.fixed_point(engine.node, problem, variance, starts)
        X = problem.geometry.patterns
        return Slope(
            variance,
            state.log_z / problem.size,
            variance / np.sqrt(problem.inputs) * state.force @ X,
            state.residual < engine.tolerance,
            sweeps,
            sites,
        )


@dataclass(frozen=True)
class MonteCarloSlope:
    """Slope from sampled solutions around the machine: exact within statistical error, without φ.

    A chain continues from its last state at the previous slope, in absolute weights. For the first
    slope it starts at the machine itself, which must then be a solution.

    Attributes
    ----------
    chains, steps, burn_in : int
        Number of chains; steps per chain in the average, and before it. A step moves all units.
    seed : int
        Seed of the chains at every slope: neighbouring slopes share their random numbers.
    """

    chains: int = 4
    steps: int = 100
    burn_in: int = 50
    seed: int = 0

    def slope(self, problem: ReferenceProblem, variance: float, trail: Sequence[Slope]) -> Slope:
        if not trail and problem.training_errors:
            raise ValueError(
                f"weights makes {problem.training_errors} training errors; a start without any "
                "was expected, since chains of solutions begin there."
            )
        coordinates = WhiteCoordinates(problem.geometry)
        u, y = problem.preactivations, problem.labels
        states = np.zeros((self.chains, *u.shape)) if not trail else trail[-1].memory - u
        white = np.ascontiguousarray(states @ coordinates.inverse / np.sqrt(variance))
        total = np.zeros_like(white)
        for chain, seed in enumerate(np.random.SeedSequence(self.seed).spawn(self.chains)):
            rng, state = np.random.default_rng(seed), white[chain]
            coordinates.advance(state, u, y, variance, self.burn_in, rng)
            for _ in range(self.steps):
                coordinates.advance(state, u, y, variance, 1, rng)
                total[chain] += state
        mean = np.sqrt(variance) * total.mean(axis=0) / self.steps
        return Slope(
            variance,
            float("nan"),
            mean @ coordinates.directions,
            True,
            self.chains * (self.burn_in + self.steps),
            u + np.sqrt(variance) * white @ coordinates.factor,
        )
