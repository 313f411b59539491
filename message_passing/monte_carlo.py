"""Engine "mc": local entropy by sampling, exact within its standard error.

**Direct sampling.** Weights are drawn from the Gaussian; only their pre-activation offsets
v = √Δ z Fᵀ matter (F Fᵀ = G, z white; the part of w′ outside the span of the patterns is free and
enters r analytically). One draw z serves all Δ. This gives log Z wherever it is above about −4.

**Chains** carry on from there; for one hidden unit see ``one_unit.py``. For several they do
elliptical slice sampling with exact arcs, one hidden unit at a time. Along the ellipse
v_k cos θ + v′_k sin θ through the state and a fresh draw v′, the
pre-activations of unit k change sign at angles known in closed form, and only the patterns for
which it is decisive matter; one pass finds all arcs of solutions, and the new angle is uniform
on them. Nothing is rejected. (All units at once have far shorter arcs, and mix far more slowly.)

**Ladder.** With S_j the solutions at Δ_j in white coordinates,

    log Z_{j+1} − log Z_j = log P_j(z ∈ S_{j+1}) − log P_{j+1}(z ∈ S_j);

the second term is needed, since solutions are not star-shaped around w. Rungs are put in between
until enough states survive each step. A chain starts rung j+1 from its last state in S_j that is in
S_{j+1} too: white, it follows the Gaussian restricted to both, and has little left to forget. (Kept
offsets, shrunk when white, leave |z|² too small for longer than it shows.)

**Errors.** There are ``chains`` independent blocks, each with its own draws and its own chain up
the whole ladder. All standard errors are jackknife errors over blocks, which contain every
autocorrelation within a chain and between rungs; the jackknife also removes the leading bias of
the logarithm of a mean; where that carries an estimate of Z above 1, the exact bound is taken.
Configurations with at most the reference's training errors count.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from message_passing import _kernels_monte_carlo as kernels
from message_passing.chain_statistics import (
    FEWEST_INDEPENDENT,
    deviation,
    drift,
    independent_states,
    jackknife,
    largest_deviation,
    with_and_without,
)
from message_passing.one_unit import OneUnitClimb
from message_passing.problem import LadderResult, ReferenceProblem

#: Draws made in one product.
DRAWS_AT_ONCE = 32
#: Where fewer draws than this fraction are solutions, chains take over from direct sampling.
SMALLEST_DIRECT = 0.015
#: How often Δ is divided by four in search of solutions.
MOST_DIVISIONS = 40
#: Candidates for the next rung, evenly in log Δ up to the next wanted point.
CANDIDATES = 12
#: The smallest fraction of states that must survive a step of the ladder.
SMALLEST_SURVIVAL = 0.25


@dataclass(frozen=True)
class MonteCarlo:
    """Configuration of the engine "mc".

    A rung is settled when half of its burn-in is worth four independent states of each chain
    (R̂ of |z|² below 1.12); until then the burn-in is doubled, up to ``longest_burn_in``, and the
    measurement is never shorter. A point is ``converged`` when all rungs up to it are, states
    survived every step of the ladder, no mean differs significantly between the halves of a
    measurement, and log Z agrees with the integral of ∂φ/∂Δ = (r − 1)/(2Δ) along the rungs.
    ``residual`` is the largest of these deviations, in standard errors. The limit grows with the
    number n of tests so far: settled chains exceed it with probability 10⁻³ in all n together
    (n = 10: 3.7, n = 1000: 4.8). ``iterations`` counts draws, or slice steps since the last
    point, over all chains.

    Attributes
    ----------
    draws : int
        Direct samples, over all blocks.
    chains : int
        Independent blocks; standard errors are known to a relative 1/√(2(chains − 1)).
    steps, burn_in : int
        Fewest steps (each over all units) of each chain on each rung, counted and not.
    longest_burn_in : int
        Chains that need more on some rung are said not to have converged.
    seed : int
        Same seed, same result.
    """

    draws: int = 8000
    chains: int = 16
    steps: int = 80
    burn_in: int = 40
    longest_burn_in: int = 1280
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("chains", 4), ("steps", 2), ("burn_in", 2), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; at least {least} was expected.")
        if self.draws < 4 * self.chains:
            raise ValueError(
                f"draws is {self.draws}; at least {4 * self.chains}, four per chain, was expected."
            )

    def ladder(
        self, problem: ReferenceProblem, variances: NDArray[np.float64], progress: bool = False
    ) -> LadderResult:
        """Estimate φ and r at increasing Δ."""
        seeds = np.random.SeedSequence(self.seed).spawn(self.chains)
        rngs = [np.random.default_rng(seed) for seed in seeds]
        sample = self._draw(problem, variances, rngs)
        settled = np.flatnonzero(sample.fraction() >= SMALLEST_DIRECT)
        points = [sample.point(problem, i) for i in range(settled[-1] + 1 if len(settled) else 0)]
        if len(points) < len(variances):
            for _ in range(MOST_DIVISIONS):
                if len(settled):
                    break
                sample = self._draw(problem, sample.variances[:1] / 4, rngs)
                settled = np.flatnonzero(sample.fraction() >= SMALLEST_DIRECT)
            else:
                raise ValueError(
                    "patterns leave the reference no solution nearby that direct sampling finds "
                    f"(draws is {self.draws}); too many patterns have zero margin."
                )
            climb = _Climb(self, problem, rngs, sample, settled[-1])
            missing = [float(variance) for variance in variances[len(points) :]]
            with tqdm(missing, "mc", disable=not progress) as bar:
                if problem.hidden_units == 1:
                    start = (climb.variance, climb.white, climb.log_z)
                    for values in OneUnitClimb(self, problem, rngs, *start).through(missing):
                        points.append(_Point(*values))
                        bar.update()
                else:
                    points += climb.through(missing, bar.update)
        columns = (np.array(column) for column in zip(*points, strict=True))
        return LadderResult(np.asarray(variances, dtype=np.float64), *columns)

    def _draw(
        self, problem: ReferenceProblem, variances: NDArray[np.float64], rngs: list
    ) -> _DirectSample:
        """Direct sampling at all Δ with the same draws, blocks one after the other."""
        each = self.draws // self.chains
        factor = problem.geometry.factor
        shape = (problem.hidden_units, factor.shape[1])
        hits = np.empty((self.chains, each, len(variances)), dtype=bool)
        squares = np.empty((self.chains, each))
        kept = np.zeros((self.chains, len(variances), *shape))
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
        return _DirectSample(variances, hits, squares, kept)


class _Point(NamedTuple):
    """One point of the result, in the order of LadderResult's fields after the variance."""

    free_entropy: float
    displacement: float
    converged: bool
    iterations: int
    residual: float
    free_entropy_error: float
    displacement_error: float


