"""The result of the replica-symmetric equations: a typical minimiser of a loss on the mixture."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from committee.gaussian_mixture.bayes import overlap_error
from committee.gaussian_mixture.losses import Loss
from committee.gaussian_mixture.margins import (
    TrainingMargins,
    error_probability,
    training_margins,
)

TOLERANCE = 1e-9


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

    def margins(self, borders: ArrayLike = ()) -> TrainingMargins:
        """Quadrature nodes over the training patterns (see :func:`training_margins`)."""
        return training_margins(
            self.loss,
            self.m,
            np.sqrt(self.delta * self.q),
            self.delta * self.V,
            self.bias,
            self.rho,
            np.atleast_1d(np.asarray(borders, dtype=float)),
        )


def make_state(
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
        residual < TOLERANCE,
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
    """The result where no solution exists: NaNs, ``converged`` False, the reason, a warning."""
    warnings.warn(f"replica-symmetric solution: {message}", ConvergenceWarning, stacklevel=3)
    nan = float("nan")
    return ReplicaSymmetricState(
        loss, alpha, delta, rho, ridge, nan, nan, nan, nan, nan, nan, nan, nan,
        False, nan, iterations, message,
    )  # fmt: skip
