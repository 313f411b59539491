"""Empirical risk minimisation on the mixture for N → ∞: replica-symmetric theory ([M20]).

The weights minimise Σ_μ ℓ(y_μ(w·x_μ/√N + b)) + λ‖w‖²/2. Their state is m = w·v*/N, q = ‖w‖²/N
and V, the response of a weight to a field on it. With h = m + yb + √(Δq) ξ the margin of a fresh
pattern, v = argmin_x [ℓ(x) + (x−h)²/(2ΔV)] that of a training pattern and f = (v−h)/(ΔV):

    m̂ = α E[f],   q̂ = αΔ E[f²],   V̂ = −αΔ E[∂f/∂h],
    V = 1/(λ + V̂),   m = V m̂,   q = V² (q̂ + m̂²),   and E[y f] = 0 where the bias is trained.

It is stable against replica symmetry breaking while αΔ²V² E[(∂f/∂h)²] < 1: a perturbation of
the fields is carried from weights to patterns and back with this factor in its variance. For a
convex loss 0 ≤ −ΔV ∂f/∂h ≤ 1 makes it less than V V̂ = 1 − λV: always stable.

**Training with noise on the weights**, w∘(1 + σz), averages the loss over a margin noise of width
σ√(Δq). Since that width grows with ‖w‖, the average acts as a ridge of its own,
λ_σ = αΔσ² E[ℓ̄''(v)], ℓ̄ the averaged loss; for the square loss, αΔσ² exactly.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, root

from .bayes import overlap_error
from .fields import Fields, error_probability, training_fields
from .losses import Loss, LossName, averaged_over_noise, get_loss
from .samples import check_parameters
from .separability import separability_threshold

_TOLERANCE = 1e-9


class ConvergenceWarning(UserWarning):
    """A result did not converge, or no solution exists: its ``message`` says which."""


@dataclass(frozen=True)
class ReplicaSymmetricState:
    """The typical minimiser of a loss on the mixture.

    Attributes
    ----------
    loss : the loss, averaged over weight noise where there is some.
    alpha, delta, rho : the mixture.
    ridge : λ, with the ridge that weight noise amounts to.
    m, q, V : overlap with the centre, squared length, response (see the module).
    bias : b.
    overlap : R = m/√q.
    error, training_error : generalisation and training error.
    stability : αΔ²V² E[(∂f/∂h)²]; replica symmetry holds while it is below 1.
    converged, residual, iterations, message : how the solver fared; ``residual`` is the largest
        relative violation of the equations, ``message`` says why where there is no solution.
    """

    loss: Loss
    alpha: float
    delta: float
    rho: float
    ridge: float
    m: float
    q: float
    V: float
    bias: float
    overlap: float
    error: float
    training_error: float
    stability: float
    converged: bool
    residual: float
    iterations: int
    message: str = ""

    @property
    def stable(self) -> bool:
        """Whether replica symmetry is stable."""
        return self.stability < 1.0

    def fields(self, margins: ArrayLike = ()) -> Fields:
        """Quadrature nodes over the training patterns (see :func:`training_fields`)."""
        return training_fields(
            self.loss,
            self.m,
            np.sqrt(self.delta * self.q),
            self.delta * self.V,
            self.bias,
            self.rho,
            np.atleast_1d(np.asarray(margins, dtype=float)),
        )


def replica_symmetric(
    loss: LossName,
    alpha: float,
    delta: float,
    ridge: float,
    rho: float = 0.5,
    bias: None | float | Literal["train"] = None,
    noise: float = 0.0,
    start: ReplicaSymmetricState | None = None,
) -> ReplicaSymmetricState:
    """Solve the replica-symmetric equations of this module.

    Parameters
    ----------
    loss : "square", "logistic" or "hinge".
    alpha, delta, rho : patterns per input, variance of the clouds, fraction of labels +1.
    ridge : λ ≥ 0.
    bias : none, a fixed b, or "train": the b that minimises the loss.
    noise : relative width σ of the weight noise over which the loss is averaged.
    start : a converged state nearby, to start from (for sweeps).

    Returns
    -------
    ReplicaSymmetricState
        ``converged`` is False, with a warning, NaNs and a ``message``, where no solution exists:
        for λ = σ = 0 on separable patterns (logistic: the length diverges; hinge: the minimiser
        is not unique), and for the square loss with α ≤ 1.

    Raises
    ------
    ValueError
        An unknown loss, α, Δ, ρ, λ or σ out of range.
    """
    base = get_loss(loss)
    check_parameters(alpha, delta, rho)
    for name, value in (("ridge", ridge), ("noise", noise)):
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(f"{name} is {value}; a finite number ≥ 0 was expected.")
    if isinstance(bias, str) and bias != "train":
        raise ValueError(f"bias is {bias!r}; None, a number or 'train' was expected.")

    equations = _Equations(base, alpha, delta, rho, bias, noise)
    if ridge == 0 and noise == 0:
        reason = _why_no_minimiser(loss, alpha, delta, rho, bias == "train")
        if reason:
            return equations.failure(0.0, reason)

    if start is not None and start.converged:
        x0 = np.array([np.arctanh(start.overlap), np.log(start.q), np.log(start.V)])
        solution = equations.solve(x0, ridge)
        if solution is not None:
            return equations.state(solution, ridge)
    return equations.descend(ridge)


def square_closed_form(
    alpha: float,
    delta: float,
    ridge: float,
    rho: float = 0.5,
    bias: None | Literal["train"] = None,
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
    return _state(get_loss("square"), alpha, delta, rho, ridge, (m, q, V, b), stability, 0.0, 0)


class _Equations:
    """The equations in x = (artanh R, log q, log V), and their solution by continuation in λ."""

    def __init__(
        self,
        loss: Loss,
        alpha: float,
        delta: float,
        rho: float,
        bias: None | float | Literal["train"],
        noise: float,
    ) -> None:
        self.loss, self.alpha, self.delta, self.rho, self.noise = loss, alpha, delta, rho, noise
        self.trained = bias == "train" and rho != 0.5
        self.bias = float(bias) if isinstance(bias, int | float) else 0.0
        self.evaluations = 0

    def averages(self, x: NDArray) -> tuple[float, float, float, float, Loss, Fields]:
        """m̂, q̂, V̂, the ridge due to noise, the loss and the fields at x; sets the bias."""
        self.evaluations += 1
        R, q, V = np.tanh(x[0]), np.exp(x[1]), np.exp(x[2])
        width, D = np.sqrt(self.delta * q), self.delta * V
        loss = averaged_over_noise(self.loss, self.noise * width)
        m = R * np.sqrt(q)
        if self.trained:
            self.bias = _trained_bias(loss, m, width, D, self.rho, self.bias)
        fields = training_fields(loss, m, width, D, self.bias, self.rho)
        scale = self.alpha * self.delta
        noise_ridge = 0.0
        if self.noise:
            noise_ridge = scale * self.noise**2 * fields.mean(loss.curvature(fields.v))
        return (
            self.alpha * fields.mean(fields.f),
            scale * fields.mean(fields.f**2),
            -scale * fields.mean(fields.response),
            noise_ridge,
            loss,
            fields,
        )

    def residual(self, x: NDArray, ridge: float) -> NDArray[np.float64]:
        m_hat, q_hat, V_hat, noise_ridge, _, _ = self.averages(x)
        length = np.sqrt(q_hat + m_hat**2)
        return np.array(
            [
                x[0] - np.arctanh(m_hat / length),
                0.5 * x[1] - x[2] - np.log(length),
                x[2] + np.log(ridge + noise_ridge + V_hat),
            ]
        )

    def solve(self, x0: NDArray, ridge: float) -> NDArray[np.float64] | None:
        """Root near x0, or None."""

        def guarded(x: NDArray) -> NDArray[np.float64]:
            if not np.all(np.isfinite(x)) or np.any(np.abs(x) > 60):
                return np.full(3, 1e3)
            return self.residual(x, ridge)

        found = root(guarded, x0, method="hybr", options={"xtol": 1e-13})
        good = bool(np.all(np.isfinite(found.x)) and np.max(np.abs(found.fun)) < _TOLERANCE)
        return found.x if good else None

    def descend(self, ridge: float) -> ReplicaSymmetricState:
        """From a large λ, where the minimiser is Hebb's rule, down to the wanted one."""
        strong = max(ridge, 30.0 * (1.0 + self.alpha * self.delta))
        x = self.strong_ridge(strong)
        solution = self.solve(x, strong)
        if solution is None:
            return self.failure(ridge, f"no root found at ridge {strong:g}, where it starts.")
        x, position, slope, step = solution, np.log(strong), np.zeros(3), np.log(10.0) / 2.0
        last = np.log(ridge) if ridge > 0 else -np.inf
        while position > last:
            target = max(position - step, last)
            if ridge == 0 and np.exp(target) < 1e-5 * np.exp(-x[2]):
                target = -np.inf  # V = 1/V̂ by now: the ridge no longer matters
            moved = target - position if np.isfinite(target) else 0.0
            bias = self.bias
            found = self.solve(x + slope * moved, float(np.exp(target)))
            if found is None:
                self.bias = bias
                step /= 2.0
                if step < 1e-3:
                    return self.failure(ridge, f"lost the solution at ridge {np.exp(position):g}.")
                continue
            if moved:
                slope = (found - x) / moved
            x, position = found, target
            step = min(step * 1.5, 2.0)
        return self.state(x, ridge)

    def strong_ridge(self, ridge: float) -> NDArray[np.float64]:
        """Iterate the equations at a ridge so strong that this converges."""
        x = np.array([0.0, -2.0 * np.log(ridge), -np.log(ridge)])
        for _ in range(100):
            m_hat, q_hat, V_hat, noise_ridge, _, _ = self.averages(x)
            length = np.sqrt(q_hat + m_hat**2)
            V = 1.0 / (ridge + noise_ridge + V_hat)
            new = np.array([np.arctanh(m_hat / length), 2.0 * np.log(V * length), np.log(V)])
            change, x = np.max(np.abs(new - x)), 0.5 * (x + new)
            if change < 1e-3:
                break
        return x

    def state(self, x: NDArray, ridge: float) -> ReplicaSymmetricState:
        residual = float(np.max(np.abs(self.residual(x, ridge))))
        _, _, _, noise_ridge, loss, fields = self.averages(x)
        q, V = float(np.exp(x[1])), float(np.exp(x[2]))
        m = float(np.tanh(x[0]) * np.sqrt(q))
        return _state(
            loss,
            self.alpha,
            self.delta,
            self.rho,
            ridge + noise_ridge,
            (m, q, V, self.bias),
            self.alpha * (self.delta * V) ** 2 * fields.mean(fields.response**2),
            residual,
            self.evaluations,
        )

    def failure(self, ridge: float, message: str) -> ReplicaSymmetricState:
        return no_state(
            self.loss, self.alpha, self.delta, self.rho, ridge, message, self.evaluations
        )


