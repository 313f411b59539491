"""Volume, margins and generalisation errors of spherical perceptrons, replica symmetric.

There are P = αN patterns with independent inputs of variance 1. Weights have norm √N. Solutions of
margin κ ≥ 0 have stabilities v = σ w·x/√N ≥ κ on all patterns. They form a convex set on the
sphere, so replica symmetry is exact. With H(x) = Φ(−x) and q the overlap of two solutions,

    log Ω/N = extr_q { ½ log(1−q) + ½ q/(1−q) + α ∫Dz log H((κ − √q z)/√(1−q)) }

for random labels [G88]. At the largest margin, q → 1 and 1/α = ∫Dz (κ − z)₊².

For labels of a **teacher** on the same sphere, with R the overlap of solutions with it,

    log Ω/N = extr_{q,R} { ½ log(1−q) + ½ (q−R²)/(1−q)
                           + 2α ∫Dz Φ(Rz/√(q−R²)) log H((κ − √q z)/√(1−q)) },

and R = q for κ = 0 [GT90]. The generalisation error is arccos(R)/π. The largest margin obeys
1/α = min_R 2 ∫Dz Φ(Rz/√(1−R²)) (κ − z)₊² / (1 − R²) [O90]. The Bayes-optimal answer, a vote of
all solutions, has R = √q [OH91]. Hebb's rule, w ∝ Σ σx, has R = (1 + π/(2α))^(−½) [V89].

Sources: [G88] Gardner, J. Phys. A 21, 257. [V89] Vallet, Europhys. Lett. 8, 747. [GT90] Györgyi
and Tishby, in *Neural Networks and Spin Glasses*. [O90] Opper, Kinzel, Kleinz, Nehl, J. Phys. A
23, L581. [OH91] Opper and Haussler, PRL 66, 2677.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize_scalar, root
from scipy.special import erfcx, expit, log_ndtr, ndtr

from committee.gaussian_mixture.quadrature import REACH, density, gaussian_nodes, panels

#: Most patterns per input with a solution, for random labels and κ = 0 (Cover; Gardner).
CAPACITY = 2.0


def maximum_margin(alpha: float, teacher: bool = False) -> float:
    """Largest margin κ of weights of norm √N on αN patterns (N → ∞).

    Raises
    ------
    ValueError
        α ≤ 0; α > 2 with random labels, where κ would be negative.
    """
    check_alpha(alpha, teacher)
    if not teacher:
        return _root(lambda kappa: alpha * _violation(kappa, 0.0) - 1.0, 0.0, 2.0 / np.sqrt(alpha))
    return _root(
        lambda kappa: alpha * _least_violation(kappa)[0] - 1.0, 0.0, 3.0 + 2.0 / np.sqrt(alpha)
    )


def maximum_margin_overlap(alpha: float) -> float:
    """Overlap R of the maximum-margin solution with the teacher."""
    return _least_violation(maximum_margin(alpha, teacher=True))[1]


def typical_overlap(alpha: float, kappa: float = 0.0) -> float:
    """Overlap q of two typical solutions of margin κ, random labels.

    Raises
    ------
    ValueError
        α outside (0, 2), κ outside [0, maximum_margin(α)).
    """
    check_kappa(alpha, kappa)

    def excess(x: float) -> float:
        q, rest = float(expit(x)), float(expit(-x))
        return x - float(np.log(alpha * _mean_force(q, rest, kappa)))

    return float(expit(brentq(excess, -40.0, 34.0, xtol=1e-13, rtol=1e-15)))


def gardner_volume(alpha: float, kappa: float = 0.0) -> float:
    """log Ω/N ≤ 0, Ω the fraction of the sphere with margin κ, for random labels."""
    q = typical_overlap(alpha, kappa)
    x, weight = _field(q, 1.0 - q, kappa)
    energy = alpha * float(weight @ log_ndtr(-x))
    return 0.5 * np.log1p(-q) + 0.5 * q / (1.0 - q) + energy


def teacher_overlaps(alpha: float, kappa: float = 0.0) -> tuple[float, float]:
    """(q, R): overlap of a typical solution of margin κ with another one, and with the teacher.

    Raises
    ------
    ValueError
        α ≤ 0, κ outside [0, maximum_margin(α, teacher=True)).
    ArithmeticError
        The equations did not converge.
    """
    largest = check_kappa(alpha, kappa, teacher=True)
    start = brentq(lambda x: _teacher_equations(x, alpha), -35.0, 20.0, xtol=1e-13)
    q = R = float(expit(start))
    # Steps shrink with the distance to the largest margin, because 1 − q does.
    left = 1.0 - kappa / largest
    x = np.array([start, np.arctanh(np.sqrt(q))])
    for power in np.linspace(0.0, 1.0, 2 + int(-5.0 * np.log(left)))[1:] if kappa > 0 else ():
        margin = largest * (1.0 - left**power)
        found = root(_teacher_residual, x, (alpha, margin), tol=1e-12)
        x, worst = found.x, float(np.max(np.abs(found.fun)))
        if not worst < 1e-9:
            raise ArithmeticError(
                f"no typical overlaps found at alpha = {alpha:g}, kappa = {margin:g} "
                f"(residual {worst:.2g})."
            )
        q = float(expit(x[0]))
        R = float(np.sqrt(q) * np.tanh(x[1]))
    return q, R


def generalisation_error(overlap: ArrayLike) -> NDArray[np.float64] | float:
    """arccos(R)/π for weights of overlap R with the teacher."""
    error: NDArray[np.float64] = np.arccos(np.asarray(overlap, dtype=float)) / np.pi
    return float(error) if error.ndim == 0 else error


def gibbs_error(alpha: float) -> float:
    """Generalisation error of one typical solution, for teacher labels."""
    return float(generalisation_error(teacher_overlaps(alpha)[1]))


def bayes_error(alpha: float) -> float:
    """Least possible generalisation error, reached by a vote of all solutions."""
    return float(generalisation_error(np.sqrt(teacher_overlaps(alpha)[0])))


def maximum_margin_error(alpha: float) -> float:
    """Generalisation error of the solution of largest margin."""
    return float(generalisation_error(maximum_margin_overlap(alpha)))


def hebb_error(alpha: float) -> float:
    """Generalisation error of Hebb's rule."""
    check_alpha(alpha, teacher=True)
    return float(generalisation_error(1.0 / np.sqrt(1.0 + np.pi / (2.0 * alpha))))


