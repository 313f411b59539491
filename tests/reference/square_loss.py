"""The square loss in closed form, a twin of the replica-symmetric solver."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Literal

import numpy as np
from scipy.special import ndtr

from committee.gaussian_mixture.bayes import overlap_error


def square_closed_form(
    alpha: float, delta: float, ridge: float, rho: float = 0.5, bias: Literal["train"] | None = None
) -> SimpleNamespace:
    """The square loss in closed form.

    V = 2/(B + √(B² + 4λΔ)), B = λ + (α−1)Δ, c = αVs/(1+ΔV), m = c/(1+c),
    q = [m² + αΔV²s(1−m)²/(1+ΔV)²] / [1 − αΔ²V²/(1+ΔV)²].
    A trained bias has s = 1 − (2ρ−1)² and b = (2ρ−1)(1−m). Otherwise s = 1 and b = 0.
    """
    B = ridge + (alpha - 1.0) * delta
    V = 2.0 / (B + np.sqrt(B * B + 4.0 * ridge * delta))
    D = delta * V
    imbalance = 2.0 * rho - 1.0
    s = 1.0 - imbalance**2 if bias == "train" else 1.0
    c = alpha * V * s / (1.0 + D)
    m = c / (1.0 + c)
    b = imbalance * (1.0 - m) if bias == "train" else 0.0
    stability = alpha * (D / (1.0 + D)) ** 2
    q = (m * m + alpha * D * V * s * ((1.0 - m) / (1.0 + D)) ** 2) / (1.0 - stability)
    margins = (-D - m - b) / np.sqrt(delta * q), (-D - m + b) / np.sqrt(delta * q)
    return SimpleNamespace(
        m=m,
        q=q,
        V=V,
        bias=b,
        overlap=m / np.sqrt(q),
        error=overlap_error(m / np.sqrt(q), delta, b / np.sqrt(q), rho),
        training_error=rho * ndtr(margins[0]) + (1.0 - rho) * ndtr(margins[1]),
        stability=stability,
    )
