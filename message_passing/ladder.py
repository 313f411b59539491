"""log Z at increasing Δ by sampling: direct draws first, then chains that climb rung by rung.

Z(Δ) is the allowed fraction of a D-dimensional Gaussian of variance Δ around a reference. A sampler
decides what is allowed and moves the states.

**Direct sampling.** One white draw z serves all Δ. This gives log Z wherever it is above about −4.

**Ladder.** With S_j the allowed states at Δ_j in white coordinates,

    log Z_{j+1} − log Z_j = log P_j(z ∈ S_{j+1}) − log P_{j+1}(z ∈ S_j).

The second term is needed because the allowed states are not star-shaped around the reference. Rungs
are added until enough states survive each step. A chain starts rung j+1 from its last state in S_j
that is also in S_{j+1}. This white state follows the Gaussian restricted to both sets, so it
settles fast. (Keeping the offset instead shrinks z, and |z|² stays too small for long, unnoticed.)

**Errors.** There are ``chains`` independent blocks, each with its own draws and its own chain up
the whole ladder. All standard errors are jackknife errors over blocks. They contain every
autocorrelation within a chain and between rungs. The jackknife also removes the leading bias of
the logarithm of a mean. If that moves an estimate of Z above 1, the exact bound replaces it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from message_passing.chain_statistics import (
    FEWEST_INDEPENDENT,
    deviation,
    drift,
    independent_states,
    jackknife,
    largest_deviation,
    with_and_without,
)
from message_passing.problem import LadderResult, Point
from message_passing.sampler import Sampler
from message_passing.tools.files import arrays_of, from_arrays, read_npz, write_npz
from message_passing.tools.validation import check_least

#: Limit on divisions of Δ by four in the search for allowed draws.
MOST_DIVISIONS = 40
#: Number of candidates for the next rung, evenly spaced in log Δ up to the next wanted point.
CANDIDATES = 12
#: The smallest fraction of states that must survive a step of the ladder.
SMALLEST_SURVIVAL = 0.25


@dataclass(frozen=True)
class LadderSettings:
    """Number of draws, chains and steps of the ladder.

    A rung is settled when half of its burn-in is worth four independent states of each chain
    (R̂ of |z|² below 1.12). Until then the burn-in is doubled, up to ``longest_burn_in``. The
    measurement is at least as long as the burn-in. A point is ``converged`` when all rungs up to it
    are settled, states survived every step of the ladder, no mean differs significantly between the
    halves of a measurement, and log Z agrees with the integral of ∂φ/∂Δ = (r − 1)/(2Δ) along the
    rungs. ``residual`` is the largest of these deviations, in standard errors. Its limit grows with
    the number n of tests so far: settled chains exceed it in any of the n tests with probability
    10⁻³ (n = 10: 3.7, n = 1000: 4.8). ``iterations`` counts draws, or slice steps since the last
    point, over all chains.

    Attributes
    ----------
    draws : int
        Number of direct samples over all blocks.
    chains : int
        Number of independent blocks. Standard errors have a relative error of 1/√(2(chains − 1)).
    steps, burn_in : int
        Least number of measured slice steps, and of discarded ones, of each chain on each rung.
    longest_burn_in : int
        Chains that need a longer burn-in on some rung count as not converged.
    """

    draws: int = 8000
    chains: int = 16
    steps: int = 80
    burn_in: int = 40
    longest_burn_in: int = 1280

    def __post_init__(self) -> None:
        check_least(self, chains=4, steps=2, burn_in=2)
        if self.draws < 4 * self.chains:
            raise ValueError(
                f"draws is {self.draws}; at least {4 * self.chains}, four per chain, was expected."
            )


def climb(
    sampler: Sampler,
    settings: LadderSettings,
    seed: int,
    variances: NDArray[np.float64],
    name: str,
    progress: bool = False,
    save: Path | None = None,
) -> LadderResult:
    """Estimate φ and r at increasing Δ. The same seed gives the same result.

    ``save`` is a file for the state after each rung. An interrupted ladder resumes from it.
    Raises ``ValueError`` if no draw is allowed at any Δ, however small.
    """
    rngs = generators(seed, settings.chains)
    with tqdm(total=len(variances), desc=name, disable=not progress) as bar:
        if save is not None and save.exists():
            state = _State.load(save, rngs)
        else:
            state = start(sampler, settings, variances, rngs)
        bar.update(len(state.points))
        ladder = _Ladder(sampler, settings, rngs, state)
        while len(state.points) < len(variances):
            if save is not None:
                state.store(save, rngs)
            bar.update(ladder.rung([float(v) for v in variances[len(state.points) :]]))
        if save is not None:
            state.store(save, rngs)
    return LadderResult.from_points(variances, state.points)


def generators(seed: int, chains: int) -> list[np.random.Generator]:
    """One generator per chain, spawned from the seed."""
    return [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(chains)]


@dataclass
class _State:
    """State of the chains, and log Z so far. Estimates are (chains + 1,): see with_and_without."""

    points: NDArray[np.float64]  # (n, 7), the rows Point
    variance: float
    white: NDArray[Any]
    log_z: NDArray[np.float64]
    since_base: NDArray[np.float64]  # log Z since the chains started, ...
    integral: NDArray[np.float64]  # ... and the same by integrating r along the rungs
    forward: NDArray[np.float64]  # survival of the step that led here
    excess: NDArray[np.float64]  # ∂log Z/∂log Δ on the previous rung
    length: int  # burn-in that sufficed on the last rung
    before: float = 0.0  # Δ of the previous rung
    steps: int = 0  # since the last point
    deviation: float = 0.0  # the largest so far, in standard errors
    tests: int = 0
    settled: bool = True
    generators: NDArray[np.str_] = field(default_factory=lambda: np.array([]))

    def store(self, path: Path, rngs: list[np.random.Generator]) -> None:
        self.generators = np.array([json.dumps(rng.bit_generator.state) for rng in rngs])
        write_npz(path, **arrays_of(self))

    @classmethod
    def load(cls, path: Path, rngs: list[np.random.Generator]) -> _State:
        state: _State = from_arrays(cls, read_npz(path))
        for rng, stored in zip(rngs, state.generators, strict=True):
            rng.bit_generator.state = json.loads(str(stored))
        return state


def start(
    sampler: Sampler,
    settings: LadderSettings,
    variances: NDArray[np.float64],
    rngs: list[np.random.Generator],
) -> _State:
    """The points within reach of direct sampling, with chains at the last of them."""
    each = settings.draws // settings.chains
    sample = sampler.draw(variances, each, rngs)
    settled = sample.settled()
    points = [sample.point(sampler, i) for i in range(settled[-1] + 1 if len(settled) else 0)]
    for _ in range(MOST_DIVISIONS):
        if len(settled):
            break
        sample = sampler.draw(sample.variances[:1] / 4, each, rngs)
        settled = sample.settled()
    if not len(settled):
        raise ValueError(
            f"the reference has no solution nearby that {settings.draws} draws find; one of zero "
            "margin has none (too many examples are on the edge)."
        )
    base = int(settled[-1])
    hits = sample.counted(base)
    # A block without a solution of its own starts from the solution of another block.
    own: NDArray[np.bool_] = np.any(hits, axis=1)
    lender = np.arange(len(own))
    lender[~own] = np.resize(np.flatnonzero(own), np.count_nonzero(~own))
    log_z = np.log(with_and_without(hits.mean(axis=1)))
    zero = np.zeros_like(log_z)
    return _State(
        points=np.array(points, dtype=np.float64).reshape(-1, len(Point._fields)),
        variance=float(sample.variances[base]),
        white=sample.solutions(lender, base),
        log_z=log_z,
        since_base=zero,
        integral=zero,
        forward=np.ones(len(rngs)),
        excess=zero,
        length=settings.burn_in,
    )


def settle(
    settings: LadderSettings, length: int, run: Callable[[int], NDArray[np.float64]]
) -> tuple[int, int, bool]:
    """Burn in. Start with half of the last ``length``, and double it until it suffices.

    ``run`` makes steps of every chain and returns the moments of :func:`independent_states`.
    Returns the last length, the total number of steps, and whether the last length sufficed.
    """
    length, made = max(settings.burn_in, length // 2), 0
    while True:
        moments = run(length)
        made += length
        enough = independent_states(moments) >= FEWEST_INDEPENDENT
        if enough or length >= settings.longest_burn_in:
            return length, made, enough
        length = min(2 * length, settings.longest_burn_in)


class _Ladder:
    """Chains that climb the ladder rung by rung, starting from ``state``."""

    def __init__(
        self,
        sampler: Sampler,
        settings: LadderSettings,
        rngs: list[np.random.Generator],
        state: _State,
    ) -> None:
        self.sampler, self.settings, self.rngs, self.state = sampler, settings, rngs, state

    def rung(self, targets: list[float]) -> int:
        """Settle and measure at this Δ, then step towards ``targets``. Returns points reached."""
        state, chains = self.state, len(self.rngs)
        variance, before = state.variance, state.before
        goal = targets[0] if variance < targets[0] else None
        if goal is None and len(targets) > 1:
            goal = targets[1]
        ahead = self._burn_in(goal)
        measured = max(self.settings.steps, state.length)
        # A chain continues from its last state that is also allowed at the next Δ, because it
        # settles fast. A chain without such a state keeps its offsets, so its z shrinks.
        start_ahead = state.white * _root(variance / ahead, state.white)
        halves, squared = self._run(measured, np.array([ahead, before or variance]), start_ahead)
        state.steps += measured * chains
        survivals, squares = halves.mean(axis=1), squared[:, :, 0].mean(axis=1)
        excess = 0.5 * (with_and_without(squares) - self.sampler.dimensions)
        if before:
            change = self._log_mean(state.forward) - self._log_mean(survivals[:, 1])
            state.log_z = state.log_z + change
            state.since_base = state.since_base + change
            middle = 0.5 * (excess + state.excess)
            state.integral = state.integral + middle * np.log(variance / before)
            gap, error = jackknife(state.since_base - state.integral)
            # The integral is a trapezoid rule on the rungs, so allow an error of one percent.
            error = math.hypot(error, 0.01 * state.integral[0])
            self._test([deviation(gap, error, chains)])
        self._test([drift(values) for values in (*np.moveaxis(halves, 2, 0), squared[:, :, 0])])
        reached = int(variance == targets[0])
        if reached:
            state.points = np.vstack([state.points, self._point(squares)])
            state.steps = 0
        state.excess, state.forward = excess, survivals[:, 0]
        state.white, state.before, state.variance = start_ahead, variance, ahead
        return reached

    def _test(self, deviations: list[float]) -> None:
        self.state.tests += len(deviations)
        self.state.deviation = max(self.state.deviation, *deviations)

    def _burn_in(self, goal: float | None) -> float:
        """Let the chains settle and choose the next rung. Without a goal it is the same Δ."""
        state, variance = self.state, self.state.variance
        candidates = np.array([variance])
        if goal is not None:
            parts = np.arange(1, CANDIDATES + 1) / CANDIDATES
            candidates = np.append(variance * (goal / variance) ** parts[:-1], goal)
        unused = np.empty_like(state.white)
        survivals = np.empty(0)

        def run(steps: int) -> NDArray[np.float64]:
            nonlocal survivals
            survivals, squares = self._run(steps, candidates, unused)
            return squares

        state.length, made, settled = settle(self.settings, state.length, run)
        state.steps += made * len(self.rngs)
        state.settled &= settled
        good = np.flatnonzero(survivals[:, 1].mean(axis=0) >= SMALLEST_SURVIVAL)
        if len(good):
            return float(candidates[good[-1]])
        return float(variance * np.sqrt(candidates[0] / variance) ** 0.5)

    def _run(
        self, steps: int, looked_at: NDArray[np.float64], survivors: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Move every chain, and count its states that are also allowed at each ``looked_at`` Δ."""
        state = self.state
        scales = np.sqrt(looked_at / state.variance)
        return self.sampler.run(state.variance, steps, scales, self.rngs, state.white, survivors)

    def _log_mean(self, fractions: NDArray[np.float64]) -> NDArray[np.float64]:
        """log of the mean over all blocks, and with each block left out in turn."""
        means = with_and_without(fractions)
        least = 0.5 / (self.settings.steps * len(fractions))
        if np.any(means < least):
            self.state.settled = False
        return np.log(np.maximum(means, least))

    def _point(self, squares: NDArray[np.float64]) -> Point:
        state, size = self.state, self.sampler.size
        log_z, error = jackknife(state.log_z)
        r = (squares.mean() + (size - self.sampler.dimensions)) / size
        r_error = squares.std(ddof=1) / np.sqrt(len(squares)) / size
        settled = state.settled and state.deviation < largest_deviation(state.tests)
        return Point(
            min(log_z, 0.0) / size, r, settled, state.steps, state.deviation, error / size, r_error
        )


def _root(ratio: float, white: NDArray[Any]) -> Any:
    """√ratio in the number format of the states."""
    return white.dtype.type(np.sqrt(ratio))