def _state(
    loss: Loss,
    alpha: float,
    delta: float,
    rho: float,
    ridge: float,
    order: tuple[float, float, float, float],
    stability: float,
    residual: float,
    iterations: int,
    message: str = "",
) -> ReplicaSymmetricState:
    m, q, V, b = order
    length = np.sqrt(q)
    return ReplicaSymmetricState(
        loss,
        alpha,
        delta,
        rho,
        ridge,
        float(m),
        float(q),
        float(V),
        float(b),
        float(m / length),
        float(overlap_error(m / length, delta, b / length, rho)),
        error_probability(loss, m, np.sqrt(delta * q), delta * V, b, rho),
        float(stability),
        residual < _TOLERANCE,
        residual,
        iterations,
        message,
    )


def no_state(
    loss: Loss,
    alpha: float,
    delta: float,
    rho: float,
    ridge: float,
    message: str,
    iterations: int,
) -> ReplicaSymmetricState:
    """A state that is not there: NaNs, ``converged`` False, the reason, and a warning."""
    warnings.warn(f"replica-symmetric solution: {message}", ConvergenceWarning, stacklevel=3)
    nan = float("nan")
    return ReplicaSymmetricState(
        loss, alpha, delta, rho, ridge, nan, nan, nan, nan, nan, nan, nan, nan,
        False, nan, iterations, message,
    )  # fmt: skip


