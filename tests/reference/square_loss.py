"""The square loss in closed form: the twin of the replica-symmetric solver."""

from __future__ import annotations

from typing import Literal

import numpy as np

from committee.gaussian_mixture.losses import get_loss
from committee.gaussian_mixture.samples import check_parameters
from committee.gaussian_mixture.state import ReplicaSymmetricState, make_state


def square_closed_form(
    alpha: float,
    delta: float,
    ridge: float,
    rho: float = 0.5,
    bias: Literal["train"] | None = None,
) -> ReplicaSymmetricState:
    """The square loss in closed form.

    ``V = 2/(B + √(B² + 4λΔ))``, B = λ + (α−1)Δ; with c = αVs/(1+ΔV), s = 1 without bias and
    1 − (2ρ−1)² with it: m = c/(1+c), b = (2ρ−1)(1−m) or 0, and
    q = [m² + αΔV²s(1−m)²/(1+ΔV)²] / [1 − αΔ²V²/(1+ΔV)²].
    """
    check_parameters(alpha, delta, rho)
    B = ridge + (alpha - 1.0) * delta
    if ridge < 0 or (ridge == 0 and alpha <= 1):
        raise ValueError(f"ridge is {ridge}; a ridge > 0 was expected (= 0 only for α > 1).")
    V = 2.0 / (B + np.sqrt(B * B + 4.0 * ridge * delta))
    D = delta * V
    imbalance = 2.0 * rho - 1.0
    s = 1.0 - imbalance**2 if bias == "train" else 1.0
    c = alpha * V * s / (1.0 + D)
    m = c / (1.0 + c)
    b = imbalance * (1.0 - m) if bias == "train" else 0.0
    stability = alpha * (D / (1.0 + D)) ** 2
    q = (m * m + alpha * D * V * s * ((1.0 - m) / (1.0 + D)) ** 2) / (1.0 - stability)
    return make_state(get_loss("square"), alpha, delta, rho, ridge, (m, q, V, b), stability, 0.0, 0)
