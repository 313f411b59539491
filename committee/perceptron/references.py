"""References of a local entropy: distribution of stabilities on their training patterns.

A reference w̃ of norm √N has the stability v on a training pattern. Trained without this pattern,
its stability would be h + √(1−q) ξ, ξ standard normal. The cavity field h ~ N(0, q) is common to
all references of one kind. At given h,

    typical      v ~ N(h, 1−q) given v ≥ κ: a sample of the solutions of margin κ,
    max-margin   v = max(h, κ_max),                                            q = 1,
    hebb         v = h + 1/√q̃,                                                  q = 1,
    loss         √q̃ v = argmin_x [ℓ(x) + (x − √q̃ h)²/(2Ṽ)], with a ridge λ,     q = 1.

q̃ is ‖w̃‖²/N before rescaling. For Hebb, w̃ = Σ σx/√N, it is α, or α + 2α²/π with a teacher. A
minimiser of Σ_μ ℓ(σ_μ w̃·x_μ/√N) + λ‖w̃‖²/2 obeys, with f = −ℓ'(√q̃ v),

    λ q̃ = α⟨f √q̃ v⟩,   λ m = α⟨f u*⟩,   1/Ṽ = λ − α⟨∂f/∂(√q̃ h)⟩.

With a **teacher** of preactivation u*, R is its overlap with w̃ (m = √q̃ R), E[u* | h] = Rh/q. The
label is the sign of u*, which multiplies the density of h by 2Φ(Rh/√(q² − qR²)).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import root
from scipy.special import ndtr

from committee.gaussian_mixture.losses import get_loss
from committee.gaussian_mixture.margins import training_margins
from committee.gaussian_mixture.quadrature import density, gaussian_nodes, panels
from committee.gaussian_mixture.state import ConvergenceWarning
from committee.perceptron.gardner import (
    check_alpha,
    maximum_margin,
    maximum_margin_overlap,
    teacher_overlaps,
    typical_overlap,
)

ReferenceName = Literal["typical", "max-margin", "hebb", "logistic", "hinge"]
#: Largest relative residual of a converged reference's equations.
TOLERANCE = 1e-8


class Nodes(NamedTuple):
    """Quadrature over patterns: z = h/√q, v, and weights that sum to one without a teacher."""

    z: NDArray[np.float64]
    v: NDArray[np.float64]
    weight: NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """A kind of reference at N → ∞.

    Attributes
    ----------
    name, alpha, teacher
    q : overlap of two references on the same patterns; 1 if the reference is unique.
    R : overlap with the teacher; 0 without one.
    nodes : function of a width; its nodes are dense within this width of v = 0.
    converged, residual : whether its equations are solved, and their residual.
    """

    name: str
    alpha: float
    teacher: bool
    q: float
    R: float
    nodes: Callable[[float], Nodes]
    converged: bool = True
    residual: float = 0.0

    @property
    def label_width(self) -> float:
        """Standard deviation of u* at given h."""
        return float(np.sqrt(1.0 - self.R**2 / self.q))

    @property
    def training_error(self) -> float:
        """Fraction of patterns that the reference itself gets wrong."""
        _, v, weight = self.with_labels(1e-3)
        return float(np.sum(weight[v < 0]))

    def with_labels(self, width: float) -> Nodes:
        """Nodes with weights that include the teacher's label and sum to one."""
        z, v, weight = self.nodes(width)
        if self.teacher:
            mean = self.R / np.sqrt(self.q) * z
            weight = 2.0 * weight * ndtr(mean / self.label_width)
        return Nodes(z, v, weight)

    def teacher_field(self, width: float) -> NDArray[np.float64]:
        """E[u* | h, label] times the weights of ``with_labels``; zero without a teacher."""
        z, _, weight = self.nodes(width)
        if not self.teacher:
            return np.zeros_like(z)
        mean = self.R / np.sqrt(self.q) * z
        t = mean / self.label_width
        width = self.label_width
        field: NDArray[np.float64] = 2.0 * weight * (mean * ndtr(t) + width * density(t))
        return field


def make_reference(
    name: ReferenceName,
    alpha: float,
    kappa: float = 0.0,
    ridge: float = 0.01,
    teacher: bool = False,
) -> Reference:
    """Solve the equations of a reference.

    Parameters
    ----------
    name : "typical" (a sample of the solutions of margin κ), "max-margin", "hebb", or a loss
        to minimise: "logistic", "hinge".
    alpha : P/N; at most 2 with random labels.
    kappa : κ ≥ 0 of a typical reference, below the maximum margin.
    ridge : λ > 0 of a loss.
    teacher : labels come from a teacher; else they are random.

    Raises
    ------
    ValueError
        An unknown name, α, κ or λ out of range.
    """
    if name not in get_args(ReferenceName):
        raise ValueError(
            f"reference is {name!r}; one of {', '.join(get_args(ReferenceName))} was expected."
        )
    if kappa != 0 and name != "typical":
        raise ValueError(f"kappa is {kappa} for {name!r}; only typical references take a margin.")
    check_alpha(alpha, teacher)
    if name == "typical":
        q, R = teacher_overlaps(alpha, kappa) if teacher else (typical_overlap(alpha, kappa), 0.0)
        return Reference(name, alpha, teacher, q, R, lambda width: _typical(q, kappa, width))
    if name == "max-margin":
        largest = maximum_margin(alpha, teacher)
        R = maximum_margin_overlap(alpha) if teacher else 0.0
        return Reference(name, alpha, teacher, 1.0, R, lambda width: _largest(largest, width))
    if name == "hebb":
        m = alpha * np.sqrt(2.0 / np.pi) if teacher else 0.0
        length = float(np.sqrt(alpha + m * m))
        nodes = _shifted(1.0 / length)
        return Reference(name, alpha, teacher, 1.0, m / length, nodes)
    if not (np.isfinite(ridge) and ridge > 0):
        raise ValueError(f"ridge is {ridge}; a finite number > 0 was expected.")
    return _minimiser(name, alpha, ridge, teacher)


