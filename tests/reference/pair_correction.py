"""Second-order correction of the engine "ep" by pairs of patterns.

Θ_μ is 1 if pattern μ is right, else 0. Site s_μ is scaled to the evidence Z_μ; q is the posterior:

    Z / Z_EP = ⟨Π_μ F_μ⟩_q,   F_μ = Θ_μ / s_μ,   log Z ≈ log Z_EP + Σ_{μ<ν} log ⟨F_μ F_ν⟩_q,

after Opper, Paquet & Winther (JMLR 14, 2013). ⟨F_μ F_ν⟩ = ⟨Θ_μ Θ_ν⟩ / ⟨s_μ s_ν⟩ in the cavity of
both patterns. There the units are independent, and each has two Gaussian preactivations, so the
numbers of right units on both patterns are counted exactly. A single pair is exact. For patterns
in groups the sum over pairs goes too far; triples would take part of it back.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, owens_t

from message_passing.output_node import Majority

#: Patterns below this probability of being wrong are left out.
SURELY_RIGHT = 1e-5


def pair_correction(problem, variance, sites):
    """Σ_{μ<ν} log ⟨F_μ F_ν⟩ at the sites (K, P) of the engine "ep". Add it to log Z."""
    lam, nu = sites
    C, one = variance * problem.geometry.gram, np.eye(lam.shape[1])
    Sigma = np.array([C @ np.linalg.inv(one + row[:, None] * C) for row in lam])
    mean = np.einsum("kpq,kq->kp", Sigma, nu)
    diagonal = np.einsum("kpp->kp", Sigma)
    single = [array[..., None] for array in (mean, nu, lam)]
    c, V, log_site = _cavity(*single[:2], single[2], diagonal[..., None, None])
    log_right = (
        Majority()
        .moments(problem.preactivations + c[..., 0], V[..., 0, 0], problem.labels)
        .log_evidence
    )
    log_scale = log_right - log_site.sum(axis=0)  # of the sites
    active = np.flatnonzero(-np.expm1(log_right) > SURELY_RIGHT)
    first, second = (active[i] for i in np.triu_indices(len(active), 1))
    pairs = np.stack([first, second], axis=-1)  # (M, 2)
    block = Sigma[:, pairs[:, :, None], pairs[:, None, :]]  # (K, M, 2, 2)
    c, V, log_site = _cavity(mean[:, pairs], nu[:, pairs], lam[:, pairs], block)
    labels = problem.labels[pairs]
    spread = np.sqrt(np.einsum("kmii->kmi", V))
    z = labels * (problem.preactivations[:, pairs] + c) / spread
    correlation = labels.prod(axis=-1) * V[..., 0, 1] / spread.prod(axis=-1)
    log_both = np.log(_both_right(z[..., 0], z[..., 1], correlation))
    return np.sum(log_both - log_site.sum(axis=0) - log_scale[first] - log_scale[second])


def _cavity(m, n, lam, S):
    """Cavity c, V of sites exp(n·v − ½ v·λv) in the posterior m, S; log ⟨sites⟩ in the cavity."""
    one = np.eye(S.shape[-1])
    inner = one - S * lam[..., None, :]
    V = np.linalg.solve(inner, S)
    c = np.linalg.solve(inner, (m - np.einsum("...ij,...j->...i", S, n))[..., None])[..., 0]
    outer = one + lam[..., :, None] * V
    pull = np.linalg.solve(outer, (lam * c - n)[..., None])[..., 0]
    log_site = 0.5 * (np.sum(n * m - c * pull, axis=-1) - np.linalg.slogdet(outer)[1])
    return c, V, log_site


def _both_right(z1, z2, correlation):
    """P[most units right on both patterns] (M,) from standardised margins (K, M)."""
    K, M = z1.shape
    a, b, both = ndtr(z1), ndtr(z2), _bivariate_cdf(z1, z2, correlation)
    counts = np.zeros((K + 1, K + 1, M))
    counts[0, 0] = 1.0
    for k in range(K):
        new = counts * np.maximum(1.0 - a[k] - b[k] + both[k], 0.0)
        new[1:] += counts[:-1] * np.maximum(a[k] - both[k], 0.0)
        new[:, 1:] += counts[:, :-1] * np.maximum(b[k] - both[k], 0.0)
        new[1:, 1:] += counts[:-1, :-1] * both[k]
        counts = new
    need = (K + 1) // 2
    return counts[need:, need:].sum(axis=(0, 1))


def _bivariate_cdf(h, k, correlation):
    """P[x < h, y < k] of standard normals with a correlation, by Owen's T function."""
    r = np.clip(correlation, -1 + 1e-12, 1 - 1e-12)
    h, k = (np.where(value == 0, 1e-300, value) for value in (h, k))
    root = np.sqrt(1 - r**2)
    return (
        0.5 * (ndtr(h) + ndtr(k) - (h * k < 0))
        - owens_t(h, (k - r * h) / (h * root))
        - owens_t(k, (h - r * k) / (k * root))
    )
