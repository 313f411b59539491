"""Empirical risk minimisation on the mixture for N → ∞: replica-symmetric theory ([M20]).

The weights minimise Σ_μ ℓ(y_μ(w·x_μ/√N + b)) + λ‖w‖²/2. Their state is m = w·v*/N, q = ‖w‖²/N
and V, the response of a weight to a force on it. A fresh pattern has the margin h = m + yb +
√(Δq) ξ, a training pattern has v = argmin_x [ℓ(x) + (x−h)²/(2ΔV)]. With f = (v−h)/(ΔV),

    m̂ = α E[f],   q̂ = αΔ E[f²],   V̂ = −αΔ E[∂f/∂h],
    V = 1/(λ + V̂),   m = V m̂,   q = V² (q̂ + m̂²),   and E[y f] = 0 if the bias is trained.

The solution is stable against replica symmetry breaking if αΔ²V² E[(∂f/∂h)²] < 1. This factor
multiplies the variance of a perturbation on its way from weights to patterns and back. A convex
loss has 0 ≤ −ΔV ∂f/∂h ≤ 1, so the factor is below V V̂ = 1 − λV and the solution always stable.

**Training with noise on the weights**, w∘(1 + σz), averages the loss over a margin noise of width
σ√(Δq). The width grows with ‖w‖, so the average acts as a ridge,
λ_σ = αΔσ² E[ℓ̄''(v)] with the averaged loss ℓ̄. For the square loss it is exactly αΔσ².
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from committee.gaussian_mixture._continuation import Equations
from committee.gaussian_mixture.losses import LossName, get_loss
from committee.gaussian_mixture.samples import check_parameters
from committee.gaussian_mixture.separability import separability_threshold
from committee.gaussian_mixture.state import ReplicaSymmetricState


def replica_symmetric(
    loss: LossName,
    alpha: float,
    delta: float,
    ridge: float,
    rho: float = 0.5,
    bias: float | Literal["train"] | None = None,
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
    start : a converged state at similar parameters, where the solver starts (for sweeps).

    Returns
    -------
    ReplicaSymmetricState
        If no solution exists, ``converged`` is False, with a warning, NaNs and a ``message``. This
        happens at λ = σ = 0 on separable patterns (logistic: the length diverges; hinge: the
        minimiser is not unique), and for the square loss with α ≤ 1.

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

    equations = Equations(ReplicaSymmetricState(base, alpha, delta, rho, ridge), bias, noise)
    trained = bias == "train"
    if ridge == noise == 0 and (reason := _why_no_minimiser(loss, alpha, delta, rho, trained)):
        return equations.failure(reason)

    if start is not None and start.converged:
        if equations.trained:
            equations.bias = start.bias
        x0 = np.array([np.arctanh(start.overlap), np.log(start.q), np.log(start.V)])
        solution = equations.solve(x0, ridge)
        if solution is not None:
            return equations.state(solution, ridge)
    return equations.follow(ridge)


def _why_no_minimiser(loss: str, alpha: float, delta: float, rho: float, trained_bias: bool) -> str:
    """Why there is no unique minimiser without a ridge; empty if there is one."""
    if loss == "square":
        threshold, why = 1.0, "there are fewer patterns than weights"
    else:
        threshold = separability_threshold(delta, rho, trained_bias)
        diverges, flat = "the length of the weights diverges", "the loss is zero on a whole region"
        why = f"patterns are linearly separable, and {diverges if loss == 'logistic' else flat}"
    if alpha > threshold:
        return ""
    return (
        f"without a ridge the {loss} loss has no unique minimiser at alpha = {alpha:g}: up to "
        f"alpha = {threshold:.4g} {why}."
    )
