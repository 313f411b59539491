"""Two ways to a wide flat region: make the classifier flat, or make the loss flat.

(a) **On the classifier**: minimise the error under noise E_σ over directions. σ is annealed from a
large value, where the minimum is Hebb's rule. The theory solves the equations of
``replica_symmetric.py`` with ℓ(x) = Q(x/(σ√Δ)) and q = 1. The ridge is a Lagrange multiplier,
λ = 1/V − V̂. This loss is not convex, and the solution becomes unstable at small σ.

(b) **On the loss**: minimise a loss averaged over multiplicative noise w∘(1 + σz). The average is
convex. For the square loss it is a ridge, λ = αΔσ².
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve
from scipy.optimize import minimize, root

from committee.gaussian_mixture.estimators import LinearClassifier, hebb
from committee.gaussian_mixture.losses import (
    ErrorUnderNoise,
    LossName,
    averaged_over_noise,
    get_loss,
)
from committee.gaussian_mixture.replica_symmetric import replica_symmetric
from committee.gaussian_mixture.samples import check_parameters
from committee.gaussian_mixture.state import TOLERANCE, ReplicaSymmetricState
from message_passing.tools.validation import check_labels, check_patterns


def max_flat_classifier(
    patterns: ArrayLike, labels: ArrayLike, sigmas: ArrayLike
) -> list[LinearClassifier]:
    """Directions of least error under noise E_σ, σ annealed downward from Hebb's rule.

    Parameters
    ----------
    patterns, labels : (P, N), (P,)
    sigmas : (M,)
        Decreasing widths σ > 0 of the noise on unit-length weights.

    Returns
    -------
    list of M LinearClassifier
        One for each σ, ‖w‖² = N, without bias. Annealing reaches the global minimum at each σ
        where the theory is stable, and a good minimum at smaller σ.
    """
    x = check_patterns(patterns)
    y = check_labels(labels, len(x))
    N = x.shape[1]
    A = x * (y * np.sqrt(N) / np.linalg.norm(x, axis=1))[:, None]
    w = hebb(x, y).weights
    found = []
    for sigma in _decreasing(sigmas):
        loss = ErrorUnderNoise(float(sigma))

        def energy(w: NDArray, loss: ErrorUnderNoise = loss) -> tuple[float, NDArray]:
            length = np.linalg.norm(w)
            unit = w / length
            margins = A @ unit
            gradient = loss.slope(margins) @ A / len(A)
            across = gradient - (gradient @ unit) * unit
            return float(np.mean(loss.value(margins))), across / length

        w = w / np.linalg.norm(w)
        options = {"maxiter": 2000, "gtol": 1e-8, "ftol": 1e-15}
        least = minimize(energy, w, jac=True, method="L-BFGS-B", options=options)
        w = least.x * (np.sqrt(N) / np.linalg.norm(least.x))
        flat = bool(np.max(np.abs(least.jac)) < 1e-5)
        found.append(LinearClassifier(w, 0.0, f"flattest at σ = {sigma:g}", flat, int(least.nit)))
    return found


def max_flat_theory(alpha: float, delta: float, sigmas: ArrayLike) -> list[ReplicaSymmetricState]:
    """Replica-symmetric theory of :func:`max_flat_classifier`, for decreasing σ.

    If no replica-symmetric solution has margins v(h) without a jump, ``converged`` is False and
    ``message`` says so. A solution with ``stability`` ≥ 1 is unstable.
    """
    check_parameters(alpha, delta)
    ladder = _decreasing(sigmas)

    def state_at(x: NDArray, loss: ErrorUnderNoise) -> ReplicaSymmetricState:
        R, V = float(np.tanh(x[0])), float(np.exp(x[1]))
        return ReplicaSymmetricState(loss, alpha, delta, 0.5, np.nan, R, 1.0, V, 0.0)

    # At large σ, ℓ is a straight line and its minimiser is Hebb's rule.
    first = max(30.0, float(ladder[0]))
    steps = np.exp(np.arange(np.log(first), np.log(ladder[-1]), -0.1))
    path = np.unique(np.concatenate([steps, ladder]))[::-1]
    force = 1.0 / (first * np.sqrt(2.0 * np.pi * delta))
    overlap = np.arctanh(np.sqrt(alpha / (alpha + delta)))
    x = np.array([overlap, -np.log(force * np.sqrt(alpha * (alpha + delta)))])
    states, lost = {}, False
    for sigma in path:
        loss = ErrorUnderNoise(float(sigma * np.sqrt(delta)))

        def residual(x: NDArray, loss: ErrorUnderNoise = loss) -> NDArray:
            if not np.all(np.isfinite(x)) or delta * np.exp(x[1]) >= 0.9999 * loss.largest_D:
                return np.full(2, 1e3)
            state = state_at(x, loss)
            m_hat, q_hat, _ = state.conjugates(state.margins())
            length = np.sqrt(q_hat + m_hat**2)
            return np.array([x[0] - np.arctanh(m_hat / length), x[1] + np.log(length)])

        if not lost:
            found = root(residual, x, method="hybr", options={"xtol": 1e-13})
            worst = float(np.max(np.abs(found.fun)))
            lost = worst > TOLERANCE
        if not lost:
            x = found.x
        if lost and sigma in ladder:
            states[sigma] = ReplicaSymmetricState(loss, alpha, delta, 0.5, np.nan).missing(
                f"at sigma = {sigma:g} the margins v would jump with h (replica symmetry is "
                "broken)."
            )
        elif sigma in ladder:
            state = replace(state_at(x, loss), residual=worst, iterations=int(found.nfev))
            _, _, V_hat = state.conjugates(state.margins())
            states[sigma] = replace(state, ridge=1.0 / state.V - V_hat)
    return [states[sigma] for sigma in ladder]


def _decreasing(sigmas: ArrayLike) -> NDArray[np.float64]:
    ladder = np.atleast_1d(np.asarray(sigmas, dtype=float))
    if np.any(~(ladder > 0)) or np.any(np.diff(ladder) >= 0):
        raise ValueError(f"sigmas is {ladder}; positive, decreasing numbers were expected.")
    return ladder


def max_flat_loss(
    patterns: ArrayLike, labels: ArrayLike, loss: LossName, sigma: float
) -> LinearClassifier:
    """Minimise Σ_μ E_z ℓ(y_μ (w∘(1+σz))·x_μ/√N): a loss averaged over weight noise, no ridge.

    The average over the Gaussian margin noise, of variance σ²Σ_i w_i²x_i²/N, is exact. For the
    square loss it is a ridge Σ_μ σ²x_μi²/N on w_i, solved directly. The others use L-BFGS.
    """
    x = check_patterns(patterns)
    y = check_labels(labels, len(x))
    plain = get_loss(loss)
    if not (np.isfinite(sigma) and sigma > 0):
        raise ValueError(f"sigma is {sigma}; a finite number > 0 was expected.")
    N = x.shape[1]
    A = x * (y / np.sqrt(N))[:, None]
    squares = sigma**2 * x**2 / N
    name = f"{loss} averaged over noise {sigma:g}"
    matrix = A.T @ A
    matrix[np.diag_indices(N)] += squares.sum(axis=0)
    w = solve(matrix, A.sum(axis=0), assume_a="pos")
    if loss == "square":
        return LinearClassifier(w, 0.0, name, True, 1)

    def total(w: NDArray) -> tuple[float, NDArray]:
        margins = A @ w
        average = averaged_over_noise(plain, np.sqrt(squares @ w**2))
        per_variance = 0.5 * average.curvature(margins)
        gradient = average.slope(margins) @ A + 2.0 * w * (per_variance @ squares)
        return float(average.value(margins).sum()), gradient

    options = {"maxiter": 3000, "gtol": 1e-7, "ftol": 1e-15}
    least = minimize(total, w, jac=True, method="L-BFGS-B", options=options)
    flat = bool(np.max(np.abs(least.jac)) < 1e-3)
    return LinearClassifier(least.x, 0.0, name, flat, int(least.nit))


def max_flat_loss_theory(
    loss: LossName,
    alpha: float,
    delta: float,
    sigma: float,
    start: ReplicaSymmetricState | None = None,
) -> ReplicaSymmetricState:
    """Replica-symmetric theory of :func:`max_flat_loss` on balanced data."""
    if not sigma > 0:
        raise ValueError(f"sigma is {sigma}; a number > 0 was expected.")
    return replica_symmetric(loss, alpha, delta, ridge=0.0, noise=sigma, start=start)
