"""Interface between the ladder and a sampler, which draws states directly and moves them.

A state is a white array z. Its offset from the reference is √Δ z. Only the sampler knows which
offsets are allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from message_passing.chain_statistics import jackknife, with_and_without
from message_passing.problem import Point

#: Chains replace direct sampling where less than this fraction of the draws is allowed.
SMALLEST_DIRECT = 0.015


@dataclass(frozen=True)
class DirectSample:
    """Independent white draws z, and the Δ at which each is allowed.

    Attributes
    ----------
    variances : (M,)
    hits : (chains, draws, M)
        Whether the offset √Δ z is allowed.
    squares : (chains, draws)
        |z|².
    tried : (M,)
        Number of draws of each chain that count at each Δ. They are the first ones.
    solutions : callable
        Takes chains (n,) and the index of a Δ. Returns one draw (n, …) per chain, allowed there.
    """

    variances: NDArray[np.float64]
    hits: NDArray[np.bool_]
    squares: NDArray[np.float64]
    tried: NDArray[np.int64]
    solutions: Callable[[NDArray[np.int64], int], NDArray[Any]]

    def counted(self, i: int) -> NDArray[np.bool_]:
        """Hits (chains, tried) at one Δ."""
        return self.hits[:, : self.tried[i], i]

    def settled(self) -> NDArray[np.int64]:
        """Indices of the Δ where enough draws are allowed."""
        fractions = [self.counted(i).mean() for i in range(len(self.variances))]
        return np.flatnonzero(np.array(fractions) >= SMALLEST_DIRECT)

    def point(self, sampler: Sampler, i: int) -> Point:
        """log Z and r at one Δ."""
        hits = self.counted(i)
        log_z, _ = jackknife(np.log(with_and_without(hits.mean(axis=1))))
        # Draws are independent, so the error is binomial. It stays positive if all draws hit.
        likely = (hits.sum() + 1) / (hits.size + 2)
        error = np.sqrt((1 - likely) / (likely * hits.size))
        accepted = self.squares[:, : hits.shape[1]][hits]
        free, size = sampler.size - sampler.dimensions, sampler.size
        r = (accepted.mean() + free) / size
        r_error = accepted.std(ddof=1) / np.sqrt(len(accepted)) / size
        return Point(min(log_z, 0.0) / size, r, True, hits.size, 0.0, error / size, r_error)


class Sampler(Protocol):
    """Anything that draws and moves states.

    Attributes
    ----------
    size : int
        D.
    dimensions : int
        Dimensions of a state. The other D − dimensions are free, with ⟨z²⟩ = 1.
    """

    size: int
    dimensions: int

    def draw(
        self, variances: NDArray[np.float64], each: int, rngs: list[np.random.Generator]
    ) -> DirectSample:
        """Draw ``each`` direct samples with each generator."""
        ...

    def run(
        self,
        variance: float,
        steps: int,
        scales: NDArray[np.float64],
        rngs: list[np.random.Generator],
        white: NDArray[Any],
        survivors: NDArray[Any],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Move every chain. The states ``white`` (chains, …) change in place.

        Returns the fractions of states that stay allowed when scaled by each of ``scales``
        (chains, 2, S), and the means of |z|² and |z|⁴ (chains, 2, 2). The second axis is the half
        of the steps. ``survivors`` receives the last state of each chain that survives the first
        scale. Without such a state the chain's entry is unchanged.
        """
        ...
