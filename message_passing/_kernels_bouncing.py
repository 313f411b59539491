"""Compiled kernels of the Monte Carlo engine for one hidden unit: exact Hamiltonian dynamics.

The white state z moves as z cos t + p sin t, with a fresh standard normal p. This motion keeps the
Gaussian invariant. The momentum p is reflected where the state would make one error too many. The
offsets v = √Δ F z of the patterns move on ellipses. A reflection at pattern μ adds a multiple of
column μ of the Gram matrix to their velocities, so a bounce costs one pass over the patterns.
Nothing is rejected (Pakman and Paninski, J. Comput. Graph. Stat. 23, 518, 2014).

**Why not slices.** With P walls around the state, an arc of an ellipse is about 1/P radian long,
and an independent state takes about P² arcs. A quarter turn takes about P bounces and makes one.
"""

from __future__ import annotations

import math

import numpy as np

from message_passing.tools.compiled import compiled

#: Number of trajectories with a common matrix product for their fresh draws.
AHEAD = 16
#: Bounces per pattern at which a trajectory is undone: rounding has trapped it in a corner.
MOST_BOUNCES = 200


@compiled
def rotate(position, velocity, angle):
    """Move position and velocity along their ellipse, in place."""
    cosine, sine = math.cos(angle), math.sin(angle)
    for i in range(len(position)):
        x, v = position[i], velocity[i]
        position[i] = cosine * x + sine * v
        velocity[i] = cosine * v - sine * x


@compiled
def first_hits(position, velocity, centre, side, hits):
    """tan(t/2) at which each u = centre + position cos t + velocity sin t is first zero.

    ``side`` is the sign of u at t = 0. ``hits`` is infinite if there is no zero before t = π.
    """
    for mu in range(len(hits)):
        sign = side[mu]
        a = sign * position[mu]
        b = sign * velocity[mu]
        f = sign * centre[mu]
        gap = max(f + a, 0.0)
        square = b * b + (a - f) * (a + f)
        below = math.sqrt(max(square, 0.0)) - b
        reached = square >= 0.0 and below > 0.0
        hits[mu] = gap / below if reached else math.inf


@compiled
def trajectory(centre, gram, allowed, length, position, velocity, side, wrong, hits, kicks):
    """Move u = centre + position (P,) for the time ``length`` < π, in place.

    All arrays are multiplied by the labels, so u < 0 is an error. ``side`` holds the signs of u,
    ``wrong`` is the number of errors. A bounce at pattern μ and time t adds δ (−sin t, cos t) to
    ``kicks`` (2, P): the changes of z and p along row μ of F, referred to t = 0, times √Δ. Returns
    the number of errors at the end, and whether the end was reached.
    """
    P = len(centre)
    time = 0.0
    last = -1
    for _ in range(MOST_BOUNCES * P):
        first_hits(position, velocity, centre, side, hits)
        if last >= 0:
            # This pattern is at zero now. It returns there at tan(t/2) = −velocity/centre.
            back = -velocity[last] / centre[last] if centre[last] != 0.0 else math.inf
            hits[last] = back if back > 0.0 else math.inf
        wall = 0
        for mu in range(1, P):
            if hits[mu] < hits[wall]:
                wall = mu
        step = 2.0 * math.atan(hits[wall])
        ends = time + step >= length
        if ends:
            step = length - time
        rotate(position, velocity, step)
        if ends:
            return wrong, True
        time += step
        last = wall
        position[wall] = -centre[wall]
        if side[wall] < 0.0:
            side[wall] = 1.0
            wrong -= 1
        elif wrong < allowed:
            side[wall] = -1.0
            wrong += 1
        else:
            kick = -2.0 * velocity[wall] / gram[wall, wall]
            for mu in range(P):
                velocity[mu] += kick * gram[wall, mu]
            kicks[0, wall] -= kick * math.sin(time)
            kicks[1, wall] += kick * math.cos(time)
    return wrong, False


@compiled
def bouncing_steps(preactivations, labels, factor, gram, variance, allowed, white, rng, squares):
    """Make one quarter turn of one chain for each entry of ``squares``.

    ``factor`` is Fᵀ (R, P), ``gram`` is F Fᵀ (P, P), ``preactivations`` (1, P) are the reference's
    pre-activations. At most ``allowed`` patterns are wrong. ``white`` (1, R) is the state and
    changes in place. ``squares`` receives |white|² after each step.
    """
    P, R = preactivations.shape[1], factor.shape[0]
    root = math.sqrt(variance)
    centre = labels * preactivations[0]
    # Multiply by the labels, so that u < 0 is an error.
    signed = np.empty((P, P))
    for mu in range(P):
        for nu in range(P):
            signed[mu, nu] = gram[mu, nu] * labels[mu] * labels[nu]
    position = labels * (root * np.dot(white, factor))[0]
    side = np.where(centre + position >= 0.0, 1.0, -1.0)
    for mu in range(P):
        # Zero counts as +1, which is an error where the label is −1.
        if centre[mu] + position[mu] == 0.0 and labels[mu] < 0.0:
            side[mu] = -1.0
    wrong = int(np.sum(side < 0.0))
    hits = np.empty(P)
    start = np.empty(P)
    start_side = np.empty(P)
    for first in range(0, len(squares), AHEAD):
        count = min(AHEAD, len(squares) - first)
        noises = rng.standard_normal((count, R))
        velocities = root * np.dot(noises, factor)
        kicks = np.zeros((count, 2, P))
        moved = np.ones(count, dtype=np.bool_)
        for i in range(count):
            start[:] = position
            start_side[:] = side
            velocity = labels * velocities[i]
            wrong_before = wrong
            wrong, moved[i] = trajectory(
                centre, signed, allowed, 0.5 * math.pi, position, velocity, side, wrong, hits,
                kicks[i],
            )  # fmt: skip
            if not moved[i]:
                position[:] = start
                side[:] = start_side
                wrong = wrong_before
        # After a quarter turn the state is the initial momentum plus its kicks.
        for i in range(count):
            for mu in range(P):
                kicks[i, 1, mu] *= labels[mu] / root
        momenta = noises + np.dot(np.ascontiguousarray(kicks[:, 1]), factor.T)
        for i in range(count):
            if moved[i]:
                white[0] = momenta[i]
            squares[first + i] = np.sum(white * white)
