"""Slope of the free entropy of the solutions around a machine, by two engines.

Z(w, Δ) is the share of the Gaussian of variance Δ around w (K, N), rows of norm √N, that makes no
training errors, φ = log Z / (KN). Its gradient is the mean displacement of these solutions,

    ∂φ/∂w = (⟨w′⟩ − w) / (KNΔ),      ⟨w′_k⟩ − w_k = √N Δ Xᵀf_k / N,      f = ∂log Z/∂u,

u = w·x/√N the preactivations. Configurations count only without errors, whatever w itself does:
"at most the errors of w" would lead to the constant answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from message_passing import _kernels_monte_carlo as kernels
from message_passing.expectation_propagation import ExpectationPropagation, Sites
from message_passing.problem import ReferenceProblem


@dataclass(frozen=True)
class Slope:
    """φ and its slope at one machine.

    Attributes
    ----------
    variance : Δ
    free_entropy : φ, NaN from an engine that does not know it.
    displacement : (K, N)
        ⟨w′⟩ − w.
    converged : bool
    work : sweeps of EP, or steps of all chains.
    memory : what the engine needs to start at the next machine.
    """

    variance: float
    free_entropy: float
    displacement: NDArray[np.float64]
    converged: bool
    work: int
    memory: Any


class SlopeEngine(Protocol):
    """Anything that estimates slopes; ``trail`` are those before, the last one the nearest."""

    def slope(
        self, problem: ReferenceProblem, variance: float, trail: Sequence[Slope]
    ) -> Slope: ...


@dataclass(frozen=True)
class EPSlope:
    """By expectation propagation: deterministic, with φ.

    The sites start at a linear extrapolation of the last two slopes at the same Δ. An error of
    the sites enters φ in second order, so that a coarse ``tolerance`` will do.
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
    """By sampling solutions around the machine: exact within its statistical error, without φ.

    A chain goes on from where the last slope left it, in absolute weights. Without one it starts
    at the machine itself, which must be a solution then.

    Attributes
    ----------
    chains, steps, burn_in : int
        Slice steps of each chain, each over all units, counted and not.
    seed : int
        The same at every slope: neighbouring slopes share their random numbers.
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
        factor = problem.geometry.factor
        onto = factor / np.sum(factor**2, axis=0)  # offsets (P,) to white coordinates (R,)
        states = np.zeros((self.chains, *problem.preactivations.shape))
        if trail:
            states = trail[-1].memory - problem.preactivations
        white = np.ascontiguousarray(states @ onto / np.sqrt(variance))
        total = np.zeros_like(white)
        for chain, seed in enumerate(np.random.SeedSequence(self.seed).spawn(self.chains)):
            rng, state = np.random.default_rng(seed), white[chain]
            _advance(problem, variance, self.burn_in, state, rng)
            for _ in range(self.steps):
                _advance(problem, variance, 1, state, rng)
                total[chain] += state
        mean = np.sqrt(variance) * total.mean(axis=0) / self.steps
        return Slope(
            variance,
            float("nan"),
            mean @ (onto.T @ problem.geometry.patterns) / np.sqrt(problem.inputs),
            True,
            self.chains * (self.burn_in + self.steps),
            problem.preactivations + np.sqrt(variance) * white @ factor.T,
        )


def _advance(
    problem: ReferenceProblem,
    variance: float,
    steps: int,
    white: NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    """Slice steps of one chain of solutions without errors; ``white`` in place."""
    kernels.slice_steps(
        problem.preactivations,
        problem.labels,
        np.ascontiguousarray(problem.geometry.factor.T),
        variance,
        0,
        steps,
        white,
        np.empty(0),
        rng,
        np.zeros((2, 0)),
        np.zeros((2, 2)),
        np.empty_like(white),
    )
