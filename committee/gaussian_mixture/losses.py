"""Convex losses of the margin x = y (w·x/√N + b), and what a margin h becomes under them.

The replica-symmetric equations need one thing of a loss ℓ: the margin of a training pattern,
``v = argmin_x [ℓ(x) + (x − h)²/(2D)]``, when it would have been h had the pattern not been learnt.
It obeys ``h = v + D ℓ'(v)``: explicit in v. Averages are therefore taken over v
(``margins.py``) and need no inner minimisation; a kink of the loss is a range of h with the same v.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr

LossName = Literal["square", "logistic", "hinge"]


class Loss:
    """A loss ℓ(x): value, slope ℓ' and curvature ℓ'' (one-sided at a kink).

    ``kinks`` are (position, slope on the left, slope on the right); ``knots`` divide the axis
    where the curvature changes, for quadrature; ``steepest`` bounds |ℓ'| (inf if it has no bound).
    """

    name: ClassVar[str]
    kinks: ClassVar[tuple[tuple[float, float, float], ...]] = ()

    @property
    def steepest(self) -> float:
        return np.inf

    @property
    def knots(self) -> NDArray[np.float64]:
        return np.zeros(0)

    def value(self, x: NDArray) -> NDArray[np.float64]:
        raise TypeError(f"{type(self).__name__} has no value.")

    def slope(self, x: NDArray) -> NDArray[np.float64]:
        raise TypeError(f"{type(self).__name__} has no slope.")

    def curvature(self, x: NDArray) -> NDArray[np.float64]:
        raise TypeError(f"{type(self).__name__} has no curvature.")

    def proximal(self, h: NDArray, D: float) -> NDArray[np.float64]:
        """Solve ``v + D ℓ'(v) = h`` for v by bisection (a convex loss: a rising left side)."""
        h = np.asarray(h, dtype=float)
        if np.isfinite(self.steepest):
            low, high = h - D * self.steepest, h + D * self.steepest
        else:
            end = h - D * self.slope(h)
            low, high = np.minimum(h, end), np.maximum(h, end)
        for _ in range(60):
            middle = 0.5 * (low + high)
            above = middle + D * self.slope(middle) > h
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        return 0.5 * (low + high)


class Square(Loss):
    """ℓ(x) = (1 − x)²/2."""

    name = "square"

    def value(self, x: NDArray) -> NDArray[np.float64]:
        return 0.5 * (1.0 - x) ** 2

    def slope(self, x: NDArray) -> NDArray[np.float64]:
        return x - 1.0

    def curvature(self, x: NDArray) -> NDArray[np.float64]:
        return np.ones_like(x)

    def proximal(self, h: NDArray, D: float) -> NDArray[np.float64]:
        return (h + D) / (1.0 + D)


class Hinge(Loss):
    """ℓ(x) = max(0, 1 − x)."""

    name = "hinge"
    kinks = ((1.0, -1.0, 0.0),)

    @property
    def steepest(self) -> float:
        return 1.0

    def value(self, x: NDArray) -> NDArray[np.float64]:
        return np.maximum(0.0, 1.0 - x)

    def slope(self, x: NDArray) -> NDArray[np.float64]:
        return np.where(x < 1.0, -1.0, 0.0)

    def curvature(self, x: NDArray) -> NDArray[np.float64]:
        return np.zeros_like(x)

    def proximal(self, h: NDArray, D: float) -> NDArray[np.float64]:
        return np.where(h > 1.0, h, np.minimum(h + D, 1.0))


_RIGHT = np.array([0.0, 1.5, 3.0, 5.0, 7.5, 11.0, 16.0, 24.0, 40.0])
_LOGISTIC_KNOTS = np.concatenate([-_RIGHT[:0:-1], _RIGHT])


class Logistic(Loss):
    """ℓ(x) = log(1 + e^(−x))."""

    name = "logistic"

    @property
    def steepest(self) -> float:
        return 1.0

    @property
    def knots(self) -> NDArray[np.float64]:
        return _LOGISTIC_KNOTS

    def value(self, x: NDArray) -> NDArray[np.float64]:
        return np.logaddexp(0.0, -x)

    def slope(self, x: NDArray) -> NDArray[np.float64]:
        return -expit(-x)

    def curvature(self, x: NDArray) -> NDArray[np.float64]:
        return expit(x) * expit(-x)


