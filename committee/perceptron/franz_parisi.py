"""Local entropy around references of the spherical perceptron: Franz–Parisi, replica symmetric.

Around a reference w̃ of norm √N (``references.py``),

    Z(Δ) = ∫ dw N(w; w̃, Δ·1) Π_μ Θ[σ_μ w·x_μ > 0],     φ(Δ) = log Z / N       (N → ∞).

The central reference has n → 0 replicas, which carry its dependence on the patterns. On a training
pattern, the preactivation of w is Gaussian with variance V and mean ω = A h + B v + C u* + e ξ.
Here ξ is standard normal, v is the preactivation of the reference, h is the part of v that all
references share, and u* is the preactivation of the teacher. With S = ‖⟨w⟩ − w̃‖²/N and averages
over the training patterns,

    φ = extr { ½ [1 + log(V/Δ) + (e² + (q−R²)A²)/V − (V + S)/Δ] + α ⟨log Φ(ω/√V)⟩ },
    S = e² + qA² + (B−1)² + C² + 2qA(B−1) + 2RC(A + B − 1).

With g = ∂ log Φ/∂ω and g' = ∂g/∂ω, the conditions of stationarity are

    1/V = 1/Δ − α⟨g'⟩,   e² + (q−R²)A² = αV²⟨g²⟩,
    (q−R²)A/V − [qA + q(B−1) + RC]/Δ + α⟨gh⟩ = 0,
    qA + B − 1 + RC = αΔ⟨gv⟩,   R(A + B − 1) + C = αΔ⟨gu*⟩,

and r = ⟨‖w−w̃‖²⟩/(NΔ) = (V + S)/Δ. Without a teacher, R = C = 0. As in ``message_passing``,
d = rΔ/2 and Φ_LE(d) = φ + ½(r − 1 − log r). The solutions form a convex set, so replica symmetry
is exact wherever it is exact for the reference.

Z counts weights without training errors. So Φ_LE(d) → 0 for d → 0 only if the reference makes no
errors. Hebb's rule makes some, and there are no solutions near it.

Sources: Franz and Parisi, J. Phys. I 5, 1401 (1995); Baldassi et al., PRL 127, 278301 (2021).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import root
from scipy.special import log_ndtr, ndtr

from committee.gaussian_mixture.franz_parisi import FranzParisiCurve
from committee.gaussian_mixture.quadrature import hermite_nodes
from committee.perceptron.gardner import force
from committee.perceptron.references import Reference, ReferenceName, make_reference
from message_passing.local_entropy import check_ladder

#: Residual of the equations, in units of the natural size of each order parameter.
TOLERANCE = 1e-8
_Z, _ZW = hermite_nodes(32)


def franz_parisi(
    alpha: float,
    variances: ArrayLike,
    reference: ReferenceName | Reference = "typical",
    kappa: float = 0.0,
    ridge: float = 0.01,
    teacher: bool = False,
) -> FranzParisiCurve:
    """Typical local entropy of the zero-error weights around a reference.

    Parameters
    ----------
    alpha : P/N, at most 2 for random labels.
    variances : (M,), increasing Δ > 0.
    reference : a name, or a :class:`Reference` (the arguments below are then ignored).
    kappa, ridge, teacher : see :func:`make_reference`.

    Raises
    ------
    ValueError
        Variances that do not increase; another α than the reference's; bad reference arguments.
    """
    ladder = check_ladder(variances, "variances")
    if not isinstance(reference, Reference):
        reference = make_reference(reference, alpha, kappa, ridge, teacher)
    elif reference.alpha != alpha:
        raise ValueError(f"alpha is {alpha}; {reference.alpha}, the reference's, was expected.")
    path = _path(ladder, backwards=reference.training_error > 1e-6)
    rows: dict[float, tuple[float, ...]] = {}
    solved: list[tuple[float, NDArray]] = []
    for variance in map(float, path):
        system = _Saddle(reference, variance)
        x, worst = system.solve(solved)
        if worst < 1e-4:
            solved = [*solved[-1:], (np.log(variance), x)]
        if variance in ladder:
            rows[variance] = (variance, *system.observe(x), max(worst, reference.residual))
    return FranzParisiCurve.from_rows(reference, [rows[float(v)] for v in ladder], TOLERANCE)


def _path(ladder: NDArray[np.float64], backwards: bool) -> NDArray[np.float64]:
    """The ladder with its gaps filled, starting where the equations are easy to solve.

    This is small Δ, or large Δ (``backwards``) if there are no solutions near the reference.
    """
    ends = [max(10.0, ladder[-1])] if backwards else [min(0.02, ladder[0])]
    wanted = np.unique(np.append(ladder, ends))
    parts = [
        np.geomspace(low, high, 1 + int(np.ceil(np.log(high / low) / np.log(4.0))))[:-1]
        for low, high in pairwise(wanted)
    ]
    path = np.unique(np.concatenate([*parts, wanted]))
    return path[::-1] if backwards else path


class _Saddle:
    """Conditions of stationarity at one Δ, in x = (log V/Δ, e/√Δ, A√(q/Δ), (B−1)/√Δ, C/√Δ)."""

    def __init__(self, reference: Reference, variance: float) -> None:
        self.ref, self.variance = reference, variance
        self.size = 5 if reference.teacher else 4
        self.z, self.v, self.weight = reference.nodes(np.sqrt(variance))
        self.distinct, self.index = np.unique(self.z, return_inverse=True)
        self.root = np.sqrt(variance)

    def solve(self, solved: list[tuple[float, NDArray]]) -> tuple[NDArray[np.float64], float]:
        """The root and its residual; the search starts at an extrapolation of earlier roots."""
        starts = [np.zeros(self.size)]
        if solved:
            starts.insert(0, solved[-1][1])
        if len(solved) > 1:
            (before, older), (last, newer) = solved
            step = (np.log(self.variance) - last) / (last - before)
            starts.insert(0, newer + step * (newer - older))
        best, worst = starts[-1], np.inf
        for start in starts:
            found = root(self.residual, start, tol=1e-11)
            size = float(np.max(np.abs(found.fun)))
            if size < worst:
                best, worst = found.x, size
            if worst < TOLERANCE:
                break
        return best, worst

    def unpack(self, x: NDArray) -> tuple[float, float, float, float, float]:
        """V, e, A√q, B, C."""
        e, a, b = self.root * x[1:4]
        C = self.root * x[4] if self.ref.teacher else 0.0
        return float(self.variance * np.exp(x[0])), float(e), float(a), 1.0 + float(b), float(C)

    def fields(self, x: NDArray) -> tuple[NDArray, NDArray, NDArray | None]:
        """ω/√V at all nodes (nodes, noise), their weights, and the weights times E[u*]."""
        V, e, a, B, C = self.unpack(x)
        ref = self.ref
        centre, weight = a * self.z + B * self.v, self.weight[:, None]
        if not ref.teacher:
            return (centre[:, None] + e * _Z) / np.sqrt(V), weight * _ZW, None
        # At given h, C u* + e ξ is one Gaussian ζ. The probability of the label given ζ changes
        # on the scale of the spread of u* given ζ, so panels are dense on this scale.
        mean, width = ref.R / np.sqrt(ref.q) * self.distinct, ref.label_width
        noise = max(float(np.hypot(C * width, e)), 1e-150)
        share = C * width / noise
        rest = width * np.sqrt(max(1.0 - share**2, 1e-10))
        zeta, zeta_weight = _noise_nodes(-mean, width * share, rest)
        told = mean[:, None] + width * share * zeta
        likely = zeta_weight * 2.0 * ndtr(told / rest)
        density = zeta_weight * 2.0 * np.exp(-0.5 * (told / rest) ** 2) / np.sqrt(2.0 * np.pi)
        along = told * likely + rest * density
        offset = C * mean[:, None] + noise * zeta
        t = (centre[:, None] + offset[self.index]) / np.sqrt(V)
        return t, weight * likely[self.index], weight * along[self.index]

    def averages(self, x: NDArray) -> NDArray[np.float64]:
        """⟨g'⟩, ⟨g²⟩, ⟨gz⟩, ⟨gv⟩, ⟨gu*⟩ over the training patterns."""
        t, weight, along = self.fields(x)
        width = np.sqrt(self.unpack(x)[0])
        g = force(-t) / width
        weighted = weight * g
        square = float(np.sum(weighted * g))
        slope = -square - float(np.sum(weighted * t)) / width
        each = weighted.sum(axis=1)
        teacher = 0.0 if along is None else float(np.sum(along * g))
        return np.array([slope, square, self.z @ each, self.v @ each, teacher])

    def residual(self, x: NDArray) -> NDArray[np.float64]:
        if not np.all(np.isfinite(x)) or np.any(np.abs(x) > 1e3):
            return np.full(self.size, 1e3)
        ref, variance = self.ref, self.variance
        V, e, a, B, C = self.unpack(x)
        slope, g2, gz, gv, gu = self.averages(x)
        alpha, rest = ref.alpha, 1.0 - ref.R**2 / ref.q
        length, turn = np.sqrt(ref.q), ref.R / np.sqrt(ref.q)
        new_V = 1.0 / (1.0 / variance - alpha * slope)
        left = [
            np.log(new_V / V),
            (np.sqrt(max(alpha * g2 * V * V - rest * a * a, 0.0)) - e) / self.root,
            (rest * a * variance / V - a - length * (B - 1.0) - turn * C + alpha * variance * gz)
            / self.root,
            (length * a + B - 1.0 + ref.R * C - alpha * variance * gv) / self.root,
        ]
        if ref.teacher:
            left.append((turn * a + ref.R * (B - 1.0) + C - alpha * variance * gu) / self.root)
        return np.array(left)

    def observe(self, x: NDArray) -> tuple[float, float, float]:
        """φ, r, and the overlap of a solution with the teacher."""
        ref, variance = self.ref, self.variance
        V, e, a, B, C = self.unpack(x)
        t, weight, _ = self.fields(x)
        A, b = a / np.sqrt(ref.q), B - 1.0
        S = e * e + a * a + b * b + C * C + 2.0 * ref.q * A * b + 2.0 * ref.R * C * (A + b)
        explained = e * e + (1.0 - ref.R**2 / ref.q) * a * a
        phi = 0.5 * (1.0 + np.log(V / variance) + explained / V - (V + S) / variance)
        phi += ref.alpha * float(np.sum(weight * log_ndtr(t)))
        square = V + e * e + a * a + B * B + C * C + 2.0 * ref.q * A * B + 2.0 * ref.R * C * (A + B)
        overlap = (ref.R * (A + B) + C) / np.sqrt(square)
        return float(phi), (V + S) / variance, float(overlap)


def _noise_nodes(
    zero: NDArray, slope: float, width: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Standard normal nodes and weights (rows, nodes), dense where slope·ζ − zero ~ width."""
    middle = np.full_like(zero, 20.0) if abs(slope) < 1e-3 * width else zero / slope
    scale = width / max(abs(slope), 1e-3 * width)
    borders = middle[:, None] + scale * np.array([-5.0, -2.0, 0.0, 2.0, 5.0])
    fixed = np.broadcast_to(np.linspace(-7.0, 7.0, 6), (len(zero), 6))
    edges = np.sort(np.clip(np.concatenate([borders, fixed], axis=1), -7.0, 7.0), axis=1)
    nodes, weights = np.polynomial.legendre.leggauss(6)
    half = 0.5 * np.diff(edges, axis=1)[:, :, None]
    zeta = (0.5 * (edges[:, 1:] + edges[:, :-1])[:, :, None] + half * nodes).reshape(len(zero), -1)
    weight = (half * weights).reshape(len(zero), -1)
    return zeta, weight * np.exp(-0.5 * zeta * zeta) / np.sqrt(2.0 * np.pi)
