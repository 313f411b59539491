"""What the ladder knows of a sampler: it draws states directly, and it moves them.

A state is a white array z; its offset from the reference is √Δ z. Only the sampler knows which
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

#: Where fewer draws than this fraction are allowed, chains take over from direct sampling.
SMALLEST_DIRECT = 0.015


@dataclass(frozen=True)
class DirectSample:
    """Independent white draws z, and at which Δ they are allowed.

    Attributes
    ----------
    variances : (M,)
    hits : (chains, draws, M)
        Whether the offset √Δ z is allowed.
    squares : (chains, draws)
        |z|².
    tried : (M,)
        Draws of each chain that count at each Δ: the first ones.
    solutions : callable
        From chains (n,) and the index of a Δ to a draw (n, …) of each that is allowed there.
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
        # Draws are independent: the binomial error, which does not vanish without a single miss.
        likely = (hits.sum() + 1) / (hits.size + 2)
        error = np.sqrt((1 - likely) / (likely * hits.size))
        accepted = self.squares[:, : hits.shape[1]][hits]
        free, size = sampler.size - sampler.dimensions, sampler.size
        r = (accepted.mean() + free) / size
        r_error = accepted.std(ddof=1) / np.sqrt(len(accepted)) / size
        return Point(min(log_z, 0.0) / size, r, True, hits.size, 0.0, error / size, r_error)


class Sampler(Protocol):
    """What draws and moves states.

    Attributes
    ----------
    size : int
        D.
    dimensions : int
        Of a state. The other D − dimensions are free, and ⟨z²⟩ = 1 there.
    """

    size: int
    dimensions: int

    def draw(
        self, variances: NDArray[np.float64], each: int, rngs: list[np.random.Generator]
    ) -> DirectSample:
        """``each`` direct samples with each generator."""
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
        """Move every chain: its state in ``white`` (chains, …) changes in place.

        Returns the fractions of states that stay allowed when scaled by each of ``scales``
        (chains, 2, S), and the means of |z|² and of its square (chains, 2, 2), of the two halves
        of the steps (second axis). The last state of each chain that survives the first scale
        goes to ``survivors``, which keeps the chain's entry where there is none.
        """
        ...
