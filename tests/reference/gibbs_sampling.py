"""Gibbs sampling of single weights: another way to sample the solutions around a reference.

Given all other weights, w_ki is a Gaussian restricted to values with at most E wrong patterns. The
obvious sweep comes first, then a compiled one for machines of full size.

Unit k decides the output of a pattern only if (K−1)/2 of the other units are wrong. Such a pattern
is wrong on one side of a bound on w_ki. At most E errors leave a union of intervals (a, b), in
units of √Δ from the reference, with Gaussian mass M. A draw outside them is repeated. After many
misses the weight stays. This keeps the distribution, because M does not depend on w_ki.

A sweep does not record z_ki² but its mean given all other weights,

    ⟨z²⟩ = 1 + Σ (a e^(−a²/2) − b e^(−b²/2)) / (√(2π) M).

It is 1 for every weight far from all bounds, so it is nearly free of noise.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

#: Bounds farther away than this, in units of √Δ, cut off a mass of 1e-15.
FARTHEST = 8.0
MOST_DRAWS = 1000


def gibbs_sweep(state, centre, patterns, labels, variance, rng, errors=0):
    """One sweep over all weights (K, N), in place: draw each until it is allowed."""
    K, N = state.shape
    fields = state @ patterns.T
    for k in range(K):
        for i in range(N):
            rest = fields[k] - patterns[:, i] * state[k, i]
            while True:
                state[k, i] = centre[k, i] + np.sqrt(variance) * rng.standard_normal()
                fields[k] = rest + patterns[:, i] * state[k, i]
                positive = np.sum(fields >= 0, axis=0)
                if np.sum((2 * positive > K) != (labels > 0)) <= errors:
                    break


def displacement(weights, patterns, labels, variance, sweeps, seed, errors=0, burn_in=0.2):
    """r = ⟨‖w′−w‖²⟩/(KNΔ) and its standard error (20 batch means), started at the reference."""
    N = weights.shape[1]
    centre = weights * np.sqrt(N) / np.linalg.norm(weights, axis=1, keepdims=True)
    values = run_sweeps(
        centre.copy(),
        centre,
        np.ascontiguousarray(patterns.T),
        labels,
        variance,
        errors,
        sweeps,
        np.random.default_rng(seed),
    )
    kept = values[int(burn_in * sweeps) :]
    batches = kept[len(kept) % 20 :].reshape(20, -1).mean(axis=1)
    return batches.mean(), batches.std(ddof=1) / np.sqrt(20)


@njit(cache=True)
def run_sweeps(state, centre, columns, labels, variance, errors, sweeps, rng):
    """Sweep over all weights (K, N) in place; return ⟨z²⟩ per sweep. ``columns`` is Xᵀ (N, P)."""
    (K, N), P = state.shape, columns.shape[1]
    root = math.sqrt(variance)
    values = np.zeros(sweeps)
    events = np.empty(P)
    changes = np.empty(P, dtype=np.int64)
    low, high = np.empty(P + 1), np.empty(P + 1)
    for sweep in range(sweeps):
        fields = np.dot(state, columns)
        for k in range(K):
            allowed = errors
            decisive = np.zeros(P, dtype=np.bool_)
            for mu in range(P):
                others = 0
                for j in range(K):
                    if j != k and (fields[j, mu] >= 0) != (labels[mu] > 0):
                        others += 1
                decisive[mu] = others == (K - 1) // 2
                if others > (K - 1) // 2:
                    allowed -= 1
            chosen = np.flatnonzero(decisive)
            for i in range(N):
                # Count the wrong patterns at −FARTHEST, and list the bounds where that changes.
                wrong, found = 0, 0
                here = (state[k, i] - centre[k, i]) / root
                for mu in chosen:
                    slope = labels[mu] * columns[i, mu]
                    margin = labels[mu] * fields[k, mu]
                    if slope == 0:
                        wrong += margin < 0
                        continue
                    bound = here - margin / (slope * root)
                    if (slope > 0) == (bound > -FARTHEST):
                        wrong += 1
                    if abs(bound) < FARTHEST:
                        events[found] = bound
                        changes[found] = -1 if slope > 0 else 1
                        found += 1
                intervals, left = 0, -FARTHEST
                order = np.argsort(events[:found])
                for n in range(found + 1):
                    right = events[order[n]] if n < found else FARTHEST
                    if wrong <= allowed:
                        low[intervals], high[intervals] = left, right
                        intervals += 1
                    if n < found:
                        wrong += changes[order[n]]
                    left = right
                mass, boundary = 0.0, 0.0
                for n in range(intervals):
                    a, b = low[n], high[n]
                    if a > 0:  # both ends in the right tail: use tails, which do not cancel
                        mass += 0.5 * (math.erfc(a / math.sqrt(2)) - math.erfc(b / math.sqrt(2)))
                    else:
                        mass += 0.5 * (math.erfc(-b / math.sqrt(2)) - math.erfc(-a / math.sqrt(2)))
                    boundary += a * math.exp(-a * a / 2) - b * math.exp(-b * b / 2)
                values[sweep] += 1 + boundary / (math.sqrt(2 * math.pi) * mass)
                for _ in range(MOST_DRAWS):
                    z = rng.standard_normal()
                    inside = False
                    for n in range(intervals):
                        inside = inside or low[n] < z < high[n]
                    if inside:
                        step = centre[k, i] + root * z - state[k, i]
                        state[k, i] += step
                        for mu in range(P):
                            fields[k, mu] += step * columns[i, mu]
                        break
        values[sweep] /= K * N
    return values
