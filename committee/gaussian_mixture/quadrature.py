"""Averages over standard normal variables, by panels and by Hermite nodes."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Panels cover this many standard deviations.
REACH = 9.0

Nodes = tuple[NDArray[np.float64], NDArray[np.float64]]
_legendre = cache(np.polynomial.legendre.leggauss)


def density(z: NDArray) -> NDArray[np.float64]:
    """Standard normal density."""
    return np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)


def panels(borders: ArrayLike, order: int = 20) -> Nodes:
    """Gauss–Legendre nodes and weights on the panels between the sorted borders."""
    nodes, weights = _legendre(order)
    edges = np.unique(borders)
    half = 0.5 * np.diff(edges)[:, None]
    middle = 0.5 * (edges[1:] + edges[:-1])[:, None]
    return (middle + half * nodes).ravel(), (half * weights).ravel()


def gaussian_nodes(borders: ArrayLike = ()) -> Nodes:
    """Nodes and weights of a standard normal average, with extra panel borders."""
    inside = np.asarray(borders, dtype=float)
    inside = inside[np.abs(inside) < REACH]
    z, weight = panels(np.concatenate([np.linspace(-REACH, REACH, 13), inside]))
    return z, weight * np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)


def hermite_nodes(order: int) -> Nodes:
    """Nodes and weights of a standard normal average of a smooth function."""
    z, weight = np.polynomial.hermite_e.hermegauss(order)
    return z, weight / weight.sum()
