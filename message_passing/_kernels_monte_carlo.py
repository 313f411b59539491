"""Compiled kernels of the Monte Carlo engine; see :mod:`message_passing.monte_carlo`."""

from __future__ import annotations

import math

import numpy as np

from message_passing.tools.compiled import compiled

TWO_PI = 2.0 * math.pi
# The coordinates are sorted by eigenvalue of the Gram matrix. They move in three blocks: two that
# start at these shares before the end, and all before. |z|² then forgets four times as fast.
LAST_SHARES = (0.2, 0.04)
# Number of sweeps with a common matrix product for their fresh draws.
SWEEPS_AHEAD = 10
# Number of patterns between two checks of the number of errors.
PATTERNS_AT_ONCE = 64


@compiled
def is_right(preactivation, label):
    return (preactivation >= 0.0) == (label > 0.0)


@compiled
def right_units(preactivations, labels):
    """Number of right units (P,) for each pattern, from preactivations (K, P)."""
    right = np.zeros(preactivations.shape[1], dtype=np.int64)
    for row in preactivations:
        for mu in range(len(row)):
            right[mu] += is_right(row[mu], labels[mu])
    return right


@compiled
def decisive_patterns(preactivations, labels, right, K, decisive):
    """Mark in ``decisive`` (P,) the patterns that one of the K units decides.

    ``preactivations`` (P,) belong to this unit. ``right`` includes it. Returns the number of
    patterns that are wrong whatever this unit says.
    """
    lost = 0
    for mu in range(len(preactivations)):
        others = right[mu] - is_right(preactivations[mu], labels[mu])
        decisive[mu] = others == K // 2
        lost += others < K // 2
    return lost


@compiled
def is_allowed(preactivations, offsets, scale, labels, allowed):
    """Whether the signs of preactivations + scale · offsets (K, P) make at most ``allowed`` errors.

    The patterns are checked group by group until the answer is known.
    """
    K, P = preactivations.shape
    positive = np.empty(PATTERNS_AT_ONCE)
    errors = 0
    for first in range(0, P, PATTERNS_AT_ONCE):
        group = slice(first, min(first + PATTERNS_AT_ONCE, P))
        wanted = labels[group]
        positive[:] = 0.0
        for k in range(K):
            centre, offset = preactivations[k, group], offsets[k, group]
            for mu in range(len(wanted)):
                # Floats, because integers would not compile to vector instructions.
                positive[mu] += 1.0 if centre[mu] + scale * offset[mu] >= 0.0 else 0.0
        for mu in range(len(wanted)):
            errors += (2.0 * positive[mu] > K) != (wanted[mu] > 0.0)
        if errors > allowed:
            return False
    return True


@compiled
def wrong_events(preactivations, offsets, fresh, labels, decisive, angles, changes):
    """Angles θ in [0, 2π) at which the number of errors changes on the ellipse u(θ) of one unit.

    u = preactivations + offsets cos θ + fresh sin θ, (P,). A ``decisive`` pattern is wrong when
    the sign of u_μ is not its label. Fills ``angles`` and ``changes`` (±1 in the number of
    errors), unsorted. Both need room for 2P. Returns the number of changes, and the number of
    errors at θ = 0.
    """
    found = 0
    wrong = 0
    for mu in range(len(preactivations)):
        if not decisive[mu]:
            continue
        if not is_right(preactivations[mu] + offsets[mu], labels[mu]):
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
            changes[found] = -1 if (side == 0) == (labels[mu] > 0.0) else 1
            found += 1
    return found, wrong


@compiled
def allowed_arcs(angles, changes, wrong, allowed, starts, stops):
    """Fill the arcs of [0, 2π) with at most ``allowed`` wrong patterns. Returns their number."""
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
def angle_on_arcs(starts, stops, place):
    """The angle at the distance ``place`` along the arcs; 0 if rounding has left the last one."""
    for arc in range(len(starts)):
        width = stops[arc] - starts[arc]
        if place < width:
            return starts[arc] + place
        place -= width
    return 0.0


