"""Engine "mc": local entropy by sampling, exact within its standard error.

**Direct sampling.** Weights are drawn from the Gaussian; only their pre-activation offsets
v = √Δ z Fᵀ matter (F Fᵀ = G, z white; the part of w′ outside the span of the patterns is free and
enters r analytically). One draw z serves all Δ. This gives log Z wherever it is above about −4.

**Chains** carry on from there: elliptical slice sampling with exact arcs, one hidden unit at a
time. Along the ellipse v_k cos θ + v′_k sin θ through the state and a fresh draw v′, the
pre-activations of unit k change sign at angles known in closed form, and only the patterns for
which it is decisive matter; one pass finds all arcs of solutions, and the new angle is uniform
on them. Nothing is rejected. (All units at once have far shorter arcs, and mix far more slowly.)

**Ladder.** With S_j the solutions at Δ_j in white coordinates,

    log Z_{j+1} − log Z_j = log P_j(z ∈ S_{j+1}) − log P_{j+1}(z ∈ S_j);

the second term is needed, since solutions are not star-shaped around w. Rungs are put in between
until enough states survive each step.

**Errors.** There are ``chains`` independent blocks, each with its own draws and its own chain up
the whole ladder. All standard errors are jackknife errors over blocks, which contain every
autocorrelation within a chain and between rungs; the jackknife also removes the leading bias of
the logarithm of a mean. Configurations with at most the reference's training errors count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student_t

from message_passing import _kernels_monte_carlo as kernels
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
#: Chains whose halves differ by more standard errors than this have not settled.
LARGEST_DRIFT = 5.0
#: Burn-in is repeated while |z|² still drifts by more standard errors than this, so many times.
SMALLEST_DRIFT = 1.0
MOST_BURN_INS = 25


@dataclass(frozen=True)
class MonteCarlo:
    """Configuration of the engine "mc".

    A point is ``converged`` when no mean over the chains differs between the first and the second
    half of the steps, on any rung so far, by more than five standard errors, and states survived
    every step of the ladder; ``residual`` is the largest such difference in standard errors.
    ``iterations`` counts draws, or slice steps since the last point, over all chains.

    Attributes
    ----------
    draws : int
        Direct samples, over all blocks.
    chains : int
        Independent blocks; standard errors are known to a relative 1/√(2(chains − 1)).
    steps, burn_in : int
        Slice steps (each over all units) of each chain on each rung, counted and not; the burn-in
        is repeated while the chains still drift.
    seed : int
        Same seed, same result.
    """

    draws: int = 8000
    chains: int = 16
    steps: int = 80
    burn_in: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("chains", 4), ("steps", 2), ("burn_in", 2), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; at least {least} was expected.")
        if self.draws < 4 * self.chains:
            raise ValueError(
                f"draws is {self.draws}; at least {4 * self.chains}, four per chain, was expected."
            )

    def ladder(self, problem: ReferenceProblem, variances: NDArray[np.float64]) -> LadderResult:
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
            points += climb.through([float(variance) for variance in variances[len(points) :]])
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
                    problem.fields,
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
        self.drift = 0.0  # the largest so far
        self.survived = True

    def through(self, targets: list[float]) -> list[_Point]:
        """Climb, rung by rung, and report at each Δ of ``targets``."""
        points: list[_Point] = []
        variance, before, steps = self.variance, 0.0, 0
        forward = np.ones(len(self.rngs))
        while True:
            goal = targets[len(points)] if variance < targets[len(points)] else None
            if goal is None and len(points) + 1 < len(targets):
                goal = targets[len(points) + 1]
            ahead, settling = self._burn_in(variance, goal)
            scales = np.sqrt(np.array([ahead, before or variance]) / variance)
            halves, squared = self._run(variance, self.settings.steps, scales)
            steps += settling + self.settings.steps * len(self.rngs)
            self.drift = max(self.drift, drift(squared), *(drift(halves[:, :, s]) for s in (0, 1)))
            survivals, squares = halves.mean(axis=1), squared.mean(axis=1)
            if before:
                self.log_z = self.log_z + self._log_mean(forward) - self._log_mean(survivals[:, 1])
            forward = survivals[:, 0]
            if variance == targets[len(points)]:
                points.append(self._point(squares, steps))
                steps = 0
                if len(points) == len(targets):
                    return points
            # The chains keep their offsets: in white coordinates they shrink.
            self.white *= np.sqrt(variance / ahead)
            before, variance = variance, ahead

    def _burn_in(self, variance: float, goal: float | None) -> tuple[float, int]:
        """Let the chains settle at Δ and choose the next rung (Δ itself without a goal); steps."""
        candidates = np.array([variance])
        if goal is not None:
            parts = np.arange(1, CANDIDATES + 1) / CANDIDATES
            candidates = np.append(variance * (goal / variance) ** parts[:-1], goal)
        scales = np.sqrt(candidates / variance)
        steps = self.settings.burn_in
        repeats, settled = 0, False
        while not settled and repeats < MOST_BURN_INS:
            survivals, squares = self._run(variance, steps, scales)
            repeats, settled = repeats + 1, drift(squares) < SMALLEST_DRIFT
        good = np.flatnonzero(survivals[:, 1].mean(axis=0) >= SMALLEST_SURVIVAL)
        ahead = candidates[good[-1]] if len(good) else variance * scales[0] ** 0.5
        return float(ahead), repeats * steps * len(self.rngs)

    def _run(
        self, variance: float, steps: int, scales: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Steps of every chain: fractions that survive each scale (chains, 2, S) and mean |z|²
        (chains, 2), of the two halves of the steps."""
        survivals = np.zeros((len(self.rngs), 2, len(scales)))
        squares = np.zeros((len(self.rngs), 2))
        for chain, rng in enumerate(self.rngs):
            kernels.slice_steps(
                self.problem.fields,
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
            )
        halves = np.array([[(steps + 1) // 2, steps // 2]])
        return survivals / halves[:, :, None], squares / halves

    def _log_mean(self, fractions: NDArray[np.float64]) -> NDArray[np.float64]:
        """log of the mean over all blocks, and over all but each."""
        means = with_and_without(fractions)
        least = 0.5 / (self.settings.steps * len(fractions))
        if np.any(means < least):
            self.survived = False
        return np.log(np.maximum(means, least))

    def _point(self, squares: NDArray[np.float64], steps: int) -> _Point:
        size = self.problem.hidden_units * self.problem.inputs
        log_z, error = jackknife(self.log_z)
        r = (squares.mean() + _outside(self.problem)) / size
        r_error = squares.std(ddof=1) / np.sqrt(len(squares)) / size
        settled = self.survived and self.drift < LARGEST_DRIFT
        return _Point(min(log_z, 0.0) / size, r, settled, steps, self.drift, error / size, r_error)


def with_and_without(blocks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over all blocks, followed by the means over all blocks but one, for each."""
    return np.concatenate([[blocks.mean()], (blocks.sum() - blocks) / (len(blocks) - 1)])


def drift(halves: NDArray[np.float64]) -> float:
    """Change between two halves (chains, 2), in standard errors over the chains.

    Student's t is turned into the deviation of a Gaussian that is as improbable.
    """
    change = halves[:, 1] - halves[:, 0]
    error = change.std(ddof=1) / np.sqrt(len(change))
    if error == 0:
        return 0.0
    return float(-norm.ppf(student_t.sf(abs(change.mean()) / error, len(change) - 1)))


def jackknife(values: NDArray[np.float64]) -> tuple[float, float]:
    """Bias-corrected estimate and standard error, from :func:`with_and_without` of blocks."""
    full, without = values[0], values[1:]
    n = len(without)
    estimate = n * full - (n - 1) * without.mean()
    return float(estimate), float(np.sqrt((n - 1) * np.mean((without - without.mean()) ** 2)))


def _outside(problem: ReferenceProblem) -> float:
    """Dimensions outside the span of the patterns; there ⟨z²⟩ = 1."""
    return problem.hidden_units * (problem.inputs - problem.geometry.factor.shape[1])
