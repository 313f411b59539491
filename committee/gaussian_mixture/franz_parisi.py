"""Local entropy around a typical minimiser of a loss: replica-symmetric Franz–Parisi theory.

The reference ŵ is a minimiser w̃ of the loss (``replica_symmetric.py``: m̃, q̃, Ṽ, margins h̃, ṽ, f̃),
rescaled to norm √N. Around it, with prior variance τ (called Δ in ``message_passing``),

    Z(τ) = ∫ dw N(w; ŵ, τ·1) Π_μ Θ[y_μ w·x_μ > 0],     φ(τ) = log Z / N       (N → ∞).

Let w = ŵ + δ. The state of the solutions is V = var(w_i); (μ, s, D) = (⟨δ⟩·v*, ⟨δ⟩·w̃, ‖⟨δ⟩‖²)/N;
and a, the coefficient of w̃ in ⟨δ⟩ that the patterns cause through the reference. For a pattern
with reference margin h̃, w has the cavity margin

    κ = ṽ/√q̃ + ΔṼ a f̃ + η,    η | h̃ Gaussian: means (μ, m̃), covariances Δ(D, s, q̃) of (η, h̃),

variance ΔV, and weight Φ(κ/√(ΔV)). The second term of κ is the reaction of the reference to the
pattern, which w follows. With g = ∂_κ log Φ and primes for derivatives,

    Â = −αΔ E[g'],  m̂ = α E[g],  p̂ = αΔ E[g²],  t̂ = αΔ E[f̃ g],
    Ĉ = αΔ E[g' ΔṼ (1/√q̃ + a) ∂f̃/∂h̃],
    V = 1/(1/τ + Â),  a = V(Ĉ − Â/√q̃),  μ = a m̃ + V m̂,  s = a q̃ + V(m̂ m̃ + Ṽ t̂),
    D = a² q̃ + V²(m̂² + p̂) + 2aV(m̂ m̃ + Ṽ t̂),
    r = ⟨‖δ‖²⟩/(Nτ) = (V + D)/τ,
    φ = −½(V/τ − 1 − log(V/τ)) − D/(2τ) + α E[log Φ] + ½ αΔV E[g²].

As in ``message_passing``, d = rτ/2 and Φ_LE(d) = φ + ½(r − 1 − log r). The solutions form a
convex set, so replica symmetry is stable for w whenever it is for the reference.

Z counts solutions without errors. So Φ_LE(d) → 0 for d → 0 only if the reference makes no errors.
Otherwise, as for Hebb's rule, Φ_LE falls towards d = 0. **Hebb's rule is Bayes-optimal and the
flattest by E_σ, but does not have the highest local entropy at every distance**: there are fewer
solutions near it than near a minimiser of the hinge loss that makes no errors.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicHermiteSpline
from scipy.optimize import root
from scipy.special import log_ndtr

from committee.gaussian_mixture.margins import TrainingMargins
from committee.gaussian_mixture.quadrature import hermite_nodes
from committee.gaussian_mixture.state import TOLERANCE, ConvergenceWarning, ReplicaSymmetricState
from message_passing.local_entropy import check_ladder

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_Z, _ZW = hermite_nodes(64)


@dataclass(frozen=True)
class FranzParisiCurve:
    """Φ_LE around a typical reference at N → ∞; arrays with one entry per variance.

    Attributes
    ----------
    reference : the reference in the centre.
    variance : τ (here), Δ (elsewhere) of the Gaussian around the reference.
    distance : d = rτ/2.
    local_entropy : Φ_LE(d), per weight.
    free_entropy : φ.
    displacement : r.
    overlap : for a mixture, overlap of the solutions' mean with the centre; for a perceptron,
        overlap of one solution with the teacher (0 without a teacher).
    converged, residual : of the equations; ``converged`` includes the reference.
    """

    reference: Any
    variance: NDArray[np.float64]
    distance: NDArray[np.float64]
    local_entropy: NDArray[np.float64]
    free_entropy: NDArray[np.float64]
    displacement: NDArray[np.float64]
    overlap: NDArray[np.float64]
    converged: NDArray[np.bool_]
    residual: NDArray[np.float64]

    @classmethod
    def from_rows(
        cls, reference: Any, rows: Sequence[tuple[float, ...]], tolerance: float
    ) -> FranzParisiCurve:
        """Curve from rows (τ, φ, r, overlap, residual); warns if a residual is too large."""
        variance, phi, r, overlap, residual = np.array(rows).T
        converged = (residual < tolerance) & reference.converged
        if not converged.all():
            warnings.warn(
                f"Franz–Parisi: no convergence at {np.sum(~converged)} of {len(rows)} variances "
                f"(residual {residual.max():.2g}).",
                ConvergenceWarning,
                stacklevel=3,
            )
        distance, local_entropy = 0.5 * r * variance, phi + 0.5 * (r - 1.0 - np.log(r))
        return cls(
            reference, variance, distance, local_entropy, phi, r, overlap, converged, residual
        )

    def __repr__(self) -> str:
        return (
            f"FranzParisiCurve({len(self.distance)} points, d = {self.distance[0]:.2g} to "
            f"{self.distance[-1]:.2g}, Φ_LE = {self.local_entropy[-1]:.4g} at the last, "
            f"{np.count_nonzero(~self.converged)} points not converged)"
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per point."""
        import pandas as pd

        columns = (field.name for field in fields(self) if field.name != "reference")
        return pd.DataFrame({name: getattr(self, name) for name in columns})

    def plot(self, ax: Axes | None = None, **style: Any) -> Axes:
        """Draw Φ_LE(d) with matplotlib's ``style``. Returns the axes."""
        from message_passing.figures import name_axes, new_axes

        ax = ax or new_axes()
        ax.plot(self.distance, self.local_entropy, **style)
        name_axes(ax)
        return ax

    def at(self, distance: ArrayLike) -> NDArray[np.float64]:
        """Φ_LE at other distances: cubic Hermite interpolation with dΦ_LE/dd = (1 − 1/r)/τ.

        Raises ``ValueError`` outside the range of the curve: no extrapolation.
        """
        wanted = np.asarray(distance, dtype=np.float64)
        first, last = self.distance[[0, -1]]
        if not np.all((wanted >= first * (1 - 1e-9)) & (wanted <= last * (1 + 1e-9))):
            raise ValueError(
                f"distance is {wanted}; numbers from {first:.4g} to {last:.4g} were expected."
            )
        x = np.sqrt(self.distance)
        slope = 2.0 * x * (1.0 - 1.0 / self.displacement) / self.variance
        curve = CubicHermiteSpline(x, self.local_entropy, slope)
        values: NDArray[np.float64] = curve(np.clip(np.sqrt(wanted), x[0], x[-1]))
        return values


