"""Local entropy of a trained machine: how much of weight space at a given distance still solves.

Z(Δ) = ∫ dw′ N(w′; w, Δ·1) Π_μ Θ[σ_μ Σ_k sign(w′_k·x_μ) > 0], rows of w at norm √N,
φ = log Z / (KN). With r = ⟨‖w′−w‖²⟩/(KNΔ) the typical solution lies at the distance
d = ‖w′−w‖²/(2KN) = rΔ/2, and a Legendre transform gives eq. 3 of [P21],

    Φ_LE(d) = φ + ½ (r − 1 − log r) ≤ 0,      dΦ_LE/dd = (1 − 1/r)/Δ.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator

from message_passing.belief_propagation import BeliefPropagation
from message_passing.expectation_propagation import ExpectationPropagation
from message_passing.monte_carlo import MonteCarlo
from message_passing.problem import LadderResult, PatternGeometry, ReferenceProblem

#: Distances of the default ladder (twelve points).
DEFAULT_DISTANCES = tuple(float(d) for d in np.geomspace(0.005, 0.3, 12))


class Engine(Protocol):
    """Anything that estimates φ(Δ) and r(Δ) on a ladder of increasing variances."""

    def ladder(self, problem: ReferenceProblem, variances: NDArray[np.float64]) -> LadderResult: ...


ENGINES: dict[str, type] = {
    "bp": BeliefPropagation,
    "ep": ExpectationPropagation,
    "mc": MonteCarlo,
}


@dataclass(frozen=True)
class LocalEntropyCurve:
    """Φ_LE along a ladder in Δ; all arrays have one entry per point, distances increasing.

    Attributes
    ----------
    variance : Δ of the Gaussian around the reference.
    distance : d = rΔ/2, squared distance per weight, halved.
    local_entropy : Φ_LE(d), per weight.
    free_entropy : φ = log Z / (KN).
    displacement : r = ⟨‖w′−w‖²⟩/(KNΔ).
    converged : bool
        Whether the engine reached its tolerance at this point.
    iterations : int
    residual : float
    standard_error : float
        Of ``local_entropy`` at fixed distance (there an error of r cancels to first order, so it
        is that of φ); zero for the deterministic engines, whose error is one of principle.
    distance_error : float
        Standard error of ``distance``.
    engine : str
        Name of the engine.
    """

    variance: NDArray[np.float64]
    distance: NDArray[np.float64]
    local_entropy: NDArray[np.float64]
    free_entropy: NDArray[np.float64]
    displacement: NDArray[np.float64]
    converged: NDArray[np.bool_]
    iterations: NDArray[np.int64]
    residual: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    distance_error: NDArray[np.float64]
    engine: str

    def at(self, distance: ArrayLike) -> NDArray[np.float64] | float:
        """Φ_LE at other distances: monotone cubic interpolation in √d, through Φ_LE(0) = 0.

        Raises ``ValueError`` beyond the last point of the curve (nothing is extrapolated).
        """
        return self._interpolate(self.local_entropy, distance)

    def standard_error_at(self, distance: ArrayLike) -> NDArray[np.float64] | float:
        """Standard error of Φ_LE at other distances."""
        return self._interpolate(self.standard_error, distance)

    def _interpolate(
        self, values: NDArray[np.float64], distance: ArrayLike
    ) -> NDArray[np.float64] | float:
        wanted = np.asarray(distance, dtype=np.float64)
        last = self.distance.max()
        if not np.all((wanted >= 0) & (wanted <= last * (1 + 1e-9))):
            raise ValueError(
                f"distance is {wanted}; numbers from 0 to {last:.4g}, "
                "the last point of this curve, were expected."
            )
        order = np.argsort(self.distance)
        curve = PchipInterpolator(
            np.sqrt(np.concatenate([[0.0], self.distance[order]])),
            np.concatenate([[0.0], values[order]]),
        )
        result = curve(np.sqrt(np.minimum(wanted, last)))
        return float(result) if result.ndim == 0 else result


def local_entropy_curve(
    weights: ArrayLike,
    patterns: ArrayLike | PatternGeometry,
    labels: ArrayLike,
    *,
    engine: str | Engine = "bp",
    variances: ArrayLike | None = None,
) -> LocalEntropyCurve:
    """Local entropy Φ_LE(d) around a machine that classifies its patterns.

    Parameters
    ----------
    weights : (K, N)
        One machine, K odd; every row is rescaled to norm √N.
    patterns : (P, N) or PatternGeometry
        ±1 or real inputs. A :class:`PatternGeometry` keeps the Gram matrix and its factors for
        the next machine on the same patterns.
    labels : (P,)
        ±1.
    engine : "bp" or an engine
        A name, or a configured object such as ``BeliefPropagation(damping=0.7)``.
    variances : (M,), optional
        Increasing Δ > 0. Default: twelve, for distances from about 0.005 to 0.3.

    Returns
    -------
    LocalEntropyCurve
        With ``converged``, ``iterations``, ``residual`` for each point; a point that did not
        converge is also announced by a ``UserWarning``.

    Raises
    ------
    ValueError
        Even K, shapes that do not fit, NaN, labels other than ±1, an unknown engine, variances
        that are not positive and increasing.
    """
    solver = resolve_engine(engine)
    problem = ReferenceProblem.from_arrays(weights, patterns, labels)
    if variances is None:
        ladder = _default_variances(problem)
    else:
        ladder = check_ladder(variances, "variances")
    found = solver.ladder(problem, ladder)
    name = engine if isinstance(engine, str) else type(engine).__name__
    return _legendre_transform(found, name)


def resolve_engine(engine: str | Engine) -> Engine:
    """The engine of that name with its default configuration, or the engine itself."""
    if isinstance(engine, str):
        if engine not in ENGINES:
            raise ValueError(f"engine is {engine!r}; one of {', '.join(ENGINES)} was expected.")
        chosen: Engine = ENGINES[engine]()
        return chosen
    if not callable(getattr(engine, "ladder", None)):
        raise ValueError(f"engine is {engine!r}; a name or an object with a ladder was expected.")
    return engine


def check_ladder(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Positive, finite, increasing numbers (M,), M ≥ 1; a single number counts as M = 1."""
    array = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if array.ndim != 1 or not array.size:
        raise ValueError(f"{name} has shape {array.shape}; (M,) with M ≥ 1 was expected.")
    if not (np.all(np.isfinite(array)) and np.all(array > 0) and np.all(np.diff(array) > 0)):
        raise ValueError(f"{name} is {array}; positive, increasing numbers were expected.")
    return array