def _trained_bias(
    loss: Loss, m: float, width: float, D: float, rho: float, guess: float
) -> float:
    """The b with E[y f] = 0: the derivative of the average loss, which falls with b."""

    def pull(b: float) -> float:
        total = 0.0
        for label, fraction in ((1.0, rho), (-1.0, 1.0 - rho)):
            fields = training_fields(loss, m + label * b, width, D)
            total += label * fraction * fields.mean(fields.f)
        return total

    step = 0.5 * width + 1e-3
    low, high = guess - step, guess + step
    while pull(low) < 0:
        low -= step
        step *= 2.0
    while pull(high) > 0:
        high += step
        step *= 2.0
    return float(brentq(pull, low, high, xtol=1e-15, rtol=1e-15 * 8))


def _why_no_minimiser(
    loss: str, alpha: float, delta: float, rho: float, trained_bias: bool
) -> str:
    """Why there is no unique minimiser without any ridge; empty where there is one."""
    if loss == "square":
        return "" if alpha > 1 else (
            f"without a ridge, the square loss has no unique minimiser at alpha = {alpha:g} ≤ 1: "
            "there are fewer patterns than weights."
        )
    threshold = separability_threshold(delta, rho, trained_bias)
    if alpha > threshold:
        return ""
    what = "the length of the weights diverges" if loss == "logistic" else (
        "the loss is zero on a whole region, so that the minimiser is not unique"
    )
    return (
        f"without a ridge there is no solution of this kind at alpha = {alpha:g}: the patterns "
        f"are linearly separable up to alpha = {threshold:.4g}, and {what}."
    )
