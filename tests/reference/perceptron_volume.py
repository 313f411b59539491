"""Replica-symmetric volumes of the spherical perceptron, κ = 0, P = αN independent patterns.

**Random labels** (Gardner 1988). Signs do not depend on norms. For Δ → ∞ the reference drops out,
and Z is the fraction of the sphere that is right on all patterns,

    log Z/N = extr_q { ½ log(1−q) + ½ q/(1−q) + α ∫Dt log H(−t √(q/(1−q))) },   H(x) = Φ(−x).

**Labels of the reference** itself, at any Δ. A solution is w′ = w + v with R = v·w/N. The v of two
solutions overlap by a² + R², and |v|²/N = V + a² + R². If the reference has the preactivation
u > 0 on a pattern, the solution has (1+R)u + at + √V s, and

    φ = ½ log(V/Δ) + a²/(2V) − (V + a² + R²)/(2Δ) + ½ + 2α ∫_{u>0}Du ∫Dt log Φ(ω/√V),
    ω = (1+R)u + at,      r = (V + a² + R²)/Δ.

With g = ∂ log Φ/∂ω and γ = ∂g/∂ω, φ is stationary where

    1/V = 1/Δ − α⟨γ⟩,     a² = V² α⟨g²⟩,     R = V α(⟨g u⟩ − R⟨γ⟩).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_ndtr

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(61)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def volume_with_random_labels(alpha):
    """log Z/N for Δ → ∞."""
    return _saddle_with_random_labels(alpha).fun


def overlap_with_random_labels(alpha):
    """q, the overlap of two solutions, for Δ → ∞."""
    return _saddle_with_random_labels(alpha).x


def _saddle_with_random_labels(alpha):
    """The extremum in q is a minimum."""

    def free_entropy(q):
        energy = WEIGHTS @ log_ndtr(NODES * np.sqrt(q / (1 - q)))
        return 0.5 * np.log(1 - q) + 0.5 * q / (1 - q) + alpha * energy

    return minimize_scalar(free_entropy, bounds=(0, 0.999), method="bounded")


def volume_around_the_teacher(alpha, variance):
    """φ and r for the labels of the reference."""
    u, du = np.polynomial.legendre.leggauss(80)
    u = 5 * (u[:, None] + 1)
    measure = 5 * du[:, None] * 2 * np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi) * WEIGHTS
    state = np.array([variance, 0.1 * np.sqrt(variance), 0.0])
    for _ in range(5000):
        V, a, R = state
        omega = (1 + R) * u + a * NODES
        z = omega / np.sqrt(V)
        g = np.exp(-(z**2) / 2 - log_ndtr(z)) / np.sqrt(2 * np.pi * V)
        gamma = -(g**2) - g * omega / V
        mean_gamma = np.sum(measure * gamma)
        new = np.array(
            [
                1 / (1 / variance - alpha * mean_gamma),
                V * np.sqrt(alpha * np.sum(measure * g**2)),
                V * alpha * (np.sum(measure * g * u) - R * mean_gamma),
            ]
        )
        if np.abs(new - state).max() < 1e-11 * variance:
            break
        state = 0.5 * (state + new)
    else:
        raise ArithmeticError("the saddle point was not found.")
    square = V + a**2 + R**2
    phi = 0.5 * np.log(V / variance) + a**2 / (2 * V) - square / (2 * variance) + 0.5
    return phi + alpha * np.sum(measure * log_ndtr(z)), square / variance
