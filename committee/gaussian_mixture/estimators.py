"""Linear classifiers learnt from a sample: Hebb's rule and empirical risk minimisation."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve

from committee.gaussian_mixture._hinge import minimise_hinge
from committee.gaussian_mixture.bayes import overlap_error
from committee.gaussian_mixture.losses import Loss, LossName, get_loss
from committee.gaussian_mixture.state import ConvergenceWarning
from message_passing.tools.validation import check_labels, check_patterns


@dataclass(frozen=True)
class LinearClassifier:
    """sign(w·x/√N + b).

    Attributes
    ----------
    weights : (N,)
    bias : b.
    name : how it was learnt.
    converged, iterations : whether the minimiser converged, and its number of steps.
    """

    weights: NDArray[np.float64]
    bias: float
    name: str
    converged: bool = True
    iterations: int = 0

    def margins(self, patterns: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
        """Margins y (w·x/√N + b), shape (P,)."""
        x = check_patterns(patterns, len(self.weights))
        y = check_labels(labels, len(x))
        margins: NDArray[np.float64] = y * (x @ self.weights / np.sqrt(x.shape[1]) + self.bias)
        return margins

    def error_rate(self, patterns: ArrayLike, labels: ArrayLike) -> float:
        """Fraction of wrong answers; a pre-activation of exactly zero counts as +1."""
        x = check_patterns(patterns, len(self.weights))
        y = check_labels(labels, len(x))
        answers = np.where(x @ self.weights / np.sqrt(x.shape[1]) + self.bias >= 0, 1.0, -1.0)
        return float(np.mean(answers != y))

    def overlap(self, centre: ArrayLike) -> float:
        """R = w·v*/(‖w‖ ‖v*‖)."""
        v = np.asarray(centre, dtype=float)
        return float(self.weights @ v / (np.linalg.norm(self.weights) * np.linalg.norm(v)))

    def error(self, centre: ArrayLike, delta: float, rho: float = 0.5) -> float:
        """Exact generalisation error, from the overlap and the bias."""
        length = np.linalg.norm(self.weights) / np.sqrt(len(self.weights))
        return float(overlap_error(self.overlap(centre), delta, self.bias / length, rho))


def hebb(patterns: ArrayLike, labels: ArrayLike) -> LinearClassifier:
    """w = (√N/P) Σ_μ y_μ x_μ, in the direction of the posterior mean, without bias."""
    x = check_patterns(patterns)
    y = check_labels(labels, len(x))
    return LinearClassifier(np.sqrt(x.shape[1]) * (y @ x) / len(x), 0.0, "hebb")


def fit(
    patterns: ArrayLike, labels: ArrayLike, loss: LossName, ridge: float, bias: bool = False
) -> LinearClassifier:
    """Minimise Σ_μ ℓ(y_μ(w·x_μ/√N + b)) + λ‖w‖²/2, exactly.

    Parameters
    ----------
    patterns, labels : (P, N), (P,)
    loss : "square" (1−x)²/2, "logistic" log(1+e^(−x)) or "hinge" max(0, 1−x).
    ridge : λ > 0 (b is not penalised).
    bias : whether to learn b (0 otherwise).

    Raises
    ------
    ValueError
        λ ≤ 0, an unknown loss, malformed patterns or labels, labels of one sign with a bias.
    """
    x = check_patterns(patterns)
    y = check_labels(labels, len(x))
    get_loss(loss)
    if not (np.isfinite(ridge) and ridge > 0):
        raise ValueError(
            f"ridge is {ridge}; a finite number > 0 was expected, so that the minimiser exists."
        )
    if bias and abs(y.sum()) == len(y):
        raise ValueError("labels are all alike; both classes were expected for bias=True.")
    N = x.shape[1]
    A, diagonal = x * (y / np.sqrt(N))[:, None], np.full(N, ridge)
    if bias:
        A, diagonal = np.column_stack([A, y]), np.append(diagonal, 0.0)
    if loss == "hinge":
        w, converged, steps = minimise_hinge(A, diagonal)
    else:
        w, converged, steps = _newton(A, diagonal, get_loss(loss))
    if not converged:
        warnings.warn(f"{loss} did not converge in {steps} steps.", ConvergenceWarning, 2)
    b = float(w[N]) if bias else 0.0
    return LinearClassifier(w[:N], b, f"{loss}, ridge {ridge:g}", converged, steps)


def _newton(A: NDArray, diagonal: NDArray, loss: Loss) -> tuple[NDArray[np.float64], bool, int]:
    """Damped Newton steps; the square loss takes one."""
    w = np.zeros(A.shape[1])

    def objective(w: NDArray) -> float:
        return float(loss.value(A @ w).sum() + 0.5 * diagonal @ w**2)

    for step in range(1, 101):
        margins = A @ w
        gradient = A.T @ loss.slope(margins) + diagonal * w
        matrix = (A.T * loss.curvature(margins)) @ A
        matrix[np.diag_indices_from(matrix)] += diagonal
        move = cho_solve(cho_factor(matrix, lower=True), gradient)
        decrement = float(gradient @ move)
        if decrement < 1e-16 * (1.0 + objective(w)):
            return w - move, True, step
        length, before = 1.0, objective(w)
        while objective(w - length * move) > before - 0.25 * length * decrement and length > 1e-6:
            length *= 0.5
        w = w - length * move
    return w, False, 100