def check_alpha(alpha: float, teacher: bool = False) -> None:
    """Raise ``ValueError`` unless α is finite, positive and, for random labels, at most 2."""
    if not (np.isfinite(alpha) and alpha > 0):
        raise ValueError(f"alpha is {alpha}; a finite number > 0 was expected.")
    if not teacher and alpha > CAPACITY:
        raise ValueError(f"alpha is {alpha}; at most {CAPACITY:g}, the capacity, was expected.")


def check_kappa(alpha: float, kappa: float, teacher: bool = False) -> float:
    """Return the maximum margin; raise ``ValueError`` unless κ ≥ 0 is below it."""
    check_alpha(alpha, teacher)
    most = maximum_margin(alpha, teacher)
    if not 0 <= kappa < most:
        raise ValueError(f"kappa is {kappa}; a number in [0, {most:.6g}) was expected.")
    return most


def force(x: NDArray) -> NDArray[np.float64]:
    """N(x)/H(x) = −d log H/dx."""
    ratio: NDArray[np.float64] = np.sqrt(2.0 / np.pi) / erfcx(x / np.sqrt(2.0))
    return ratio


def _field(q: float, rest: float, kappa: float) -> tuple[NDArray, NDArray]:
    """(κ − √q z)/√(1−q) at nodes z, and their weights; ``rest`` is 1 − q."""
    width = np.sqrt(rest / max(q, 1e-300))
    z, weight = gaussian_nodes(
        (kappa + np.sqrt(rest) * np.array([-6, -3, -1, 0, 1, 3, 6])) / np.sqrt(max(q, 1e-300))
        if width < 1
        else ()
    )
    return (kappa - np.sqrt(q) * z) / np.sqrt(rest), weight


def _mean_force(q: float, rest: float, kappa: float) -> float:
    x, weight = _field(q, rest, kappa)
    return float(weight @ force(x) ** 2)


def _teacher_nodes(q: float, rest: float, R: float, kappa: float) -> tuple[NDArray, ...]:
    """Weights given the label +1 (they sum to one), x, and weight · E[u* | z, label +1]."""
    x, weight = _field(q, rest, kappa)
    z = (kappa - np.sqrt(rest) * x) / np.sqrt(q)
    mean = R / np.sqrt(q) * z
    width = np.sqrt(max(1.0 - R * R / q, 1e-300))
    likely = 2.0 * weight * ndtr(mean / width)
    return likely, x, mean * likely + 2.0 * weight * width * density(mean / width)


def _teacher_equations(x: float, alpha: float) -> float:
    """log(q / α⟨force²⟩): zero at the solution for κ = 0, where R = q."""
    q, rest = float(expit(x)), float(expit(-x))
    weight, field, _ = _teacher_nodes(q, rest, q, 0.0)
    return float(np.log(q / (alpha * (weight @ force(field) ** 2))))


def _teacher_residual(x: NDArray, alpha: float, kappa: float) -> NDArray[np.float64]:
    """Stationarity in q and in R; x = (logit q, artanh R/√q)."""
    q, rest = float(expit(x[0])), float(expit(-x[0]))
    R = float(np.sqrt(q) * np.tanh(x[1]))
    weight, field, teacher = _teacher_nodes(q, rest, R, kappa)
    g = force(field) / np.sqrt(rest)  # ∂ log H/∂h, h = √q z
    # ⟨∂g/∂h⟩ over fresh patterns: −g(g − x/√(1−q)).
    slope = float(weight @ (-g * (g - field / np.sqrt(rest))))
    m_hat = alpha * float(teacher @ g) - alpha * R * slope
    return np.array(
        [
            (rest * rest * alpha * float(weight @ g**2) - (q - R * R)) / rest,
            (rest * m_hat - R) / rest,
        ]
    )


def _violation(kappa: float, R: float) -> float:
    """E (κ − z)₊² / (1 − R²) over patterns with a teacher of overlap R."""
    width = np.sqrt(1.0 - R * R)
    bend = -width * np.array([8.0, 4.0, 2.0, 1.0, 0.0])
    z, weight = panels(np.clip(np.append(np.linspace(-REACH, kappa, 9), bend), -REACH, kappa))
    weight = weight * 2.0 * ndtr(R * z / width) * np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)
    return float(weight @ (kappa - z) ** 2 / width**2)


def _least_violation(kappa: float) -> tuple[float, float]:
    """Minimum over R = tanh x, and the R of the minimum."""
    found = minimize_scalar(
        lambda x: _violation(kappa, float(np.tanh(x))),
        bounds=(0.0, 8.0),
        method="bounded",
        options={"xatol": 1e-11},
    )
    return float(found.fun), float(np.tanh(found.x))


def _root(function: object, low: float, high: float) -> float:
    return float(brentq(function, low, high, xtol=1e-13))
