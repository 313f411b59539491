"""The climb of the engine "mc" for one hidden unit: bouncing chains, Bennett's ratio.

For one unit, log Z can be hundreds of nats below the range of direct sampling, and a rung of the
ladder of survivals gains one nat. This climb compares neighbouring rungs at the same weights
instead. They are solutions on both rungs, so Δ enters only through the Gaussian. With
c = Δ_j/Δ_{j+1}, x = |z|² of the white state on rung j, and R its dimensions, the log ratio of the
densities is

    u = ½ R log c + ½ x (1 − c)        (on rung j + 1, x = |z|²/c),

and ℓ = log Z_{j+1} − log Z_j solves E_j[σ(u − ℓ)] = E_{j+1}[σ(ℓ − u)], σ(t) = 1/(1 + e^(−t)).
This estimate has the least variance (Bennett, J. Comput. Phys. 22, 245, 1976). If u varies by
about one on a rung, about √R rungs are needed per unit of log Δ, however small Z becomes.

Standard errors are jackknife errors over the chains, as in ``monte_carlo.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from message_passing._kernels_bouncing import bouncing_steps
from message_passing.chain_statistics import (
    deviation,
    drift,
    jackknife,
    largest_deviation,
    with_and_without,
)
from message_passing.ladder import LadderSettings, settle
from message_passing.problem import Point, ReferenceProblem

#: Step of the ladder in log Δ, times √(R/2). It is the standard deviation of u without patterns.
SPACING = 1.5


class OneUnitClimb:
    """Chains that climb in Δ, and log Z so far.

    Parameters
    ----------
    settings : steps and burn-in of each chain on each rung.
    problem : K = 1.
    rngs : one generator per chain.
    variance : Δ of the first rung.
    white : (chains, 1, R) solutions on the first rung, changed in place.
    log_z : (chains + 1,) log Z there, from all chains and with each chain left out in turn.
    """

    def __init__(
        self,
        settings: LadderSettings,
        problem: ReferenceProblem,
        rngs: list[np.random.Generator],
        variance: float,
        white: NDArray[np.float64],
        log_z: NDArray[np.float64],
    ) -> None:
        self.settings, self.problem, self.rngs = settings, problem, rngs
        self.variance, self.white, self.log_z = variance, white, log_z
        self.factor = np.ascontiguousarray(problem.geometry.factor.T)
        self.deviation = 0.0  # the largest so far, in standard errors
        self.tests = 0
        self.settled = True
        self.length = settings.burn_in  # burn-in that sufficed on the last rung
        self.climbed = np.zeros_like(log_z)  # since the first rung, ...
        self.integral = np.zeros_like(log_z)  # ... and by the trapezoid rule from ⟨|z|²⟩

    def through(self, targets: list[float]) -> Iterator[Point]:
        """Yield the point at each Δ of ``targets``."""
        size, dimensions = self.problem.inputs, len(self.factor)
        before, steps = self._sample(self.variance)
        for target in targets:
            rungs = math.ceil(
                math.log(target / self.variance) * math.sqrt(dimensions / 2) / SPACING
            )
            for variance in np.geomspace(self.variance, target, rungs + 1)[1:]:
                self.white *= math.sqrt(self.variance / variance)
                here, made = self._sample(float(variance))
                steps += made
                self._climb(before, here, self.variance / float(variance))
                before, self.variance = here, float(variance)
            means = before.mean(axis=1)
            log_z, error = jackknife(self.log_z)
            r = 1.0 + (means.mean() - dimensions) / size
            r_error = means.std(ddof=1) / math.sqrt(len(means)) / size
            settled = self.settled and self.deviation < largest_deviation(self.tests)
            yield Point(
                min(log_z, 0.0) / size, r, settled, steps, self.deviation, error / size, r_error
            )  # fmt: skip
            steps = 0

    def _sample(self, variance: float) -> tuple[NDArray[np.float64], int]:
        """|z|² of settled chains (chains, steps) at Δ, and the number of steps made."""

        def run(steps: int) -> NDArray[np.float64]:
            parts = np.array_split(self._run(variance, steps), 2, axis=1)
            moments = np.array([[p.mean(axis=1), (p**2).mean(axis=1)] for p in parts])
            return np.moveaxis(moments, 2, 0)

        self.length, made, settled = settle(self.settings, self.length, run)
        self.settled &= settled
        squares = self._run(variance, max(self.settings.steps, self.length))
        halves = np.array([p.mean(axis=1) for p in np.array_split(squares, 2, axis=1)]).T
        self.tests += 1
        self.deviation = max(self.deviation, drift(halves))
        return squares, made * len(self.rngs) + squares.size

    def _run(self, variance: float, steps: int) -> NDArray[np.float64]:
        squares = np.empty((len(self.rngs), steps))
        for chain, rng in enumerate(self.rngs):
            bouncing_steps(
                self.problem.preactivations,
                self.problem.labels,
                self.factor,
                self.problem.geometry.gram,
                variance,
                self.problem.training_errors,
                self.white[chain],
                rng,
                squares[chain],
            )
        return squares

    def _climb(self, below: NDArray[np.float64], above: NDArray[np.float64], ratio: float) -> None:
        """Add ℓ between two rungs, from all chains and with each chain left out in turn."""
        dimensions = len(self.factor)
        constant = 0.5 * dimensions * math.log(ratio)
        forward = constant + 0.5 * (1.0 - ratio) * below
        backward = constant + 0.5 * (1.0 - ratio) / ratio * above
        chains = len(forward)
        kept = np.array([np.arange(chains) != out for out in (-1, *range(chains))])
        counts = kept.sum(axis=1)
        low = np.full(chains + 1, min(forward.min(), backward.min()))
        high = np.full(chains + 1, max(forward.max(), backward.max()))
        # Solve for all at once by bisection: each chain's sums depend on ℓ alone.
        for _ in range(50):
            middle = 0.5 * (low + high)
            up = expit(forward[None] - middle[:, None, None]).mean(axis=2)
            down = expit(middle[:, None, None] - backward[None]).mean(axis=2)
            larger = ((up - down) * kept).sum(axis=1) / counts > 0
            low, high = np.where(larger, middle, low), np.where(larger, high, middle)
        change = 0.5 * (low + high)
        self.log_z = self.log_z + change
        self.climbed = self.climbed + change
        excess = [0.5 * (with_and_without(x.mean(axis=1)) - dimensions) for x in (below, above)]
        self.integral = self.integral - 0.5 * (excess[0] + excess[1]) * math.log(ratio)
        gap, error = jackknife(self.climbed - self.integral)
        error = math.hypot(error, 0.01 * self.integral[0])
        self.tests += 1
        self.deviation = max(self.deviation, deviation(gap, error, chains))