@dataclass(frozen=True)
class _DirectSample:
    variances: NDArray[np.float64]
    hits: NDArray[np.bool_]  # (chains, draws, variances)
    squares: NDArray[np.float64]  # |z|² (chains, draws)
    kept: NDArray[np.float64]  # a solution z of each chain at each Δ

    def fraction(self) -> NDArray[np.float64]:
        return self.hits.mean(axis=(0, 1))

    def point(self, problem: ReferenceProblem, i: int) -> _Point:
        size = problem.hidden_units * problem.inputs
        hits = self.hits[:, :, i]
        log_z, _ = jackknife(np.log(with_and_without(hits.mean(axis=1))))
        # Draws are independent: the binomial error, which does not vanish without a single miss.
        likely = (hits.sum() + 1) / (hits.size + 2)
        error = np.sqrt((1 - likely) / (likely * hits.size))
        accepted = self.squares[hits]
        r = (accepted.mean() + _outside(problem)) / size
        r_error = accepted.std(ddof=1) / np.sqrt(len(accepted)) / size
        return _Point(min(log_z, 0.0) / size, r, True, hits.size, 0.0, error / size, r_error)


class _Climb:
    """Chains on their way up the ladder, and log Z so far."""

    def __init__(
        self,
        settings: MonteCarlo,
        problem: ReferenceProblem,
        rngs: list,
        sample: _DirectSample,
        base: int,
    ) -> None:
        self.settings, self.problem, self.rngs = settings, problem, rngs
        self.variance = float(sample.variances[base])
        self.factor = np.ascontiguousarray(problem.geometry.factor.T)
        # A block without a solution of its own starts from another's.
        own: NDArray[np.bool_] = np.any(sample.hits[:, :, base], axis=1)
        lender = np.arange(len(own))
        lender[~own] = np.resize(np.flatnonzero(own), np.count_nonzero(~own))
        self.white = sample.kept[lender, base]
        self.log_z = np.log(with_and_without(sample.hits[:, :, base].mean(axis=1)))
        self.deviation = 0.0  # the largest so far, in standard errors
        self.tests = 0
        self.settled = True
        self.length = settings.burn_in  # of the burn-in that sufficed on the last rung
        self.since_base = np.zeros_like(self.log_z)  # log Z since the chains started, ...
        self.integral = np.zeros_like(self.log_z)  # ... and from r, along the same rungs

    def through(self, targets: list[float], reached: Callable[[], object]) -> list[_Point]:
        """Climb, rung by rung, and report at each Δ of ``targets``."""
        points: list[_Point] = []
        variance, before, steps = self.variance, 0.0, 0
        forward, excess_before = np.ones(len(self.rngs)), np.zeros_like(self.log_z)
        while True:
            goal = targets[len(points)] if variance < targets[len(points)] else None
            if goal is None and len(points) + 1 < len(targets):
                goal = targets[len(points) + 1]
            ahead, settling = self._burn_in(variance, goal)
            measured = max(self.settings.steps, self.length)
            scales = np.sqrt(np.array([ahead, before or variance]) / variance)
            # A chain continues from its last state that is a solution at the next Δ too, since
            # such a state settles fast. A chain without one keeps its offsets, and so shrinks.
            start_ahead = self.white * np.sqrt(variance / ahead)
            halves, squared = self._run(variance, measured, scales, start_ahead)
            steps += settling + measured * len(self.rngs)
            survivals, squares = halves.mean(axis=1), squared[:, :, 0].mean(axis=1)
            excess = 0.5 * (with_and_without(squares) - self.white[0].size)  # ∂log Z/∂log Δ
            if before:
                change = self._log_mean(forward) - self._log_mean(survivals[:, 1])
                self.log_z = self.log_z + change
                self.since_base = self.since_base + change
                middle = 0.5 * (excess + excess_before)
                self.integral = self.integral + middle * np.log(variance / before)
                gap, error = jackknife(self.since_base - self.integral)
                # Rungs are a trapezoid rule: allow for a percent of the integral.
                error = math.hypot(error, 0.01 * self.integral[0])
                self._test([deviation(gap, error, len(self.rngs))])
            self._test([drift(values) for values in (*np.moveaxis(halves, 2, 0), squared[:, :, 0])])
            excess_before = excess
            forward = survivals[:, 0]
            if variance == targets[len(points)]:
                points.append(self._point(squares, steps))
                reached()
                steps = 0
                if len(points) == len(targets):
                    return points
            self.white = start_ahead
            before, variance = variance, ahead

    def _test(self, deviations: list[float]) -> None:
        self.tests += len(deviations)
        self.deviation = max(self.deviation, *deviations)

    def _burn_in(self, variance: float, goal: float | None) -> tuple[float, int]:
        """Let the chains settle at Δ and choose the next rung (Δ itself without a goal); steps."""
        candidates = np.array([variance])
        if goal is not None:
            parts = np.arange(1, CANDIDATES + 1) / CANDIDATES
            candidates = np.append(variance * (goal / variance) ** parts[:-1], goal)
        scales = np.sqrt(candidates / variance)
        self.length = max(self.settings.burn_in, self.length // 2)
        unused = np.empty_like(self.white)
        steps = 0
        while True:
            survivals, squares = self._run(variance, self.length, scales, unused)
            steps += self.length
            if independent_states(squares) >= FEWEST_INDEPENDENT:
                break
            if self.length >= self.settings.longest_burn_in:
                self.settled = False
                break
            self.length = min(2 * self.length, self.settings.longest_burn_in)
        good = np.flatnonzero(survivals[:, 1].mean(axis=0) >= SMALLEST_SURVIVAL)
        ahead = candidates[good[-1]] if len(good) else variance * scales[0] ** 0.5
        return float(ahead), steps * len(self.rngs)

    def _run(
        self,
        variance: float,
        steps: int,
        scales: NDArray[np.float64],
        survivors: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Steps of every chain: fractions that survive each scale (chains, 2, S), and means of
        |z|² and of its square (chains, 2, 2), of the two halves of the steps (second axis).

        The last state of each chain that survives the first scale goes to ``survivors``.
        """
        survivals = np.zeros((len(self.rngs), 2, len(scales)))
        squares = np.zeros((len(self.rngs), 2, 2))
        for chain, rng in enumerate(self.rngs):
            kernels.slice_steps(
                self.problem.preactivations,
                self.problem.labels,
                self.factor,
                variance,
                self.problem.training_errors,
                steps,
                self.white[chain],
                scales,
                rng,
                survivals[chain],
                squares[chain],
                survivors[chain],
            )
        halves = np.array([[(steps + 1) // 2, steps // 2]])
        return survivals / halves[:, :, None], squares / halves[:, :, None]

    def _log_mean(self, fractions: NDArray[np.float64]) -> NDArray[np.float64]:
        """log of the mean over all blocks, and over all but each."""
        means = with_and_without(fractions)
        least = 0.5 / (self.settings.steps * len(fractions))
        if np.any(means < least):
            self.settled = False
        return np.log(np.maximum(means, least))

    def _point(self, squares: NDArray[np.float64], steps: int) -> _Point:
        size = self.problem.hidden_units * self.problem.inputs
        log_z, error = jackknife(self.log_z)
        r = (squares.mean() + _outside(self.problem)) / size
        r_error = squares.std(ddof=1) / np.sqrt(len(squares)) / size
        settled = self.settled and self.deviation < largest_deviation(self.tests)
        return _Point(
            min(log_z, 0.0) / size, r, settled, steps, self.deviation, error / size, r_error
        )


def _outside(problem: ReferenceProblem) -> float:
    """Dimensions outside the span of the patterns; there ⟨z²⟩ = 1."""
    return problem.hidden_units * (problem.inputs - problem.geometry.factor.shape[1])
