"""Hinge loss with a ridge, minimised by an interior-point method.

min ½ Σ_i λ_i w_i² + Σ ξ_μ  with  s = A w − 1 + ξ ≥ 0, ξ ≥ 0. The multipliers are a for s and 1 − a
for ξ. Mehrotra's predictor and corrector steps solve λw = Aᵀa, a s = 0, (1−a) ξ = 0. Each step
costs one Cholesky factorisation in weight space. A bias is a weight with λ_i = 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

_ACCEPTED = 1e-7  # duality gap per pattern: bounds λ‖w − w*‖²/2
_REGULARISATION = 1e-12  # of the Newton matrix only; it does not change the solution


def minimise_hinge(
    A: NDArray[np.float64], diagonal: NDArray[np.float64]
) -> tuple[NDArray[np.float64], bool, int]:
    """Minimiser of Σ max(0, 1 − A w) + ½ Σ diagonal w², whether the gap closed, steps."""
    P = len(A)
    w = np.zeros(A.shape[1])
    a, c = np.full(P, 0.5), np.full(P, 0.5)
    xi, s = np.full(P, 1.0), np.full(P, 1.0)
    best, best_w, steps = np.inf, w, 0
    while best > 1e-9 * P and steps < 100:
        steps += 1
        direction = _linearise(A, diagonal, w, a, c, s, xi)
        gap = (a @ s + c @ xi) / (2 * P)
        if direction is None:
            break
        _, da, dc, ds, dxi = direction(-a * s, -c * xi)
        length = min(_longest(a, da), _longest(c, dc), _longest(s, ds), _longest(xi, dxi))
        predicted = (a + length * da) @ (s + length * ds) + (c + length * dc) @ (xi + length * dxi)
        centre = gap * (predicted / (2 * P) / gap) ** 3
        dw, da, dc, ds, dxi = direction(centre - a * s - da * ds, centre - c * xi - dc * dxi)
        length = 0.99 * min(_longest(a, da), _longest(c, dc), _longest(s, ds), _longest(xi, dxi))
        w, a, c = w + length * dw, a + length * da, c + length * dc
        s, xi = s + length * ds, xi + length * dxi
        size = _duality_gap(A, diagonal, w, a)
        if size > best and best < _ACCEPTED * P:
            break  # rounding errors dominate from here on
        if size < best:
            best, best_w = size, w
    return best_w, bool(best < _ACCEPTED * P), steps


def _duality_gap(A: NDArray, diagonal: NDArray, w: NDArray, a: NDArray) -> float:
    """Loss minus its lower bound from the multipliers, plus their violation of λw = Aᵀa.

    Σ [max(0, 1−Aw) − a(1−Aw)] + |g|·|w| with g = diagonal·w − Aᵀa.
    """
    slack = 1.0 - A @ w
    violation = diagonal * w - A.T @ a
    return float(np.sum(np.maximum(0.0, slack) - a * slack) + np.abs(violation) @ np.abs(w))


def _linearise(
    A: NDArray, diagonal: NDArray, w: NDArray, a: NDArray, c: NDArray, s: NDArray, xi: NDArray
) -> Callable[[NDArray, NDArray], tuple[NDArray, ...]] | None:
    """Newton directions (dw, da, dc, ds, dξ), as a function of a ds + s da and c dξ + ξ dc.

    All directions share one factorisation. None if the matrix is not positive definite.
    """
    dual = diagonal * w - A.T @ a
    primal = A @ w - 1.0 + xi - s
    box = 1.0 - a - c
    theta = 1.0 / (s / a + xi / c)
    matrix = (A.T * theta) @ A
    matrix[np.diag_indices_from(matrix)] += diagonal
    matrix[np.diag_indices_from(matrix)] *= 1.0 + _REGULARISATION
    try:
        factor = cho_factor(matrix, lower=True)
    except LinAlgError:
        return None

    def direction(target_s: NDArray, target_xi: NDArray) -> tuple[NDArray, ...]:
        shift = primal + (target_xi - xi * box) / c - target_s / a
        dw = cho_solve(factor, -dual - A.T @ (theta * shift))
        da = -theta * (A @ dw + shift)
        dc = box - da
        return dw, da, dc, (target_s - s * da) / a, (target_xi - xi * dc) / c

    return direction


def _longest(x: NDArray, dx: NDArray) -> float:
    """Largest step, at most 1/0.99, that keeps x + step·dx ≥ 0."""
    falling = dx < 0
    return float(min(1.0 / 0.99, np.min(-x[falling] / dx[falling], initial=np.inf)))
