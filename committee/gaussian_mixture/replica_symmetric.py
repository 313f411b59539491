"""Empirical risk minimisation on the mixture for N → ∞: replica-symmetric theory ([M20]).

The weights minimise Σ_μ ℓ(y_μ(w·x_μ/√N + b)) + λ‖w‖²/2. Their state is m = w·v*/N, q = ‖w‖²/N
and V, the response of a weight to a force on it. A fresh
pattern has the margin h = m + yb + √(Δq) ξ, a training pattern v = argmin_x [ℓ(x) + (x−h)²/(2ΔV)].
With f = (v−h)/(ΔV),

    m̂ = α E[f],   q̂ = αΔ E[f²],   V̂ = −αΔ E[∂f/∂h],
    V = 1/(λ + V̂),   m = V m̂,   q = V² (q̂ + m̂²),   and E[y f] = 0 where the bias is trained.

It is stable against replica symmetry breaking while αΔ²V² E[(∂f/∂h)²] < 1: a perturbation of
the margins is carried from weights to patterns and back with this factor in its variance. For a
convex loss 0 ≤ −ΔV ∂f/∂h ≤ 1 makes it less than V V̂ = 1 − λV: always stable.

**Training with noise on the weights**, w∘(1 + σz), averages the loss over a margin noise of width
σ√(Δq). The width grows with ‖w‖, so the average acts as a ridge,
λ_σ = αΔσ² E[ℓ̄''(v)], ℓ̄ the averaged loss; for the square loss, αΔσ² exactly.
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

    equations = Equations(base, alpha, delta, rho, bias, noise)
    if ridge == 0 and noise == 0:
        reason = _why_no_minimiser(loss, alpha, delta, rho, bias == "train")
        if reason:
            return equations.failure(0.0, reason)

    if start is not None and start.converged:
        if equations.trained:
            equations.bias = start.bias
        x0 = np.array([np.arctanh(start.overlap), np.log(start.q), np.log(start.V)])
        solution = equations.solve(x0, ridge)
        if solution is not None:
            return equations.state(solution, ridge)
    return equations.follow(ridge)


def _why_no_minimiser(loss: str, alpha: float, delta: float, rho: float, trained_bias: bool) -> str:
    """Why there is no unique minimiser without any ridge; empty where there is one."""
    if loss == "square":
        return (
            ""
            if alpha > 1
            else (
                f"without a ridge, the square loss has no unique minimiser at alpha = {alpha:g}: "
                "there are fewer patterns than weights."
            )
        )
    threshold = separability_threshold(delta, rho, trained_bias)
    if alpha > threshold:
        return ""
    what = (
        "the length of the weights diverges"
        if loss == "logistic"
        else ("the loss is zero on a whole region, so that the minimiser is not unique")
    )
    return (
        f"without a ridge there is no solution of this kind at alpha = {alpha:g}: the patterns "
        f"are linearly separable up to alpha = {threshold:.4g}, and {what}."
    )