@dataclass(frozen=True)
class ErrorUnderNoise(Loss):
    """ℓ(x) = Q(x/σ): the probability that noise of width σ turns a margin x into an error.

    Not convex: for x < 0 it bends down, by at most 0.242/σ². ``h(v)`` still rises everywhere,
    and v follows h without a jump, as long as D < σ²/0.242.
    """

    sigma: float

    name = "error under noise"

    @property
    def knots(self) -> NDArray[np.float64]:
        return self.sigma * np.arange(-9.0, 9.5, 1.0)

    @property
    def steepest(self) -> float:
        return float(1.0 / (self.sigma * np.sqrt(2.0 * np.pi)))

    @property
    def largest_D(self) -> float:
        """Least D at which v jumps with h: −1/min ℓ'' = σ²√(2πe)."""
        return float(self.sigma**2 * np.sqrt(2.0 * np.pi * np.e))

    def value(self, x: NDArray) -> NDArray[np.float64]:
        return ndtr(-x / self.sigma)

    def slope(self, x: NDArray) -> NDArray[np.float64]:
        return -_density(x / self.sigma) / self.sigma

    def curvature(self, x: NDArray) -> NDArray[np.float64]:
        return x * _density(x / self.sigma) / self.sigma**3


@dataclass(frozen=True)
class NoisyHinge(Loss):
    """Hinge loss averaged over a margin noise of width s: (1−x) Φ(t) + s N(t), t = (1−x)/s."""

    width: float

    name = "hinge averaged over noise"

    @property
    def steepest(self) -> float:
        return 1.0

    @property
    def knots(self) -> NDArray[np.float64]:
        return 1.0 + self.width * np.arange(-9.0, 9.5, 1.0)

    def value(self, x: NDArray) -> NDArray[np.float64]:
        t = (1.0 - x) / self.width
        return self.width * (t * ndtr(t) + _density(t))

    def slope(self, x: NDArray) -> NDArray[np.float64]:
        return -ndtr((1.0 - x) / self.width)

    def curvature(self, x: NDArray) -> NDArray[np.float64]:
        return _density((1.0 - x) / self.width) / self.width


@dataclass(frozen=True)
class NoisyLogistic(Loss):
    """Logistic loss averaged over a margin noise of width s, ``E_z log(1 + e^(−x−sz))``.

    The trapezoidal rule in z: its error falls as exp(−2π²/(s·step)), since the nearest pole lies
    at distance π/s from the real axis.
    """

    width: float

    name = "logistic averaged over noise"

    @property
    def steepest(self) -> float:
        return 1.0

    @cached_property
    def rule(self) -> tuple[NDArray, NDArray]:
        """Nodes and weights of the average over z."""
        step = min(0.5, 0.7 / self.width)  # exp(−2π²/0.7) < 1e-12, and exp(−2π²/0.5²) as well
        half = int(np.ceil(8.0 / step))
        z = step * np.arange(-half, half + 1, dtype=float)
        weight: NDArray[np.float64] = step * _density(z)
        return z, weight

    @property
    def knots(self) -> NDArray[np.float64]:
        return np.hypot(1.0, self.width / 2.0) * _LOGISTIC_KNOTS

    def value(self, x: NDArray) -> NDArray[np.float64]:
        z, weight = self.rule
        return np.logaddexp(0.0, -x[..., None] - self.width * z) @ weight

    def slope(self, x: NDArray) -> NDArray[np.float64]:
        z, weight = self.rule
        return -expit(-x[..., None] - self.width * z) @ weight

    def curvature(self, x: NDArray) -> NDArray[np.float64]:
        z, weight = self.rule
        p = expit(x[..., None] + self.width * z)
        return (p * (1.0 - p)) @ weight


LOSSES: dict[str, Loss] = {"square": Square(), "logistic": Logistic(), "hinge": Hinge()}


def get_loss(name: str) -> Loss:
    """The loss of that name; ``ValueError`` for an unknown one."""
    if name not in LOSSES:
        raise ValueError(f"loss is {name!r}; one of {', '.join(LOSSES)} was expected.")
    return LOSSES[name]


def averaged_over_noise(loss: Loss, width: float) -> Loss:
    """``E_z ℓ(x + width z)``, z standard normal, up to a constant for the square loss."""
    if width == 0 or loss.name == "square":
        return loss
    return NoisyHinge(width) if loss.name == "hinge" else NoisyLogistic(width)


def _density(z: NDArray) -> NDArray[np.float64]:
    return np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)