def franz_parisi(reference: ReplicaSymmetricState, variances: ArrayLike) -> FranzParisiCurve:
    """Typical local entropy of zero-error weights around a minimiser of a loss.

    Parameters
    ----------
    reference : a converged state without bias.
    variances : (M,), increasing τ > 0.

    Raises
    ------
    ValueError
        A reference that did not converge, or has a bias; variances that do not increase.
    """
    if not reference.converged or reference.bias != 0:
        raise ValueError(
            f"reference has converged = {reference.converged}, bias = {reference.bias:g}; "
            "a converged one without bias was expected."
        )
    ladder = check_ladder(variances, "variances")
    first = min(1e-3, ladder[0])
    path = np.unique(np.concatenate([np.geomspace(first, ladder[-1], 12), ladder]))
    x, rows = np.zeros(5), []
    for tau in path:
        system = _Cavity(reference, float(tau))
        found = root(system.residual, x, method="hybr", options={"xtol": 1e-12})
        if np.max(np.abs(found.fun)) > TOLERANCE:
            found = root(system.residual, system.iterate(x), method="hybr", options={"xtol": 1e-12})
        worst = float(np.max(np.abs(found.fun)))
        if worst < 1e-6:
            x = found.x
        if tau in ladder:
            rows.append((tau, *system.observe(found.x), worst))
    return FranzParisiCurve.from_rows(reference, rows, TOLERANCE)


