"""Hinge loss with a ridge, minimised to machine precision by an interior-point method.

min λ‖w‖²/2 + Σ ξ_μ  with  s = A w + b y − 1 + ξ ≥ 0, ξ ≥ 0, rows of A = y x/√N. With multipliers
a of s and 1 − a of ξ, Mehrotra's predictor and corrector steps solve λw = Aᵀa, y·a = 0, a s = 0,
(1−a) ξ = 0; each costs one Cholesky factorisation in weight space.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve


def minimise_hinge(
    A: NDArray[np.float64], y: NDArray[np.float64], ridge: float, bias: bool
) -> tuple[NDArray[np.float64], float, bool, int]:
    """Weights (N,), bias, whether the duality gap closed, and the number of steps."""
    P, N = A.shape
    if bias:
        A = np.column_stack([A, y])
    diagonal = np.full(A.shape[1], ridge)
    if bias:
        diagonal[N:] = 0.0
    w = np.zeros(A.shape[1])
    a, c = np.full(P, 0.5), np.full(P, 0.5)
    xi, s = np.full(P, 1.0), np.full(P, 1.0)
    for step in range(1, 101):
        dual = diagonal * w - A.T @ a
        primal = A @ w - 1.0 + xi - s
        box = 1.0 - a - c
        gap = (a @ s + c @ xi) / (2 * P)
        size = 1.0 + np.max(np.abs(w))
        if gap < 1e-11 and np.max(np.abs(dual)) < 1e-9 * size and np.max(np.abs(primal)) < 1e-9:
            return w[:N], float(w[N]) if bias else 0.0, True, step

        theta = 1.0 / (s / a + xi / c)
        matrix = (A.T * theta) @ A
        matrix[np.diag_indices_from(matrix)] += diagonal
        factor = cho_factor(matrix, lower=True, check_finite=False)

        def direction(
            target_s: NDArray, target_xi: NDArray, theta: NDArray = theta, factor: tuple = factor,
            dual: NDArray = dual, primal: NDArray = primal, box: NDArray = box,
        ) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray]:  # fmt: skip
            # a ds + s da = target_s, c dxi + xi dc = target_xi, da + dc = box
            shift = primal + (target_xi - xi * box) / c - target_s / a
            dw = cho_solve(factor, -dual - A.T @ (theta * shift), check_finite=False)
            da = -theta * (A @ dw + shift)
            dc = box - da
            return dw, da, dc, (target_s - s * da) / a, (target_xi - xi * dc) / c

        dw, da, dc, ds, dxi = direction(-a * s, -c * xi)
        length = min(_longest(a, da), _longest(c, dc), _longest(s, ds), _longest(xi, dxi))
        predicted = (a + length * da) @ (s + length * ds) + (c + length * dc) @ (xi + length * dxi)
        centre = gap * (predicted / (2 * P) / gap) ** 3
        dw, da, dc, ds, dxi = direction(centre - a * s - da * ds, centre - c * xi - dc * dxi)
        length = 0.99 * min(_longest(a, da), _longest(c, dc), _longest(s, ds), _longest(xi, dxi))
        length = min(length, 1.0)
        w, a, c = w + length * dw, a + length * da, c + length * dc
        s, xi = s + length * ds, xi + length * dxi
    return w[:N], float(w[N]) if bias else 0.0, False, 100


def _longest(x: NDArray, dx: NDArray) -> float:
    """Largest step, at most 1/0.99, that keeps x + step·dx ≥ 0."""
    falling = dx < 0
    return float(min(1.0 / 0.99, np.min(-x[falling] / dx[falling], initial=np.inf)))
