"""Expectation propagation with one K×K Gaussian site per pattern; dense and slow.

The engine "ep" has one Gaussian site per hidden unit and pattern, so its posterior treats the
units of a pattern as independent. Here pattern μ has the site exp(ν_μ·v_μ − ½ v_μ·Λ_μ v_μ), where
v_μ holds the K offsets of its preactivations:

    posterior   Σ = (C⁻¹ + Λ)⁻¹, m = Σν, with C = ΔG for each unit and Λ = diag(Λ_μ), KP × KP,
    cavity      V = Σ_μ (1 − Λ_μ Σ_μ)⁻¹,   c = (1 − Σ_μ Λ_μ)⁻¹ (m_μ − Σ_μ ν_μ),
    site        Λ_μ ← −(1 + HV)⁻¹ H,       ν_μ ← (1 + HV)⁻¹ g + Λ_μ c,

with g and H the gradient and the Hessian of log Z_μ(c, V), and

    log Z = Σ_μ log Z_μ + ½ Σ_μ ν·m − ½ log det(1 + ΛC)
            + ½ Σ_μ [log det(1 + ΛV) + c·(1 + ΛV)⁻¹(Λc − ν) − ν·m],
    KN r  = KN + Σ_μ [(ν − Λm)·m − tr ΛΣ_μ].

Z_μ is the probability that most of K correlated Gaussians are right. V splits into D + FFᵀ, where
D is the largest diagonal matrix proportional to diag(V). Given s ~ N(0, 1), the preactivations are
independent with means c + Fs, so the sum over signs is exact. The mean over s is that of a smooth
function, taken over fixed quasi-random points.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numba import njit
from scipy.linalg import lu_factor, lu_solve
from scipy.special import ndtri
from scipy.stats import qmc

from message_passing._kernels_output_node import normal_cdf
from message_passing.expectation_propagation import (
    LARGEST_GROWTH,
    MEMORY,
    ExpectationPropagation,
    Sites,
    accelerated_step,
)
from message_passing.output_node import Majority

#: The factorisation skips patterns whose sites change no variance by more than this fraction.
NEGLIGIBLE = 1e-6
#: Patterns below this probability of being wrong are treated as in the engine "ep".
SURELY_RIGHT = 1e-6
#: With this many points the error of log Z is 0.1 to 0.3 % on trained machines.
POINTS = 256


class JointSolution(NamedTuple):
    log_z: float
    displacement: float  # r
    residual: float
    sweeps: int
    sites: Sites  # Λ (P, K, K) and ν (P, K)
    covariance: np.ndarray  # Σ_μ (P, K, K)


@cache
def normal_points(K, count):
    """Quasi-random standard normal points (count, K), symmetric about the origin."""
    half = qmc.Sobol(K, seed=0).random(count // 2)
    points = ndtri(half)
    return np.concatenate([points, -points])


@njit(cache=True)
def _accumulate(label, c, D, F, points, gradient, hessian):
    """Return P[wrong] and write ∂Z/∂c, ∂²Z/∂c∂c: averages over points s with means c + Fs."""
    K = len(c)
    need = (K + 1) // 2
    p, q, w, density = np.empty(K), np.empty(K), np.empty(K), np.empty(K)
    count = np.empty(K + 1)
    wrong = 0.0
    gradient[:] = 0.0
    hessian[:] = 0.0
    for s in points:
        for k in range(K):
            w[k] = c[k]
            for j in range(K):
                w[k] += F[k, j] * s[j]
            z = label * w[k] / math.sqrt(D[k])
            p[k], q[k] = normal_cdf(z), normal_cdf(-z)
            density[k] = label * math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi * D[k])
        _count(p, q, -1, -1, count)
        for n in range(need):
            wrong += count[n]
        for k in range(K):
            _count(p, q, k, -1, count)
            slope = density[k] * count[need - 1]
            gradient[k] += slope
            hessian[k, k] -= w[k] / D[k] * slope
            for l in range(k):
                _count(p, q, k, l, count)
                both = -count[need - 1] + (count[need - 2] if need > 1 else 0.0)
                hessian[k, l] += density[k] * density[l] * both
    gradient /= len(points)
    hessian /= len(points)
    for k in range(K):
        for l in range(k):
            hessian[l, k] = hessian[k, l]
    return wrong / len(points)


@njit(cache=True)
def _count(p, q, k, l, count):
    """Distribution of the number of right units among all but k and l."""
    count[:] = 0.0
    count[0] = 1.0
    for j in range(len(p)):
        if j != k and j != l:
            for n in range(len(p), 0, -1):
                count[n] = count[n] * q[j] + count[n - 1] * p[j]
            count[0] *= q[j]


def correlated_majority(c, V, label, points):
    """log Z, its gradient (K,) and its Hessian (K, K) for preactivations ~ N(c, V)."""
    scale = np.sqrt(np.diag(V))
    alone = Majority().moments(c[:, None], np.diag(V)[:, None].copy(), np.array([label]))
    if -math.expm1(alone.log_evidence[0]) < SURELY_RIGHT:
        return alone.log_evidence[0], alone.gradient[:, 0], np.diag(alone.curvature[:, 0])
    values, vectors = np.linalg.eigh(V / np.outer(scale, scale))
    least = values[0]
    # The symmetric root is continuous in V; the eigenvectors alone are not.
    root = (vectors * np.sqrt(values - least)) @ vectors.T
    F = scale[:, None] * root
    if values[-1] - least < 1e-9:
        points = points[:1] * 0.0
    gradient, hessian = np.empty(len(c)), np.empty((len(c), len(c)))
    wrong = _accumulate(label, c, least * scale**2, F, points, gradient, hessian)
    Z = 1.0 - wrong
    gradient /= Z
    return math.log1p(-wrong), gradient, hessian / Z - np.outer(gradient, gradient)


def evaluate(problem, variance, sites, points):
    """New sites, residual, log Z, KN(r − 1) and Σ_μ; None if the sites are no distribution."""
    Lam, nu = sites
    P, K = nu.shape
    C = variance * problem.geometry.gram
    active = np.flatnonzero(np.abs(Lam).max(axis=(1, 2)) * np.diag(C) > NEGLIGIBLE)
    A = len(active)
    # M = (1 + ΛC)⁻¹ Λ on the active patterns, indices (pattern, unit)
    inner = np.einsum("akl,ab->akbl", Lam[active], C[np.ix_(active, active)])
    inner = inner.reshape(A * K, A * K) + np.eye(A * K)
    block = np.zeros((A, K, A, K))
    block[np.arange(A), :, np.arange(A)] = Lam[active]
    lu = lu_factor(inner)
    pivots = np.diag(lu[0])
    swaps = np.count_nonzero(lu[1] != np.arange(A * K))
    if np.any(pivots == 0) or (np.count_nonzero(pivots < 0) + swaps) % 2:
        return None
    M = lu_solve(lu, block.reshape(A * K, A * K)).reshape(A, K, A, K)
    prior_mean = C @ nu
    mean = prior_mean - C[:, active] @ np.einsum("akbl,bl->ak", M, prior_mean[active])
    Sigma = np.zeros((P, K, K))
    for k in range(K):
        Sigma[:, k, k] = np.diag(C)
        for l in range(K):
            Sigma[:, k, l] -= np.sum((C[:, active] @ M[:, k, :, l]) * C[:, active], axis=1)
    Sigma = 0.5 * (Sigma + np.swapaxes(Sigma, 1, 2))
    log_z = -0.5 * np.sum(np.log(np.abs(pivots)))
    excess, residual = 0.0, 0.0
    new = Sites(np.empty_like(Lam), np.empty_like(nu))
    one = np.eye(K)
    for mu in range(P):
        L, n, S, m = Lam[mu], nu[mu], Sigma[mu], mean[mu]
        V = np.linalg.solve(one - S @ L, S)
        V = 0.5 * (V + V.T)
        if np.linalg.eigvalsh(V)[0] <= 0 or np.linalg.eigvalsh(S)[0] <= 0:
            return None
        c = np.linalg.solve(one - S @ L, m - S @ n)
        log_right, g, H = correlated_majority(
            problem.preactivations[:, mu] + c, V, problem.labels[mu], points
        )
        left = one + H @ V
        new.precision[mu] = -np.linalg.solve(left, H)
        new.precision[mu] = 0.5 * (new.precision[mu] + new.precision[mu].T)
        new.shift[mu] = np.linalg.solve(left, g) + new.precision[mu] @ c
        scale = np.sqrt(np.diag(V))
        change = np.outer(scale, scale) * (new.precision[mu] - L)
        residual = max(residual, np.abs(change).max(), np.abs(scale * (new.shift[mu] - n)).max())
        broadened = one + L @ V
        log_z += log_right + 0.5 * (
            np.linalg.slogdet(broadened)[1] + c @ np.linalg.solve(broadened, L @ c - n)
        )
        excess += (n - L @ m) @ m - np.sum(L * S)
    return new, residual, log_z, excess, Sigma


def solve(
    problem, variance, start=None, damping=0.3, tolerance=1e-4, max_sweeps=100, points=POINTS
):
    """Solve at Δ from ``start``, or from the sites of the engine "ep", with its mixing."""
    K, P = problem.preactivations.shape
    if start is None:
        plain, _ = ExpectationPropagation().solve(problem, variance, [])
        start = Sites(np.zeros((P, K, K)), plain.shift.T.copy())
        start.precision[:, np.arange(K), np.arange(K)] = plain.precision.T
    grid = normal_points(K, points)
    state = evaluate(problem, variance, start, grid)
    if state is None:  # zero sites are always valid
        start = Sites(np.zeros((P, K, K)), np.zeros((P, K)))
        state = evaluate(problem, variance, start, grid)
    best = (start, state)
    history, step, sweeps = [(start, best[1][0])], 1.0 - damping, 1
    while best[1][1] >= tolerance and sweeps < max_sweeps:
        trial = accelerated_step(history, variance, step)
        found = evaluate(problem, variance, trial, grid)
        sweeps += 1
        if found is None or found[1] > LARGEST_GROWTH * best[1][1]:
            step *= 0.5
            history = [(best[0], best[1][0])]
            continue
        history = [*history[1 - MEMORY :], (trial, found[0])]
        if found[1] < best[1][1]:
            best = (trial, found)
            step = min(1.0 - damping, 1.1 * step)
    sites, (_, residual, log_z, excess, Sigma) = best
    return JointSolution(log_z, 1 + excess / problem.size, residual, sweeps, sites, Sigma)