def _typical(q: float, kappa: float, width: float) -> Nodes:
    """Nodes are dense within ``width`` of v = κ, and within √(1−q) of h = κ."""
    spread = np.sqrt(1.0 - q)
    bend = (kappa + spread * np.array([-4.0, -1.0, 1.0, 4.0])) / np.sqrt(q)
    bend = bend[np.abs(bend) < 8.0]
    z, outer = panels(np.append(np.linspace(-8.0, 8.0, 7), bend), order=10)
    outer = outer * np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)
    fine = width / spread * np.array([0.5, 1.5, 3.0, 6.0])
    parts = []
    for position, weight in zip(z, outer, strict=True):
        gap = (np.sqrt(q) * position - kappa) / spread  # h above κ, in units of the spread
        # x = (v − κ)/√(1−q) ends where its density exp(−(x − gap)²/2) has fallen to e^−32.
        start, stop = max(gap - 8.0, 0.0), gap + np.sqrt(min(gap, 0.0) ** 2 + 64.0)
        coarse = start + (stop - start) * np.array([0.0, 0.12, 0.3, 0.5, 0.7, 1.0])
        x, dx = panels(np.clip(np.append(coarse, fine), start, stop), order=8)
        share = dx * np.exp(-0.5 * (x - gap) ** 2 + 0.5 * min(gap, 0.0) ** 2)
        parts.append((np.full_like(x, position), x, weight * share / share.sum()))
    z, x, weights = (np.concatenate(part) for part in zip(*parts, strict=True))
    kept = weights > 1e-15
    return Nodes(z[kept], kappa + spread * x[kept], weights[kept])


def _largest(kappa: float, width: float) -> Nodes:
    z, weight = gaussian_nodes(np.append(width * np.arange(-4.0, 5.0, 2.0), kappa))
    return Nodes(z, np.maximum(z, kappa), weight)


def _shifted(shift: float) -> Callable[[float], Nodes]:
    def nodes(width: float) -> Nodes:
        z, weight = gaussian_nodes(width * np.arange(-4.0, 5.0, 2.0) - shift)
        return Nodes(z, z + shift, weight)

    return nodes


def _minimiser(name: ReferenceName, alpha: float, ridge: float, teacher: bool) -> Reference:
    """Follow the minimiser from a large ridge, where it is close to Hebb's rule, to λ."""
    loss = get_loss(name)

    def nodes(state: NDArray, width: float = 0.0) -> tuple[NDArray, ...]:
        q, V, _ = _unpack(state)
        margins = np.sqrt(q) * width * np.arange(-4.0, 5.0, 2.0)
        learnt = training_margins(loss, 0.0, np.sqrt(q), V, borders=margins)
        return learnt.h / np.sqrt(q), learnt.v, learnt.f, learnt.response, learnt.weight

    def residual(state: NDArray, strength: float) -> NDArray[np.float64]:
        if not np.all(np.abs(state) < 40):
            return np.full(len(state), 1e3)
        q, V, R = _unpack(state)
        z, v, f, response, weight = nodes(state)
        stretch = np.sqrt(1.0 - R * R)
        likely = 2.0 * weight * ndtr(R * z / stretch) if teacher else weight
        left = [
            alpha * (likely @ (f * v)) / (strength * q) - 1.0,
            V * (strength - alpha * (likely @ response)) - 1.0,
        ]
        if teacher:
            along = R * z * likely + 2.0 * weight * stretch * density(R * z / stretch)
            left.append(alpha * (along @ f) / (strength * np.sqrt(q)) - R)
        return np.array(left)

    start = max(10.0 * ridge, 10.0)
    m = alpha * np.sqrt(2.0 / np.pi) if teacher else 0.0
    square = (alpha + m * m) * 0.25 / start**2
    state = np.array([np.log(square), -np.log(start), np.arctanh(m / np.hypot(m, np.sqrt(alpha)))])
    state = state[: 3 if teacher else 2]
    worst = np.inf
    for strength in np.geomspace(start, ridge, max(2, int(4 * np.log(start / ridge)))):
        found = root(residual, state, (strength,), tol=1e-12)
        worst, state = float(np.max(np.abs(found.fun))), found.x
    if worst > TOLERANCE:
        warnings.warn(
            f"{name}: the reference's equations have the residual {worst:.2g} at ridge {ridge:g}.",
            ConvergenceWarning,
            stacklevel=3,
        )
    q, _, R = _unpack(state)
    length = np.sqrt(q)

    def normalised(width: float) -> Nodes:
        z, v, _, _, weight = nodes(state, width)
        return Nodes(z, v / length, weight)

    return Reference(name, alpha, teacher, 1.0, R, normalised, worst <= TOLERANCE, worst)


def _unpack(state: NDArray) -> tuple[float, float, float]:
    """q̃, Ṽ, R."""
    R = float(np.tanh(state[2])) if len(state) > 2 else 0.0
    return float(np.exp(state[0])), float(np.exp(state[1])), R
