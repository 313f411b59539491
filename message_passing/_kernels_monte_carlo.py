"""Compiled kernels of the Monte Carlo engine; see :mod:`message_passing.monte_carlo`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from message_passing.tools.compiled import compiled

TWO_PI = 2.0 * math.pi
# Sweeps whose fresh draws are made together.
SWEEPS_AHEAD = 10


@compiled
def count_errors(
    preactivations: NDArray[np.float64], offsets: NDArray[np.float64], scale: float, labels: NDArray
) -> int:
    """Patterns that the majority of signs of preactivations + scale · offsets (K, P) gets wrong."""
    K, P = preactivations.shape
    errors = 0
    for mu in range(P):
        positive = 0
        for k in range(K):
            if preactivations[k, mu] + scale * offsets[k, mu] >= 0.0:
                positive += 1
        if (2 * positive > K) != (labels[mu] > 0.0):
            errors += 1
    return errors


@compiled
def wrong_events(
    preactivations: NDArray[np.float64],
    offsets: NDArray[np.float64],
    fresh: NDArray[np.float64],
    labels: NDArray[np.float64],
    decisive: NDArray[np.bool_],
    angles: NDArray[np.float64],
    changes: NDArray[np.int64],
) -> tuple[int, int]:
    """Where the number of errors changes on the ellipse of one unit, u(θ) with θ in [0, 2π).

    u = preactivations + offsets cos θ + fresh sin θ, (P,). A ``decisive`` pattern is wrong when
    the sign of u_μ is not its label. Fills ``angles`` and ``changes`` (±1 in the number of
    errors), unsorted; both need room for 2P. Returns the number of changes, and the number of
    errors at θ = 0.
    """
    found = 0
    wrong = 0
    for mu in range(len(preactivations)):
        if not decisive[mu]:
            continue
        positive = labels[mu] > 0.0
        if (preactivations[mu] + offsets[mu] >= 0.0) != positive:
            wrong += 1
        square = offsets[mu] * offsets[mu] + fresh[mu] * fresh[mu]
        if square <= preactivations[mu] * preactivations[mu]:
            continue
        # u ≥ 0 for θ within ``half`` of ``middle``.
        middle = math.atan2(fresh[mu], offsets[mu])
        half = math.acos(-preactivations[mu] / math.sqrt(square))
        for side in range(2):
            angle = middle - half if side == 0 else middle + half
            if angle < 0.0:
                angle += TWO_PI
            if angle >= TWO_PI:
                angle -= TWO_PI
            angles[found] = angle
            changes[found] = -1 if (side == 0) == positive else 1
            found += 1
    return found, wrong


@compiled
def allowed_arcs(
    angles: NDArray[np.float64],
    changes: NDArray[np.int64],
    wrong: int,
    allowed: int,
    starts: NDArray[np.float64],
    stops: NDArray[np.float64],
) -> int:
    """Fill the arcs of [0, 2π) on which at most ``allowed`` patterns are wrong; their number."""
    order = np.argsort(angles)
    count = 0
    position = 0.0
    for event in order:
        if wrong <= allowed and angles[event] > position:
            starts[count] = position
            stops[count] = angles[event]
            count += 1
        position = angles[event]
        wrong += changes[event]
    if wrong <= allowed:
        starts[count] = position
        stops[count] = TWO_PI
        count += 1
    return count


@compiled
def slice_steps(
    preactivations: NDArray[np.float64],
    labels: NDArray[np.float64],
    factor: NDArray[np.float64],
    variance: float,
    allowed: int,
    steps: int,
    white: NDArray[np.float64],
    scales: NDArray[np.float64],
    rng: np.random.Generator,
    survivals: NDArray[np.float64],
    squares: NDArray[np.float64],
    survivor: NDArray[np.float64],
) -> None:
    """Elliptical slice sampling with exact arcs: ``steps`` sweeps over the units of one chain.

    ``factor`` is Fᵀ (R, P); ``white`` (K, R) is the state (changed in place), its offsets
    √Δ white Fᵀ. Adds up, after each sweep, whether the state scaled by each of ``scales`` (S,) is
    allowed, in ``survivals`` (2, S), and |white|² and its square in ``squares`` (2, 2): apart for
    the two halves of the steps (rows). ``survivor`` (K, R) becomes the last state that the first
    scale leaves allowed, and stays as it is without one.
    """
    K, P = preactivations.shape
    need = (K + 1) // 2
    angles = np.empty(2 * P)
    changes = np.empty(2 * P, dtype=np.int64)
    starts = np.empty(2 * P + 1)
    stops = np.empty(2 * P + 1)
    decisive = np.empty(P, dtype=np.bool_)
    proposal = np.empty(P)
    right = np.zeros(P, dtype=np.int64)  # units that are right, for each pattern
    root = math.sqrt(variance)
    offsets = root * np.dot(white, factor)
    for mu in range(P):
        for k in range(K):
            if (preactivations[k, mu] + offsets[k, mu] >= 0.0) == (labels[mu] > 0.0):
                right[mu] += 1
    ahead = min(SWEEPS_AHEAD, steps)
    noises = np.empty((ahead * K, white.shape[1]))
    freshes = np.empty((ahead * K, P))
    for step in range(steps):
        row = (step % ahead) * K
        if row == 0:  # one product for several sweeps: it is most of the work
            noises[:] = rng.standard_normal(noises.shape)
            freshes[:] = root * np.dot(noises, factor)
        noise = noises[row : row + K]
        fresh = freshes[row : row + K]
        for k in range(K):
            lost = 0  # wrong whatever this unit says
            for mu in range(P):
                is_right = (preactivations[k, mu] + offsets[k, mu] >= 0.0) == (labels[mu] > 0.0)
                others = right[mu] - 1 if is_right else right[mu]
                decisive[mu] = others == need - 1
                if others < need - 1:
                    lost += 1
            found, wrong = wrong_events(
                preactivations[k], offsets[k], fresh[k], labels, decisive, angles, changes
            )
            arcs = allowed_arcs(
                angles[:found], changes[:found], wrong, allowed - lost, starts, stops
            )
            length = 0.0
            for arc in range(arcs):
                length += stops[arc] - starts[arc]
            # Rounding at the end of an arc may miss the solutions: draw again; else stay.
            for _attempt in range(4):
                place = rng.random() * length
                angle = 0.0
                for arc in range(arcs):
                    width = stops[arc] - starts[arc]
                    if place < width:
                        angle = starts[arc] + place
                        break
                    place -= width
                cosine = math.cos(angle)
                sine = math.sin(angle)
                errors = lost
                for mu in range(P):
                    proposal[mu] = cosine * offsets[k, mu] + sine * fresh[k, mu]
                    if decisive[mu] and (preactivations[k, mu] + proposal[mu] >= 0.0) != (
                        labels[mu] > 0.0
                    ):
                        errors += 1
                if errors > allowed:
                    continue
                for mu in range(P):
                    before = (preactivations[k, mu] + offsets[k, mu] >= 0.0) == (labels[mu] > 0.0)
                    after = (preactivations[k, mu] + proposal[mu] >= 0.0) == (labels[mu] > 0.0)
                    right[mu] += int(after) - int(before)
                    offsets[k, mu] = proposal[mu]
                for i in range(white.shape[1]):
                    white[k, i] = cosine * white[k, i] + sine * noise[k, i]
                break
        half = 0 if step < steps - steps // 2 else 1
        for s in range(len(scales)):
            if count_errors(preactivations, offsets, scales[s], labels) <= allowed:
                survivals[half, s] += 1.0
                if s == 0:
                    survivor[:] = white
        square = np.sum(white * white)
        squares[half, 0] += square
        squares[half, 1] += square * square


@compiled
def direct_hits(
    preactivations: NDArray[np.float64],
    labels: NDArray[np.float64],
    draws: NDArray[np.float64],
    roots: NDArray[np.float64],
    allowed: int,
) -> NDArray[np.bool_]:
    """For draws (D, K, P) of offsets at Δ = 1: is each, times each root √Δ (S,), allowed?"""
    hits = np.empty((len(draws), len(roots)), dtype=np.bool_)
    for draw in range(len(draws)):
        for point in range(len(roots)):
            errors = count_errors(preactivations, draws[draw], roots[point], labels)
            hits[draw, point] = errors <= allowed
    return hits
