"""Two ways to a wide flat region: make the classifier flat, or make the loss flat.

(a) **On the classifier**: minimise the error under noise E_σ over directions. A large σ comes
first, where the minimum is Hebb's rule, then smaller ones. Replica symmetry: the equations of
``replica_symmetric.py`` with ℓ(x) = Q(x/(σ√Δ)) and q = 1, where the ridge is a multiplier,
λ = 1/V − V̂. This loss is not convex, and the solution ceases to be stable at small σ.

(b) **On the loss**: minimise a loss averaged over multiplicative noise w∘(1 + σz). The average is
convex; for the square loss it is a ridge, λ = αΔσ².
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve
from scipy.optimize import minimize, root
from scipy.special import ndtr

from committee.gaussian_mixture.estimators import LinearClassifier, hebb
from committee.gaussian_mixture.losses import ErrorUnderNoise, LossName, NoisyLogistic, get_loss
from committee.gaussian_mixture.margins import training_margins
from committee.gaussian_mixture.replica_symmetric import replica_symmetric
from committee.gaussian_mixture.samples import check_parameters
from committee.gaussian_mixture.state import TOLERANCE, ReplicaSymmetricState, make_state, no_state
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
        One for each σ, ‖w‖² = N, without bias. A minimum reached by annealing is the global one
        where the theory is stable; below, it is a good one.
    """
    x = check_patterns(patterns)
    y = check_labels(labels, len(x))
    ladder = np.atleast_1d(np.asarray(sigmas, dtype=float))
    if np.any(~(ladder > 0)) or np.any(np.diff(ladder) >= 0):
        raise ValueError(f"sigmas is {ladder}; positive, decreasing numbers were expected.")
    N = x.shape[1]
    A = x * (y * np.sqrt(N) / np.linalg.norm(x, axis=1))[:, None]
    w = hebb(x, y).weights
    found = []
    for sigma in ladder:
        loss = ErrorUnderNoise(float(sigma))

        def energy(w: NDArray, loss: ErrorUnderNoise = loss) -> tuple[float, NDArray]:
            length = np.linalg.norm(w)
            unit = w / length
            margins = A @ unit
            gradient = loss.slope(margins) @ A / len(A)
            return float(np.mean(loss.value(margins))), (
                gradient - (gradient @ unit) * unit
            ) / length

        w = w / np.linalg.norm(w)
        options = {"maxiter": 2000, "gtol": 1e-8, "ftol": 1e-15}
        least = minimize(energy, w, jac=True, method="L-BFGS-B", options=options)
        w = least.x * (np.sqrt(N) / np.linalg.norm(least.x))
        flat = bool(np.max(np.abs(least.jac)) < 1e-5)
        found.append(LinearClassifier(w, 0.0, f"flattest at σ = {sigma:g}", flat, int(least.nit)))
    return found