class _Cavity:
    """The five equations at one τ, in x = (log V/τ, a√q̃, μ/√τ, s/√(q̃τ), D/τ)."""

    def __init__(self, reference: ReplicaSymmetricState, tau: float) -> None:
        self.ref, self.tau = reference, tau
        margin = np.sqrt(reference.delta * tau * reference.q)
        self.margins: TrainingMargins = reference.margins(margin * np.arange(-5.0, 5.5, 1.0))
        q = reference.q
        self.scale = np.array([1.0, np.sqrt(q), 1 / np.sqrt(tau), 1 / np.sqrt(q * tau), 1 / tau])

    def unpack(self, x: NDArray) -> tuple[float, float, float, float, float]:
        _, a, mu, s, D = x / self.scale
        return float(self.tau * np.exp(x[0])), float(a), float(mu), float(s), float(D)

    def node(self, x: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Averages over η at each reference margin of log Φ, g, g', g²."""
        V, a, mu, s, D = self.unpack(x)
        ref, margins = self.ref, self.margins
        rest = np.sqrt(ref.delta * max(D - s * s / ref.q, 0.0))
        kappa = margins.v / np.sqrt(ref.q) + ref.delta * ref.V * a * margins.f
        kappa = kappa + mu + s / ref.q * (margins.h - ref.m)
        width = np.sqrt(ref.delta * V)
        t = (kappa[:, None] + rest * _Z) / width
        log_phi = log_ndtr(t)
        g = np.exp(-0.5 * t * t - 0.5 * np.log(2.0 * np.pi) - log_phi) / width
        slope = -g * (g + t / width)
        return log_phi @ _ZW, g @ _ZW, slope @ _ZW, (g * g) @ _ZW

    def update(self, x: NDArray) -> NDArray[np.float64]:
        """Right-hand sides of the equations."""
        V, a, *_ = self.unpack(x)
        ref, margins = self.ref, self.margins
        _, g, slope, g2 = self.node(x)
        scale, length = ref.alpha * ref.delta, np.sqrt(ref.q)
        A = -scale * margins.mean(slope)
        m_hat = ref.alpha * margins.mean(g)
        p_hat = scale * margins.mean(g2)
        t_hat = scale * margins.mean(margins.f * g)
        C = scale * margins.mean(slope * margins.response) * ref.delta * ref.V * (1.0 / length + a)
        V = 1.0 / (1.0 / self.tau + A)
        a = V * (C - A / length)
        along = m_hat * ref.m + ref.V * t_hat
        new = np.array(
            [
                0.0,
                a,
                a * ref.m + V * m_hat,
                a * ref.q + V * along,
                a * a * ref.q + V * V * (m_hat**2 + p_hat) + 2.0 * a * V * along,
            ]
        )
        new *= self.scale
        new[0] = np.log(V / self.tau)
        return new

    def residual(self, x: NDArray) -> NDArray[np.float64]:
        if not np.all(np.isfinite(x)) or np.any(np.abs(x) > 1e3):
            return np.full(5, 1e3)
        return x - self.update(x)

    def iterate(self, x: NDArray) -> NDArray[np.float64]:
        for _ in range(200):
            x = 0.7 * x + 0.3 * self.update(x)
        return x

    def observe(self, x: NDArray) -> tuple[float, float, float]:
        """φ, r and the overlap of the solutions' mean with the centre."""
        V, _, mu, s, D = self.unpack(x)
        ref, tau = self.ref, self.tau
        log_phi, _, _, g2 = self.node(x)
        phi = -0.5 * (V / tau - 1.0 - np.log(V / tau)) - D / (2.0 * tau)
        phi += ref.alpha * self.margins.mean(log_phi)
        phi += 0.5 * ref.alpha * ref.delta * V * self.margins.mean(g2)
        mean_square = 1.0 + 2.0 * s / np.sqrt(ref.q) + D
        overlap = (ref.m / np.sqrt(ref.q) + mu) / np.sqrt(mean_square)
        return float(phi), (V + D) / tau, float(overlap)
