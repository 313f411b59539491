"""The Franz–Parisi potential as a function of its overlaps: replica formula, plain quadrature.

The weights w lie around a reference w̃ of norm 1. Two of them overlap by p, one with itself by
p + V. They overlap with w̃ by t1, with another reference on the same patterns by t0, and with the
teacher u* by m. Two references overlap by q, each with u* by R. For n → 0 replicas of w̃,

    log det of w's overlaps given the others = log V + ρ/V,
    ρ = p − m² − B (t1' + t0' − q'B),   B = (t1 − t0)/(1 − q),   x' = x − (its part along u*),

    φ = ½ log(V/Δ) + ρ/(2V) + ½ − (V + p − 2 t1 + 1)/(2Δ) + α⟨log Φ(ω/√V)⟩,

where ω is Gaussian of variance p. Its covariances with a pattern's preactivations are t1, t0, m.
"""

from __future__ import annotations

import numpy as np
from scipy.special import log_ndtr, ndtr

X, W = np.polynomial.legendre.leggauss(160)


def normal_nodes(low, high):
    """Nodes and weights of ∫Dx over an interval."""
    x = 0.5 * (high + low) + 0.5 * (high - low) * X
    return x, 0.5 * (high - low) * W * np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)


def potential(alpha, variance, q, kappa, overlaps):
    """φ for random labels and a typical reference of margin κ. ``overlaps`` are V, p, t1, t0."""
    V, p, t1, t0 = overlaps
    B = (t1 - t0) / (1 - q)
    rho = p - B * (t1 + t0 - q * B)
    phi = 0.5 * np.log(V / variance) + rho / (2 * V) + 0.5 - (V + p - 2 * t1 + 1) / (2 * variance)
    z0, w0 = normal_nodes(-8, 8)
    xi, w_xi = np.polynomial.hermite_e.hermegauss(60)
    w_xi = w_xi / w_xi.sum()
    rest = np.sqrt(p - t0**2 / q - (t1 - t0) ** 2 / (1 - q))
    energy = 0.0
    for z, weight in zip(z0, w0, strict=True):
        wall = (kappa - np.sqrt(q) * z) / np.sqrt(1 - q)
        z1, w1 = normal_nodes(max(wall, -8), max(wall, 0) + 8)
        omega = t0 / np.sqrt(q) * z + (t1 - t0) / np.sqrt(1 - q) * z1[:, None] + rest * xi
        energy += weight * (w1 @ log_ndtr(omega / np.sqrt(V)) @ w_xi) / ndtr(-wall)
    return phi + alpha * energy
