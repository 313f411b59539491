"""Engine "mc": local entropy by sampling, exact within its standard error.

It is the ladder of :mod:`message_passing.ladder` in pattern space. Only the pre-activation offsets
v = √Δ z Fᵀ matter (F Fᵀ = G, z white (K, R)). The part of w′ outside the span of the patterns is
free.

**Chains** of several hidden units move by elliptical slice sampling with exact arcs, one unit at a
time. For one unit see :mod:`message_passing.one_unit`. The ellipse v_k cos θ + v′_k sin θ passes
through the state and a fresh draw v′. On it the preactivations of unit k change sign at angles
known in closed form, and only the patterns for which unit k is decisive matter. One pass finds all
arcs of solutions, and the new angle is uniform on them. Nothing is rejected. (All units at once
have far shorter arcs, and mix far more slowly.) The coordinates z of a unit move in three blocks,
by the eigenvalue of G. Together, the few of the large eigenvalues would shorten every arc.

A configuration counts if it makes at most as many training errors as the reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from message_passing import _kernels_monte_carlo as kernels
from message_passing.ladder import LadderSettings, climb, generators, start
from message_passing.one_unit import OneUnitClimb
from message_passing.problem import LadderResult, ReferenceProblem
from message_passing.sampler import DirectSample
from message_passing.tools.validation import check_least

#: Direct draws per matrix product.
DRAWS_AT_ONCE = 32


@dataclass(frozen=True)
class MonteCarlo(LadderSettings):
    """Configuration of the engine "mc": :class:`LadderSettings` and the seed.

    One step of a chain updates every unit once. The same seed gives the same result.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, seed=0)

    def ladder(
        self, problem: ReferenceProblem, variances: NDArray[np.float64], progress: bool = False
    ) -> LadderResult:
        """Estimate φ and r, with standard errors, at increasing Δ."""
        if problem.hidden_units > 1:
            return climb(ExactArcs(problem), self, self.seed, variances, "mc", progress)
        rngs = generators(self.seed, self.chains)
        state = start(ExactArcs(problem), self, variances, rngs)
        points: list[Any] = list(state.points)
        missing = [float(variance) for variance in variances[len(points) :]]
        if missing:
            unit = OneUnitClimb(self, problem, rngs, state.variance, state.white, state.log_z)
            points += tqdm(unit.through(missing), "mc", len(missing), disable=not progress)
        return LadderResult.from_points(variances, points)


class ExactArcs:
    """Sampler of a committee machine's weights: white states (K, R) in pattern space."""

    def __init__(self, problem: ReferenceProblem) -> None:
        self.problem = problem
        self.factor = np.ascontiguousarray(problem.geometry.factor.T)
        self.size = problem.size
        self.dimensions = problem.hidden_units * len(self.factor)

    def draw(
        self, variances: NDArray[np.float64], each: int, rngs: list[np.random.Generator]
    ) -> DirectSample:
        """Direct sampling with the same draws at all Δ; see ``message_passing.sampler.Sampler``."""
        problem, factor = self.problem, self.problem.geometry.factor
        shape = (problem.hidden_units, factor.shape[1])
        hits = np.empty((len(rngs), each, len(variances)), dtype=bool)
        squares = np.empty((len(rngs), each))
        kept = np.zeros((len(rngs), len(variances), *shape))
        for chain, rng in enumerate(rngs):
            for first in range(0, each, DRAWS_AT_ONCE):
                count = min(DRAWS_AT_ONCE, each - first)
                white = rng.standard_normal((count, *shape))
                offsets = (white.reshape(-1, shape[1]) @ factor.T).reshape(count, shape[0], -1)
                found = kernels.direct_hits(
                    problem.preactivations,
                    problem.labels,
                    offsets,
                    np.sqrt(variances),
                    problem.training_errors,
                )
                hits[chain, first : first + count] = found
                squares[chain, first : first + count] = np.einsum("dkr,dkr->d", white, white)
                for i in np.flatnonzero(found.any(axis=0)):
                    kept[chain, i] = white[np.flatnonzero(found[:, i])[-1]]
        tried = np.full(len(variances), each)
        return DirectSample(variances, hits, squares, tried, lambda chains, i: kept[chains, i])

    def run(
        self,
        variance: float,
        steps: int,
        scales: NDArray[np.float64],
        rngs: list[np.random.Generator],
        white: NDArray[np.float64],
        survivors: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Update all units of every chain ``steps`` times; see ``Sampler``."""
        survivals = np.zeros((len(rngs), 2, len(scales)))
        squares = np.zeros((len(rngs), 2, 2))
        for chain, rng in enumerate(rngs):
            kernels.slice_steps(
                self.problem.preactivations,
                self.problem.labels,
                self.factor,
                variance,
                self.problem.training_errors,
                steps,
                white[chain],
                scales,
                rng,
                survivals[chain],
                squares[chain],
                survivors[chain],
            )
        halves = np.array([[(steps + 1) // 2, steps // 2]])
        return survivals / halves[:, :, None], squares / halves[:, :, None]
