"""Hinge loss with a ridge, minimised by an interior-point method.

min λ‖w‖²/2 + Σ ξ_μ  with  s = A w + b y − 1 + ξ ≥ 0, ξ ≥ 0, rows of A = y x/√N. With multipliers
a of s and 1 − a of ξ, Mehrotra's predictor and corrector steps solve λw = Aᵀa, y·a = 0, a s = 0,
(1−a) ξ = 0; each costs one Cholesky factorisation in weight space.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

_ACCEPTED = 1e-7  # duality gap per pattern: bounds λ‖w − w*‖²/2
_REGULARISATION = 1e-12  # of the Newton matrix alone: the solution does not depend on it


def minimise_hinge(
    A: NDArray[np.float64], y: NDArray[np.float64], ridge: float, bias: bool
) -> tuple[NDArray[np.float64], float, bool, int]:
    """Weights (N,), bias, whether the duality gap closed, and the number of steps."""
    P, N = A.shape
    if bias:
        A = np.column_stack([A, y])
    diagonal = np.full(A.shape[1], ridge)
    diagonal[N:] = 0.0
    w = np.zeros(A.shape[1])
    a, c = np.full(P, 0.5), np.full(P, 0.5)
    xi, s = np.full(P, 1.0), np.full(P, 1.0)
    best, best_w, steps = np.inf, w, 0
    while best > 1e-9 * P and steps < 100:
        steps += 1
        newton = _Newton(A, diagonal, w, a, c, s, xi)
        gap = (a @ s + c @ xi) / (2 * P)
        if not newton.factorise():
            break
        _, da, dc, ds, dxi = newton.direction(-a * s, -c * xi)
        length = min(_longest(a, da), _longest(c, dc), _longest(s, ds), _longest(xi, dxi))
        predicted = (a + length * da) @ (s + length * ds) + (c + length * dc) @ (xi + length * dxi)
        centre = gap * (predicted / (2 * P) / gap) ** 3
        dw, da, dc, ds, dxi = newton.direction(centre - a * s - da * ds, centre - c * xi - dc * dxi)
        length = 0.99 * min(_longest(a, da), _longest(c, dc), _longest(s, ds), _longest(xi, dxi))
        w, a, c = w + length * dw, a + length * da, c + length * dc
        s, xi = s + length * ds, xi + length * dxi
        size = _duality_gap(A, diagonal, w, a)
        if size > best and best < _ACCEPTED * P:
            break  # rounding errors rule from here on
        if size < best:
            best, best_w = size, w
    return best_w[:N], float(best_w[N]) if bias else 0.0, bool(best < _ACCEPTED * P), steps


def _duality_gap(A: NDArray, diagonal: NDArray, w: NDArray, a: NDArray) -> float:
    """Loss minus what the multipliers prove it to be at least, plus how far they violate.

    Σ [max(0, 1−Aw) − a(1−Aw)] + |g|·|w| with g = diagonal·w − Aᵀa.
    """
    slack = 1.0 - A @ w
    violation = diagonal * w - A.T @ a
    return float(np.sum(np.maximum(0.0, slack) - a * slack) + np.abs(violation) @ np.abs(w))


class _Newton:
    """One linearisation of the conditions; one factorisation, two directions."""

    def __init__(
        self,
        A: NDArray,
        diagonal: NDArray,
        w: NDArray,
        a: NDArray,
        c: NDArray,
        s: NDArray,
        xi: NDArray,
    ) -> None:
        self.A, self.diagonal, self.a, self.c, self.s, self.xi = A, diagonal, a, c, s, xi
        self.dual = diagonal * w - A.T @ a
        self.primal = A @ w - 1.0 + xi - s
        self.box = 1.0 - a - c
        self.theta = 1.0 / (s / a + xi / c)

    def factorise(self) -> bool:
        matrix = (self.A.T * self.theta) @ self.A
        matrix[np.diag_indices_from(matrix)] += self.diagonal
        matrix[np.diag_indices_from(matrix)] *= 1.0 + _REGULARISATION
        try:
            self.factor = cho_factor(matrix, lower=True)
        except LinAlgError:
            return False
        return True

    def direction(
        self, target_s: NDArray, target_xi: NDArray
    ) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray]:
        """(dw, da, dc, ds, dξ) with a ds + s da = target_s, c dξ + ξ dc = target_xi."""
        a, c, s, xi = self.a, self.c, self.s, self.xi
        shift = self.primal + (target_xi - xi * self.box) / c - target_s / a
        dw = cho_solve(self.factor, -self.dual - self.A.T @ (self.theta * shift))
        da = -self.theta * (self.A @ dw + shift)
        dc = self.box - da
        return dw, da, dc, (target_s - s * da) / a, (target_xi - xi * dc) / c


def _longest(x: NDArray, dx: NDArray) -> float:
    """Largest step, at most 1/0.99, that keeps x + step·dx ≥ 0."""
    falling = dx < 0
    return float(min(1.0 / 0.99, np.min(-x[falling] / dx[falling], initial=np.inf)))
