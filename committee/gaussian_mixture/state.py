"""The result of the replica-symmetric equations: a typical minimiser of a loss on the mixture."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from committee.gaussian_mixture.bayes import overlap_error
from committee.gaussian_mixture.losses import Loss
from committee.gaussian_mixture.margins import TrainingMargins, training_margins

TOLERANCE = 1e-9


class ConvergenceWarning(UserWarning):
    """A result did not converge, or no solution exists: its ``message`` says which."""


@dataclass(frozen=True)
class ReplicaSymmetricState:
    """The typical minimiser of a loss on the mixture.

    Attributes
    ----------
    loss : the loss, averaged over weight noise if there is any.
    alpha, delta, rho : the mixture.
    ridge : λ plus the ridge due to weight noise.
    m, q, V : overlap with the centre, squared length, response (see ``replica_symmetric.py``).
    bias : b.
    residual, iterations : largest relative violation of the equations, number of evaluations.
    message : why there is no solution; else empty.
    """

    loss: Loss
    alpha: float
    delta: float
    rho: float
    ridge: float
    m: float = np.nan
    q: float = np.nan
    V: float = np.nan
    bias: float = np.nan
    residual: float = np.nan
    iterations: int = 0
    message: str = ""

    @property
    def converged(self) -> bool:
        """Whether this solves the equations."""
        return self.residual < TOLERANCE

    @property
    def width(self) -> float:
        """√(Δq), the standard deviation of the margin of a fresh pattern."""
        return float(np.sqrt(self.delta * self.q))

    @property
    def overlap(self) -> float:
        """R = m/√q."""
        return float(self.m / np.sqrt(self.q))

    @property
    def error(self) -> float:
        """Generalisation error."""
        return float(overlap_error(self.overlap, self.delta, self.bias / np.sqrt(self.q), self.rho))

    @property
    def training_error(self) -> float:
        """P(v < 0). The condition is equivalent to h < ΔV ℓ'(0)."""
        border = self.delta * self.V * float(self.loss.slope(np.zeros(1))[0])
        positive = ndtr((border - self.m - self.bias) / self.width)
        negative = ndtr((border - self.m + self.bias) / self.width)
        return float(self.rho * positive + (1.0 - self.rho) * negative)

    @cached_property
    def stability(self) -> float:
        """αΔ²V² E[(∂f/∂h)²]: replica symmetry holds if this is below 1."""
        margins = self.margins()
        return self.alpha * (self.delta * self.V) ** 2 * margins.mean(margins.response**2)

    @property
    def stable(self) -> bool:
        """Whether replica symmetry is stable."""
        return self.stability < 1.0

    def margins(self, borders: ArrayLike = ()) -> TrainingMargins:
        """Quadrature nodes over the training patterns (see :func:`training_margins`)."""
        D, more = self.delta * self.V, np.atleast_1d(np.asarray(borders, dtype=float))
        return training_margins(self.loss, self.m, self.width, D, self.bias, self.rho, more)

    def conjugates(self, margins: TrainingMargins) -> tuple[float, float, float]:
        """m̂, q̂, V̂ of ``replica_symmetric.py`` at these margins."""
        scale = self.alpha * self.delta
        return (
            self.alpha * margins.mean(margins.f),
            scale * margins.mean(margins.f**2),
            -scale * margins.mean(margins.response),
        )

    def missing(self, message: str) -> ReplicaSymmetricState:
        """The result if no solution exists: warns, and ``message`` holds the reason."""
        warnings.warn(f"replica-symmetric solution: {message}", ConvergenceWarning, stacklevel=3)
        return replace(self, message=message)
