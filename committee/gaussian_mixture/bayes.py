"""Errors of linear classifiers on the mixture, and the best one that data can give.

The error of a classifier sign(w·x/√N + b) depends on two numbers only: its overlap with the
centre, R = w·v*/(‖w‖√N), and its bias in units of the weights' length, b̄ = b√N/‖w‖:

    ε = ρ Q((R + b̄)/√Δ) + (1−ρ) Q((R − b̄)/√Δ),      Q(x) = P(z > x), z standard normal.

The posterior of v* depends on the data only through their mean u = (1/P) Σ y x. So Hebb's rule,
w ∝ u, has the direction of the posterior mean, and *any* estimator made from the data has

    R(w) = R_BO cos(w, u),      R_BO = (1 + Δ/α)^(−1/2)              (N → ∞).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from committee.gaussian_mixture.samples import check_parameters


def overlap_error(
    overlap: ArrayLike, delta: float, bias: ArrayLike = 0.0, rho: float = 0.5
) -> NDArray[np.float64] | np.float64:
    """Error of a classifier with overlap R and bias b̄ (in units of the weights' length).

    ``ε = ρ Q((R + b̄)/√Δ) + (1−ρ) Q((R − b̄)/√Δ)``; arrays are broadcast.
    """
    check_parameters(1.0, delta, rho)
    R, b = np.asarray(overlap, dtype=float), np.asarray(bias, dtype=float)
    scale = np.sqrt(delta)
    return rho * ndtr(-(R + b) / scale) + (1.0 - rho) * ndtr(-(R - b) / scale)


def best_bias(overlap: ArrayLike, delta: float, rho: float = 0.5) -> NDArray | np.float64:
    """Bias b̄ = (Δ/2R) ln(ρ/(1−ρ)) of least error at overlap R > 0, for unit-length weights."""
    check_parameters(1.0, delta, rho)
    R = np.asarray(overlap, dtype=float)
    if np.any(R <= 0):
        raise ValueError(f"overlap is {np.min(R):g}; a positive overlap was expected.")
    return delta / (2.0 * R) * np.log(rho / (1.0 - rho))


def bayes_overlap(alpha: float, delta: float) -> float:
    """R_BO = (1 + Δ/α)^(−1/2): the overlap of Hebb's rule, the largest that data can give."""
    check_parameters(alpha, delta)
    return float(1.0 / np.sqrt(1.0 + delta / alpha))


def bayes_error(alpha: float, delta: float, rho: float = 0.5) -> float:
    """Least error of any estimator that sees α N patterns ([M20]).

    ``ρ Q((q0+b*)/√(Δq0)) + (1−ρ) Q((q0−b*)/√(Δq0))``, q0 = α/(α+Δ), b* = (Δ/2) ln(ρ/(1−ρ));
    balanced: Q(√(α/(Δ(α+Δ)))).
    """
    R = bayes_overlap(alpha, delta)
    return float(overlap_error(R, delta, best_bias(R, delta, rho), rho))


def oracle_error(delta: float, rho: float = 0.5) -> float:
    """Least error if the centre v* is known: the limit α → ∞ of :func:`bayes_error`."""
    return float(overlap_error(1.0, delta, best_bias(1.0, delta, rho), rho))


def hebb_error_under_noise(
    sigmas: ArrayLike, alpha: float, delta: float, bias: float = 0.0, rho: float = 0.5
) -> NDArray[np.float64] | np.float64:
    """E_σ of Hebb's rule. Its normalised margins are N(√((α+Δ)/(αΔ)), 1), widened by σ.

    ``E_σ = Q(√((α+Δ)/(αΔ)) / √(1+σ²))``. A bias b̄, in units of the weights' length, shifts the
    margins of the two classes by ±b̄/√Δ.
    """
    check_parameters(alpha, delta, rho)
    width = np.sqrt(1.0 + np.asarray(sigmas, dtype=float) ** 2)
    mean, shift = np.sqrt((alpha + delta) / (alpha * delta)), bias / np.sqrt(delta)
    return rho * ndtr(-(mean + shift) / width) + (1.0 - rho) * ndtr(-(mean - shift) / width)


def error_from_mean_margin(
    mean_margin: ArrayLike, alpha: float, delta: float
) -> NDArray[np.float64] | np.float64:
    """Error ε = Q(κ̄ α/(α+Δ)) of *any* classifier made from balanced data, without bias.

    κ̄ is the mean normalised margin on the training patterns, κ = y w·x √N/(‖w‖ ‖x‖), as given
    by :func:`normalised_margins`. The formula follows from R = R_BO cos(w, u) and κ̄ = ŵ·u/√Δ. So
    the estimator with the larger mean margin generalises better.
    """
    check_parameters(alpha, delta)
    return ndtr(-np.asarray(mean_margin, dtype=float) * alpha / (alpha + delta))
