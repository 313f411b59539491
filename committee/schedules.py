"""Schedules: parameters as functions of time, for all packages.

A schedule is a frozen dataclass. Call it with the time τ, a number or an array of numbers. Time is
in epochs for the committee machine, and in optimizer steps or epochs for deep networks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Schedule(Protocol):
    """Anything that maps a time (or an array of times) to the parameter's value."""

    def __call__(self, time: ArrayLike) -> NDArray[np.float64]: ...


@dataclass(frozen=True)
class Exponential:
    """``value(τ) = start · (1 + rate)^τ``, the focusing schedule of [P21] Sec. 4."""

    start: float
    rate: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.start):
            raise ValueError(f"start is {self.start}; a finite number was expected.")
        if not self.rate > -1:
            raise ValueError(f"rate is {self.rate}; a number above -1 was expected.")

    def __call__(self, time: ArrayLike) -> NDArray[np.float64]:
        return self.start * np.exp(np.asarray(time, dtype=np.float64) * math.log1p(self.rate))

    @classmethod
    def growing_by(cls, factor: float, start: float, total: float) -> Exponential:
        """The schedule that grows by ``factor`` in ``total`` steps of time."""
        return cls(start, math.expm1(math.log(factor) / total))


@dataclass(frozen=True)
class Cosine:
    """``value(τ) = ½ maximum (1 − cos(π τ/total))``: from 0 to ``maximum`` in ``total``.

    [P21] App. C prints a cosine that starts high and turns negative. This is the increasing one
    that its text describes. After ``total`` it stays at ``maximum``.
    """

    maximum: float
    total: float

    def __post_init__(self) -> None:
        if not self.total > 0:
            raise ValueError(f"total is {self.total}; a positive number was expected.")

    def __call__(self, time: ArrayLike) -> NDArray[np.float64]:
        fraction = np.clip(np.asarray(time, dtype=np.float64) / self.total, 0.0, 1.0)
        return 0.5 * self.maximum * (1.0 - np.cos(np.pi * fraction))


@dataclass(frozen=True)
class Constant:
    """``value(τ) = value``."""

    value: float

    def __call__(self, time: ArrayLike) -> NDArray[np.float64]:
        return np.full(np.shape(time), self.value, dtype=np.float64)
