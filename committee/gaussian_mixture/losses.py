"""Convex losses of the margin x = y (w·x/√N + b), and the margins of patterns trained with them.

The replica-symmetric equations need one function of a loss ℓ. A pattern with the margin h before
it is learnt has the margin ``v = argmin_x [ℓ(x) + (x − h)²/(2D)]`` afterwards. This v obeys
``h = v + D ℓ'(v)``, which is explicit in v. So averages are taken over v (``margins.py``) without
an inner minimisation. At a kink of the loss, a range of h has the same v.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, ndtr

from committee.gaussian_mixture.quadrature import density

LossName = Literal["square", "logistic", "hinge"]


class Loss(ABC):
    """A loss ℓ(x): value, slope ℓ' and curvature ℓ'' (one-sided at a kink).

    ``kinks`` are (position, slope on the left, slope on the right). ``knots`` divide the axis
    where the curvature changes, for quadrature. ``steepest`` bounds |ℓ'|.
    """

    name: str
    steepest: float = 1.0
    kinks: tuple[tuple[float, float, float], ...] = ()
    knots: NDArray[np.float64] = np.zeros(0)

    @abstractmethod
    def value(self, x: NDArray) -> NDArray[np.float64]: ...

    @abstractmethod
    def slope(self, x: NDArray) -> NDArray[np.float64]: ...

    @abstractmethod
    def curvature(self, x: NDArray) -> NDArray[np.float64]: ...

    def proximal(self, h: NDArray, D: float) -> NDArray[np.float64]:
        """Solve ``v + D ℓ'(v) = h`` for v by bisection: the left side increases with v."""
        low, high = h - D * self.steepest, h + D * self.steepest
        for _ in range(60):
            middle = 0.5 * (low + high)
            above = middle + D * self.slope(middle) > h
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        return 0.5 * (low + high)


class Square(Loss):
    """ℓ(x) = (1 − x)²/2."""

    name = "square"
    steepest = np.inf

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
_STEPS = np.arange(-9.0, 9.5, 1.0)


class Logistic(Loss):
    """ℓ(x) = log(1 + e^(−x))."""

    name = "logistic"
    knots = _LOGISTIC_KNOTS

    def value(self, x: NDArray) -> NDArray[np.float64]:
        return np.logaddexp(0.0, -x)

    def slope(self, x: NDArray) -> NDArray[np.float64]:
        return -expit(-x)

    def curvature(self, x: NDArray) -> NDArray[np.float64]:
        return expit(x) * expit(-x)


class ErrorUnderNoise(Loss):
    """ℓ(x) = Q(x/σ): the probability that noise of width σ turns a margin x into an error.

    Not convex: for x < 0 its curvature is negative, but at least −0.242/σ². As long as D is below
    ``largest_D`` = −1/min ℓ'' = σ²√(2πe), h(v) increases everywhere and v(h) has no jump.
    """

    name = "error under noise"

    def __init__(self, sigma: float) -> None:
        self.sigma, self.knots = sigma, sigma * _STEPS
        self.steepest = float(1.0 / (sigma * np.sqrt(2.0 * np.pi)))
        self.largest_D = float(sigma**2 * np.sqrt(2.0 * np.pi * np.e))

    def value(self, x: NDArray) -> NDArray[np.float64]:
        return ndtr(-x / self.sigma)

    def slope(self, x: NDArray) -> NDArray[np.float64]:
        return -density(x / self.sigma) / self.sigma

    def curvature(self, x: NDArray) -> NDArray[np.float64]:
        return x * density(x / self.sigma) / self.sigma**3


class NoisyHinge(Loss):
    """Hinge loss averaged over a margin noise of width s: (1−x) Φ(t) + s N(t), t = (1−x)/s.

    ``width`` s is a number, or has one entry for each margin x.
    """

    name = "hinge averaged over noise"

    def __init__(self, width: ArrayLike) -> None:
        self.width = np.asarray(width, dtype=float)
        self.knots = 1.0 + self.width.max() * _STEPS

    def value(self, x: NDArray) -> NDArray[np.float64]:
        t = (1.0 - x) / self.width
        return self.width * (t * ndtr(t) + density(t))

    def slope(self, x: NDArray) -> NDArray[np.float64]:
        return -ndtr((1.0 - x) / self.width)

    def curvature(self, x: NDArray) -> NDArray[np.float64]:
        return density((1.0 - x) / self.width) / self.width


class NoisyLogistic(Loss):
    """Logistic loss averaged over a margin noise of width s, ``E_z log(1 + e^(−x−sz))``.

    ``width`` s is a number, or has one entry for each margin x. The average is a trapezoidal rule
    in z with a step for the largest s. Its error falls as exp(−2π²/(s·step)), since the nearest
    pole lies at distance π/s from the real axis.
    """

    name = "logistic averaged over noise"

    def __init__(self, width: ArrayLike) -> None:
        self.width = np.asarray(width, dtype=float)
        largest = float(self.width.max())
        self.knots = np.hypot(1.0, largest / 2.0) * _LOGISTIC_KNOTS
        step = min(0.5, 0.7 / largest)  # exp(−2π²/0.7) < 1e-12, and exp(−2π²/0.5²) as well
        half = int(np.ceil(8.0 / step))
        self.z = step * np.arange(-half, half + 1, dtype=float)
        self.weight = step * density(self.z)

    def noisy(self, x: NDArray) -> NDArray[np.float64]:
        """x + s z, with the nodes z as the last axis."""
        return x[..., None] + self.width[..., None] * self.z

    def value(self, x: NDArray) -> NDArray[np.float64]:
        return np.logaddexp(0.0, -self.noisy(x)) @ self.weight

    def slope(self, x: NDArray) -> NDArray[np.float64]:
        return -expit(-self.noisy(x)) @ self.weight

    def curvature(self, x: NDArray) -> NDArray[np.float64]:
        p = expit(self.noisy(x))
        return (p * (1.0 - p)) @ self.weight


LOSSES: dict[LossName, Loss] = {"square": Square(), "logistic": Logistic(), "hinge": Hinge()}


def get_loss(name: str) -> Loss:
    """The loss of that name; ``ValueError`` for an unknown one."""
    if name not in LOSSES:
        raise ValueError(f"loss is {name!r}; one of {', '.join(LOSSES)} was expected.")
    return LOSSES[name]


def averaged_over_noise(loss: Loss, width: ArrayLike) -> Loss:
    """``E_z ℓ(x + width z)``, z standard normal, up to a constant for the square loss."""
    if not np.any(width) or loss.name == "square":
        return loss
    return NoisyHinge(width) if loss.name == "hinge" else NoisyLogistic(width)
