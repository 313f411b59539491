"""Elliptical slice sampler for a black box that says only whether a state is allowed.

A step goes over blocks of coordinates. It draws a fresh white v for each and moves the block along
the ellipse z cos θ + v sin θ. The angle θ is uniform in a bracket around θ = 0. The bracket starts
as the whole circle and shrinks to each refused θ [Murray, Adams, MacKay, AISTATS 2010]. The
Gaussian restricted to allowed states stays invariant. Chains run at their own pace. Each asks one
question at a time, and the questions of all chains are answered in batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from message_passing.sampler import SMALLEST_DIRECT, DirectSample

#: After this number of refusals a chain stays. θ is then below 10⁻¹⁰: only rounding refuses it.
MOST_REFUSALS = 60
#: Interval, in steps, between the states on which candidates for a rung (> 2 scales) are tried.
STATES_BETWEEN = 4
#: This fraction of the direct draws is made at all Δ. The other draws are made only where the
#: allowed fraction was between SMALLEST_DIRECT/3 and MOST_ALLOWED: elsewhere they help little.
FIRST_DRAWS = 0.125
MOST_ALLOWED = 0.3

#: (scale, white): is the offset scale · white allowed?
Question = tuple[float, NDArray[np.floating]]


class EllipticalSlices:
    """Sampler of D white numbers. ``allowed`` says which offsets (n, D) belong to a solution.

    Parameters
    ----------
    allowed : callable
        Maps offsets √Δ z (n, D), n ≤ ``at_once``, to booleans (n,).
    size : int
        D.
    at_once : int
        Largest number of offsets in one call of ``allowed``.
    dtype
        Number format of the states.
    blocks : (D,), optional
        Block number of each coordinate, from 0. Default: one block. Blocks of whole hidden units
        move further: for a committee of three units, one unit per block needs about a third of the
        answers per independent state. Random blocks gain less.
    """

    def __init__(
        self,
        allowed: Callable[[NDArray[np.floating]], NDArray[np.bool_]],
        size: int,
        at_once: int = 16,
        dtype: DTypeLike = np.float64,
        blocks: NDArray[np.integer] | None = None,
    ) -> None:
        self.allowed, self.at_once = allowed, at_once
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.size = self.dimensions = size
        blocks = np.zeros(size, dtype=np.int64) if blocks is None else blocks
        self.blocks = [np.flatnonzero(blocks == b) for b in range(blocks.max() + 1)]

    def draw(
        self, variances: NDArray[np.float64], each: int, rngs: list[np.random.Generator]
    ) -> DirectSample:
        """Direct sampling; see :class:`message_passing.sampler.Sampler`."""
        hits = np.zeros((len(rngs), each, len(variances)), dtype=bool)
        squares = np.zeros((len(rngs), each))
        # Keep a solution as the state of its generator, and draw it again when it is needed.
        seeds: dict[tuple[int, int], Any] = {}
        first = max(1, math.ceil(FIRST_DRAWS * each))
        tried = np.full(len(variances), first)
        points = np.arange(len(variances))
        for i in range(each):
            if i == first:
                fraction = hits[:, :first].mean(axis=(0, 1))
                points = np.flatnonzero(
                    (fraction > SMALLEST_DIRECT / 3) & (fraction < MOST_ALLOWED)
                )
                tried[points] = each
            if not len(points):
                break
            before = [rng.bit_generator.state for rng in rngs]
            white = [self._normal(rng, self.size) for rng in rngs]
            squares[:, i] = [_square(z) for z in white]
            answers = self._answers([(math.sqrt(variances[p]), z) for z in white for p in points])
            for (chain, place), answer in np.ndenumerate(answers.reshape(len(rngs), -1)):
                if answer:
                    hits[chain, i, points[place]] = True
                    seeds[chain, int(points[place])] = before[chain]

        def solutions(chains: NDArray[np.int64], point: int) -> NDArray[np.floating]:
            rng = np.random.default_rng()
            found = np.empty((len(chains), self.size), dtype=self.dtype)
            for row, chain in zip(found, chains, strict=True):
                rng.bit_generator.state = seeds[int(chain), point]
                row[:] = self._normal(rng, self.size)
            return found

        return DirectSample(variances, hits, squares, tried, solutions)

    def run(
        self,
        variance: float,
        steps: int,
        scales: NDArray[np.float64],
        rngs: list[np.random.Generator],
        white: NDArray[np.floating],
        survivors: NDArray[np.floating],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Make slice steps of every chain; see :class:`message_passing.sampler.Sampler`."""
        survivals = np.zeros((len(rngs), 2, len(scales)))
        squares = np.zeros((len(rngs), 2, 2))
        root = math.sqrt(variance)
        walks = [
            self._walk(root, steps, scales, *chain)
            for chain in zip(rngs, white, survivors, survivals, squares, strict=True)
        ]
        questions = {walk: next(walk) for walk in walks}
        while questions:
            asking = list(questions)
            answers = self._answers(list(questions.values()))
            for walk, answer in zip(asking, answers, strict=True):
                try:
                    questions[walk] = walk.send(bool(answer))
                except StopIteration:
                    del questions[walk]
        return survivals, squares

    def _walk(
        self,
        root: float,
        steps: int,
        scales: NDArray[np.float64],
        rng: np.random.Generator,
        white: NDArray[np.floating],
        survivor: NDArray[np.floating],
        survivals: NDArray[np.float64],
        squares: NDArray[np.float64],
    ) -> Generator[Question, bool, None]:
        """One chain, as a generator that yields questions and receives the answers."""
        halves = ((steps + 1) // 2, steps // 2)
        between = STATES_BETWEEN if len(scales) > 2 else 1
        for half, length in enumerate(halves):
            looks = -(-length // between)
            for left in reversed(range(length)):
                for block in self.blocks:
                    yield from self._slice(root, rng, white, block)
                square = _square(white)
                squares[half] += np.array([square, square**2]) / length
                if left % between:
                    continue
                for s, scale in enumerate(scales):
                    if scale == 1.0 or (yield root * scale, white):
                        survivals[half, s] += 1.0 / looks
                        if s == 0:
                            survivor[:] = white

    def _slice(
        self,
        root: float,
        rng: np.random.Generator,
        white: NDArray[np.floating],
        block: NDArray[np.int64],
    ) -> Generator[Question, bool, None]:
        """Move one block of one chain."""
        before, fresh = white[block], self._normal(rng, len(block))
        proposal = white.copy()
        angle = rng.uniform(0.0, 2.0 * math.pi)
        low, high = angle - 2.0 * math.pi, angle
        for _ in range(MOST_REFUSALS):
            cosine, sine = self.dtype.type(math.cos(angle)), self.dtype.type(math.sin(angle))
            proposal[block] = cosine * before + sine * fresh
            if (yield root, proposal):
                white[:] = proposal
                return
            low, high = (angle, high) if angle < 0 else (low, angle)
            angle = rng.uniform(low, high)

    def _normal(self, rng: np.random.Generator, size: int) -> NDArray[np.floating]:
        return rng.standard_normal(size, dtype=self.dtype)

    def _answers(self, questions: Sequence[Question]) -> NDArray[np.bool_]:
        answers = []
        for first in range(0, len(questions), self.at_once):
            together = questions[first : first + self.at_once]
            offsets = np.empty((len(together), self.size), dtype=self.dtype)
            for row, (scale, white) in zip(offsets, together, strict=True):
                np.multiply(white, self.dtype.type(scale), out=row)
            answers.append(self.allowed(offsets))
        return np.concatenate(answers)


def _square(white: NDArray[np.floating]) -> float:
    """|z|² in double precision."""
    return float(np.square(white, dtype=np.float64).sum())