def max_flat_theory(alpha: float, delta: float, sigmas: ArrayLike) -> list[ReplicaSymmetricState]:
    """Replica-symmetric theory of :func:`max_flat_classifier`, for decreasing σ.

    Where there is no replica-symmetric solution whose margins v follow h without a jump,
    ``converged`` is False and ``message`` says so; a solution with ``stability`` ≥ 1 is unstable.
    """
    check_parameters(alpha, delta)
    ladder = np.atleast_1d(np.asarray(sigmas, dtype=float))
    if np.any(~(ladder > 0)) or np.any(np.diff(ladder) >= 0):
        raise ValueError(f"sigmas is {ladder}; positive, decreasing numbers were expected.")

    def averages(x: NDArray, loss: ErrorUnderNoise) -> tuple[float, float, float, float]:
        V = np.exp(x[1])
        margins = training_margins(loss, np.tanh(x[0]), np.sqrt(delta), delta * V)
        return (
            alpha * margins.mean(margins.f),
            alpha * delta * margins.mean(margins.f**2),
            -alpha * delta * margins.mean(margins.response),
            alpha * (delta * V) ** 2 * margins.mean(margins.response**2),
        )

    # A large σ: ℓ is a straight line, its minimiser Hebb's rule.
    first = max(30.0, float(ladder[0]))
    steps = np.exp(np.arange(np.log(first), np.log(ladder[-1]), -0.1))
    path = np.unique(np.concatenate([steps, ladder]))[::-1]
    force = 1.0 / (first * np.sqrt(2.0 * np.pi * delta))
    x = np.array(
        [
            np.arctanh(np.sqrt(alpha / (alpha + delta))),
            -np.log(force * np.sqrt(alpha * (alpha + delta))),
        ]
    )
    states, lost = {}, False
    for sigma in path:
        loss = ErrorUnderNoise(float(sigma * np.sqrt(delta)))

        def residual(x: NDArray, loss: ErrorUnderNoise = loss) -> NDArray:
            if not np.all(np.isfinite(x)) or delta * np.exp(x[1]) >= 0.9999 * loss.largest_D:
                return np.full(2, 1e3)
            m_hat, q_hat, _, _ = averages(x, loss)
            length = np.sqrt(q_hat + m_hat**2)
            return np.array([x[0] - np.arctanh(m_hat / length), x[1] + np.log(length)])

        if not lost:
            found = root(residual, x, method="hybr", options={"xtol": 1e-13})
            lost = bool(np.max(np.abs(found.fun)) > TOLERANCE)
        if lost:
            if sigma in ladder:
                states[sigma] = no_state(
                    loss, alpha, delta, 0.5, float("nan"),
                    f"at sigma = {sigma:g} the margins v would jump with h "
                    "(replica symmetry is broken).", 0,
                )  # fmt: skip
            continue
        x = found.x
        if sigma in ladder:
            _, _, V_hat, stability = averages(x, loss)
            V, R = float(np.exp(x[1])), float(np.tanh(x[0]))
            worst = float(np.max(np.abs(found.fun)))
            states[sigma] = make_state(
                loss, alpha, delta, 0.5, 1.0 / V - V_hat, (R, 1.0, V, 0.0), stability, worst,
                int(found.nfev),
            )  # fmt: skip
    return [states[sigma] for sigma in ladder]


def max_flat_loss(
    patterns: ArrayLike, labels: ArrayLike, loss: LossName, sigma: float
) -> LinearClassifier:
    """Minimise Σ_μ E_z ℓ(y_μ (w∘(1+σz))·x_μ/√N): a loss averaged over weight noise, no ridge.

    The margin noise is Gaussian of variance σ²Σ_i w_i²x_i²/N, taken exactly. The square loss is
    solved as the (generalised) ridge Σ_μ σ²x_μi²/N that it is; the others by L-BFGS.
    """
    x = check_patterns(patterns)
    y = check_labels(labels, len(x))
    get_loss(loss)
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

    average = _hinge_average if loss == "hinge" else _logistic_average

    def total(w: NDArray) -> tuple[float, NDArray]:
        margins, variance = A @ w, squares @ w**2
        width = np.sqrt(variance)
        value, slope, per_variance = average(margins, width)
        return float(value.sum()), slope @ A + 2.0 * w * (per_variance @ squares)

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


def _hinge_average(x: NDArray, width: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Averaged hinge, its derivatives by x and by the variance of the noise (half ℓ̄'')."""
    t = (1.0 - x) / width
    density = np.exp(-0.5 * t * t) / np.sqrt(2.0 * np.pi)
    return width * (t * ndtr(t) + density), -ndtr(t), 0.5 * density / width


def _logistic_average(x: NDArray, width: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Averaged logistic loss; all widths share one rule in z, made for the largest."""
    z, weight = NoisyLogistic(float(width.max())).rule
    scaled = x[:, None] + width[:, None] * z
    p = 1.0 / (1.0 + np.exp(np.clip(scaled, -700, 700)))
    return np.logaddexp(0.0, -scaled) @ weight, -p @ weight, 0.5 * (p * (1.0 - p)) @ weight