def _default_variances(problem: ReferenceProblem) -> NDArray[np.float64]:
    """Δ ≈ 2d, a little more at the end, where r < 1 keeps d = rΔ/2 short of 0.3."""
    stretch = np.linspace(1.0, 1.04, len(DEFAULT_DISTANCES))
    return 2.0 * np.array(DEFAULT_DISTANCES) * stretch


def _legendre_transform(found: LadderResult, name: str) -> LocalEntropyCurve:
    missed = np.flatnonzero(~found.converged)
    if missed.size:
        warnings.warn(
            f"engine {name} did not converge at {missed.size} of {len(found.variance)} points "
            f"(first at variance {found.variance[missed[0]]:.4g}, "
            f"residual {found.residual[missed].max():.2g}).",
            stacklevel=3,
        )
    r = found.displacement
    return LocalEntropyCurve(
        variance=found.variance,
        distance=0.5 * r * found.variance,
        local_entropy=found.free_entropy + 0.5 * (r - 1.0 - np.log(r)),
        free_entropy=found.free_entropy,
        displacement=r,
        converged=found.converged,
        iterations=found.iterations,
        residual=found.residual,
        standard_error=found.free_entropy_error,
        distance_error=0.5 * found.variance * found.displacement_error,
        engine=name,
    )