@compiled
def slice_steps(
    preactivations,
    labels,
    factor,
    variance,
    allowed,
    steps,
    white,
    scales,
    rng,
    survivals,
    squares,
    survivor,
):
    """Elliptical slice sampling with exact arcs: ``steps`` sweeps over the units of one chain.

    ``factor`` is Fᵀ (R, P). ``white`` (K, R) is the state and changes in place. Its offsets are
    √Δ white Fᵀ. Each sweep adds to the sums for its half of the steps (rows): ``survivals`` (2, S)
    counts whether the state scaled by each of ``scales`` (S,) is allowed, ``squares`` (2, 2) sums
    |white|² and |white|⁴. ``survivor`` (K, R) becomes the last state that is allowed at the first
    scale. Without such a state it is unchanged.
    """
    K, P = preactivations.shape
    R = white.shape[1]
    bounds = np.array([0, *[R - round(share * R) for share in LAST_SHARES], R])
    blocks = len(bounds) - 1
    angles = np.empty(2 * P)
    changes = np.empty(2 * P, dtype=np.int64)
    starts = np.empty(2 * P + 1)
    stops = np.empty(2 * P + 1)
    decisive = np.empty(P, dtype=np.bool_)
    proposal = np.empty(P)
    root = math.sqrt(variance)
    parts = np.empty((blocks, K, P))  # of the offsets
    for b in range(blocks):
        own = slice(bounds[b], bounds[b + 1])
        parts[b] = root * np.dot(np.ascontiguousarray(white[:, own]), factor[own])
    offsets = parts.sum(axis=0)
    right = right_units(preactivations + offsets, labels)
    ahead = min(SWEEPS_AHEAD, steps)
    noises = np.empty((ahead * K, R))
    freshes = np.empty((blocks, ahead * K, P))
    for step in range(steps):
        row = (step % ahead) * K
        if row == 0:  # one product for several sweeps, because it is most of the work
            for b in range(blocks):
                own = slice(bounds[b], bounds[b + 1])
                noise = rng.standard_normal((ahead * K, bounds[b + 1] - bounds[b]))
                noises[:, own] = noise
                freshes[b] = root * np.dot(noise, factor[own])
        for b in range(blocks):
            own = slice(bounds[b], bounds[b + 1])
            for k in range(K):
                part, fresh = parts[b, k], freshes[b, row + k]
                here = preactivations[k] + offsets[k]
                rest = offsets[k] - part
                lost = decisive_patterns(here, labels, right, K, decisive)
                found, wrong = wrong_events(
                    preactivations[k] + rest, part, fresh, labels, decisive, angles, changes
                )
                arcs = allowed_arcs(
                    angles[:found], changes[:found], wrong, allowed - lost, starts, stops
                )
                length = np.sum(stops[:arcs] - starts[:arcs])
                # Rounding at the end of an arc can miss the solutions: draw again, or else stay.
                for _attempt in range(4):
                    angle = angle_on_arcs(starts[:arcs], stops[:arcs], rng.random() * length)
                    cosine = math.cos(angle)
                    sine = math.sin(angle)
                    errors = lost
                    for mu in range(P):
                        proposal[mu] = rest[mu] + (cosine * part[mu] + sine * fresh[mu])
                        right_there = is_right(preactivations[k, mu] + proposal[mu], labels[mu])
                        errors += decisive[mu] and not right_there
                    if errors > allowed:
                        continue
                    for mu in range(P):
                        after = is_right(preactivations[k, mu] + proposal[mu], labels[mu])
                        right[mu] += int(after) - int(is_right(here[mu], labels[mu]))
                        part[mu] = proposal[mu] - rest[mu]
                    offsets[k] = proposal
                    white[k, own] = cosine * white[k, own] + sine * noises[row + k, own]
                    break
        half = 0 if step < steps - steps // 2 else 1
        for s in range(len(scales)):
            if is_allowed(preactivations, offsets, scales[s], labels, allowed):
                survivals[half, s] += 1.0
                if s == 0:
                    survivor[:] = white
        square = np.sum(white * white)
        squares[half, 0] += square
        squares[half, 1] += square * square


@compiled
def direct_hits(preactivations, labels, draws, roots, allowed):
    """Whether each draw (D, K, P) of offsets at Δ = 1, times each root √Δ (S,), is allowed."""
    hits = np.empty((len(draws), len(roots)), dtype=np.bool_)
    for draw in range(len(draws)):
        for point in range(len(roots)):
            hits[draw, point] = is_allowed(
                preactivations, draws[draw], roots[point], labels, allowed
            )
    return hits
