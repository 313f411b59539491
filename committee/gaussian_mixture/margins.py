"""Averages over the margins of the training patterns, replica symmetric.

A fresh pattern of label y has the margin ``h = m + yb + √(Δq) ξ``, ξ standard normal. Once it is
learnt, its margin is ``v = argmin_x [ℓ(x) + (x − h)²/(2D)]``, D = ΔV. An average over the training
patterns is a sum over the quadrature nodes of this module. The kinks and bends of the loss are on
the borders of Gauss–Legendre panels, so that the sum is accurate to about 1e-12 for every loss.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from committee.gaussian_mixture.losses import Loss
from committee.gaussian_mixture.quadrature import panels

_LEVELS = np.linspace(-9.0, 9.0, 13)  # panels of 1.5 standard deviations of h


@dataclass(frozen=True)
class TrainingMargins:
    """Quadrature nodes of the margin h, all one-dimensional and of the same length.

    Attributes
    ----------
    h : margin of a fresh pattern, before it is learnt.
    v : margin of the learnt pattern.
    f : force (v − h)/D = −ℓ'(v).
    response : df/dh ≤ 0 for a convex loss.
    label : +1 or −1.
    weight : probability; sums to one.
    """

    h: NDArray[np.float64]
    v: NDArray[np.float64]
    f: NDArray[np.float64]
    response: NDArray[np.float64]
    label: NDArray[np.float64]
    weight: NDArray[np.float64]

    def mean(self, values: ArrayLike) -> float:
        """Average over the training patterns of values at the nodes."""
        return float(self.weight @ np.asarray(values))


def training_margins(
    loss: Loss,
    m: float,
    width: float,
    D: float,
    bias: float = 0.0,
    rho: float = 0.5,
    borders: Iterable[float] = (),
) -> TrainingMargins:
    """Nodes for h ~ N(m + yb, width²), y = ±1 with probabilities ρ and 1−ρ.

    ``borders`` adds panel borders in v, for integrands that vary quickly there.
    """
    classes = [(1.0, 1.0)] if bias == 0.0 else [(1.0, rho), (-1.0, 1.0 - rho)]
    parts = []
    for label, fraction in classes:
        h, v, f, response, weight = _nodes(loss, m + label * bias, width, D, borders)
        parts.append((h, v, f, response, np.full_like(h, label), fraction * weight))
    return TrainingMargins(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _nodes(
    loss: Loss, mean: float, width: float, D: float, borders: Iterable[float]
) -> tuple[NDArray[np.float64], ...]:
    """Nodes (h, v, f, df/dh, weight) for h ~ N(mean, width²)."""
    levels = mean + width * _LEVELS
    v_levels = loss.proximal(levels, D)
    inside = np.concatenate([loss.knots, [kink[0] for kink in loss.kinks], list(borders)])
    inside = inside[(inside > v_levels[0]) & (inside < v_levels[-1])]

    v, weight = panels(np.concatenate([v_levels, inside]))  # where v rises with h
    stretch = 1.0 + D * loss.curvature(v)
    f = -loss.slope(v)
    h = v - D * f
    response = (1.0 / stretch - 1.0) / D
    weight = weight * stretch

    for position, left, right in loss.kinks:  # where v stays at the kink
        start, end = position + D * left, position + D * right
        flat, flat_weight = panels(np.clip(np.append(levels, [start, end]), start, end))
        h, v = np.append(h, flat), np.append(v, np.full_like(flat, position))
        f = np.append(f, (position - flat) / D)
        response = np.append(response, np.full_like(flat, -1.0 / D))
        weight = np.append(weight, flat_weight)

    t = (h - mean) / width
    return h, v, f, response, weight * np.exp(-0.5 * t * t) / (width * np.sqrt(2.0 * np.pi))
