"""Local entropy of a trained machine: log of the fraction of weights at a distance that solve.

Z(Δ) = ∫ dw′ N(w′; w, Δ·1) Π_μ Θ[σ_μ Σ_k sign(w′_k·x_μ) > 0], rows of w at norm √N,
φ = log Z / (KN). With r = ⟨‖w′−w‖²⟩/(KNΔ), typical solutions lie at the distance
d = ‖w′−w‖²/(2KN) = rΔ/2. A Legendre transform gives eq. 3 of [P21],

    Φ_LE(d) = φ + ½ (r − 1 − log r) ≤ 0,      dΦ_LE/dd = (1 − 1/r)/Δ.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator

from message_passing.belief_propagation import BeliefPropagation
from message_passing.expectation_propagation import ExpectationPropagation
from message_passing.monte_carlo import MonteCarlo
from message_passing.problem import LadderResult, PatternGeometry, ReferenceProblem
from message_passing.tools.tables import with_error

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: Distances of the default ladder. The four smallest ones cost little.
DEFAULT_DISTANCES = (
    *np.geomspace(0.0005, 0.005, 5)[:-1].tolist(),
    *np.geomspace(0.005, 0.3, 12).tolist(),
)

#: Variances for these distances: Δ = 2d, and up to 4 % more at large d, where r < 1 in d = rΔ/2.
DEFAULT_VARIANCES = 2.0 * np.array(DEFAULT_DISTANCES)
DEFAULT_VARIANCES[4:] *= np.linspace(1.0, 1.04, 12)


class Engine(Protocol):
    """Anything that estimates φ(Δ) and r(Δ) on a ladder of increasing variances."""

    def ladder(
        self, problem: ReferenceProblem, variances: NDArray[np.float64], progress: bool = False
    ) -> LadderResult: ...


ENGINES: dict[str, type] = {"bp": BeliefPropagation, "ep": ExpectationPropagation, "mc": MonteCarlo}


@dataclass(frozen=True, repr=False)
class LocalEntropyCurve:
    """Φ_LE along a ladder in Δ. All arrays have one entry per point, with increasing distances.

    A configuration counts if it makes at most the reference's number of training errors (eq. 3
    of [P21]).

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
        Standard error of ``local_entropy`` at fixed distance. An error of r cancels there to first
        order, so this is the error of φ. Deterministic engines have only systematic errors: zero.
    distance_error : float
        Standard error of rΔ/2, the distance for this ``variance``.
    engine : str
        Name of the engine.
    training_errors : int
        Training errors of the reference on ``patterns`` training patterns.
    patterns : int
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
    training_errors: int
    patterns: int

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.engine}: {len(self.distance)} points, d = "
            f"{self.distance[0]:.2g} to {self.distance[-1]:.2g}, Φ_LE = "
            f"{with_error(self.local_entropy[-1], self.standard_error[-1])} at the last, "
            f"{self.training_errors} of {self.patterns} training errors, "
            f"{np.count_nonzero(~self.converged)} points not converged)"
        )

    def at(self, distance: ArrayLike) -> NDArray[np.float64] | float:
        """Φ_LE at other distances, by monotone cubic interpolation in √d. Φ_LE(0) = 0.

        Raises ``ValueError`` beyond the last point, and between 0 and the first point, because
        nothing is extrapolated.
        """
        return self._interpolate(self.local_entropy, distance)

    def standard_error_at(self, distance: ArrayLike) -> NDArray[np.float64] | float:
        """Standard error of Φ_LE at other distances."""
        return self._interpolate(self.standard_error, distance)

    def to_frame(self) -> pd.DataFrame:
        """One row per point."""
        import pandas as pd

        return pd.DataFrame(
            {
                "engine": self.engine,
                "distance": self.distance,
                "distance_standard_error": self.distance_error,
                "variance": self.variance,
                "local_entropy": self.local_entropy,
                "local_entropy_standard_error": self.standard_error,
                "free_entropy": self.free_entropy,
                "displacement": self.displacement,
                "converged": self.converged,
                "iterations": self.iterations,
                "residual": self.residual,
                "training_errors": self.training_errors,
            }
        )

    def plot(self, ax: Axes | None = None, **style: Any) -> Axes:
        """Draw the curve; see ``message_passing.plot_curve``."""
        from message_passing.figures import plot_curve

        return plot_curve(self, ax, **style)

    def _interpolate(
        self, values: NDArray[np.float64], distance: ArrayLike
    ) -> NDArray[np.float64] | float:
        wanted = np.asarray(distance, dtype=np.float64)
        first, last = self.distance.min(), self.distance.max()
        inside = (wanted >= first * (1 - 1e-9)) & (wanted <= last * (1 + 1e-9))
        if not np.all(inside | (wanted == 0)):
            raise ValueError(
                f"distance is {wanted}; 0, or numbers from {first:.4g} to {last:.4g}, the first "
                "and the last point of this curve, were expected."
            )
        order = np.argsort(self.distance)
        with np.errstate(over="ignore"):  # scipy inverts slopes, also those near zero
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
    engine: str | Engine = "ep",
    variances: ArrayLike | None = None,
    distances: ArrayLike | None = None,
    progress: bool = False,
) -> LocalEntropyCurve:
    """Local entropy Φ_LE(d) around a machine that classifies its patterns.

    Parameters
    ----------
    weights : (K, N)
        One machine with odd K. Every row is rescaled to norm √N.
    patterns : (P, N) or PatternGeometry
        ±1 or real inputs. A :class:`PatternGeometry` keeps the Gram matrix and its factors for
        the next machine on the same patterns.
    labels : (P,)
        ±1.
    engine : "ep", "bp", "mc" or an engine
        A name, or a configured object such as ``MonteCarlo(draws=20000)``. "ep" is for a quick
        look, "mc" for a number with an error bar, "bp" is the engine of [P21].
    variances : (M,), optional
        Increasing Δ > 0. Default: sixteen, for distances from about 0.0005 to 0.3.
    distances : (M,), optional
        Increasing d > 0 of the points, instead of ``variances``. The engine ("ep" for "mc")
        repeats the ladder until rΔ/2 agrees with d to a relative 10⁻³. A step along the tangent,
        dΦ_LE/dd = (1 − 1/r)/Δ, covers the rest (for "mc" also the error of r by "ep").

    A ``UserWarning`` reports points that did not converge, and a reference that is wrong on half
    of the patterns or more. Raises ``ValueError`` for even K, shapes that do not fit, NaN, labels
    other than ±1, an unknown engine, variances or distances that are not positive and increasing,
    and variances together with distances.
    """
    if variances is not None and distances is not None:
        raise ValueError("variances and distances are both given; one of them was expected.")
    solver = resolve_engine(engine)
    name = engine if isinstance(engine, str) else type(engine).__name__
    wanted = None if distances is None else check_ladder(distances, "distances")
    ladder = DEFAULT_VARIANCES if variances is None else check_ladder(variances, "variances")
    problem = ReferenceProblem.from_arrays(weights, patterns, labels)
    if 2 * problem.training_errors >= len(problem.labels):
        warnings.warn(
            f"the reference makes {problem.training_errors} training errors on "
            f"{len(problem.labels)} patterns. Nearly all configurations make no more, so the curve "
            "is nearly zero. Do the labels belong to these patterns?",
            stacklevel=2,
        )
    if wanted is not None:
        found = _hit_distances(solver, problem, wanted, progress)
    else:
        found = solver.ladder(problem, ladder, progress)
    return legendre_transform(
        found, name, problem.training_errors, len(problem.labels), wanted, stacklevel=3
    )


def resolve_engine(engine: str | Engine, seed: int | None = None) -> Engine:
    """The engine with this name in its default configuration, or the engine itself.

    If a ``seed`` is given, it becomes the seed of a named engine that samples.
    """
    if isinstance(engine, str):
        if engine not in ENGINES:
            raise ValueError(f"engine is {engine!r}; one of {', '.join(ENGINES)} was expected.")
        kind = ENGINES[engine]
        samples = is_dataclass(kind) and "seed" in {option.name for option in fields(kind)}
        chosen: Engine = kind(seed=seed) if samples and seed is not None else kind()
        return chosen
    if not callable(getattr(engine, "ladder", None)):
        raise ValueError(f"engine is {engine!r}; a name or an object with a ladder was expected.")
    return engine


def check_ladder(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Positive, finite, increasing numbers (M,), M ≥ 1. A single number becomes M = 1."""
    array = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if array.ndim != 1 or not array.size:
        raise ValueError(f"{name} has shape {array.shape}; (M,) with M ≥ 1 was expected.")
    if not (np.all(np.isfinite(array)) and np.all(array > 0) and np.all(np.diff(array) > 0)):
        raise ValueError(f"{name} is {array}; positive, increasing numbers were expected.")
    return array


#: Relative error of the distances at which the tangent takes over, and the limit of the rounds.
CLOSE_ENOUGH = 1e-3
MOST_ROUNDS = 8


def _hit_distances(
    solver: Engine, problem: ReferenceProblem, distances: NDArray[np.float64], progress: bool
) -> LadderResult:
    """A ladder with rΔ/2 ≈ distances at all points, close enough for the tangent."""
    # Find Δ with EP, then sample once.
    finder = ExpectationPropagation() if isinstance(solver, MonteCarlo) else solver
    ladder = 2.0 * distances
    for _ in range(MOST_ROUNDS):
        found = finder.ladder(problem, ladder)
        miss = 0.5 * found.displacement * ladder / distances
        if np.all(np.abs(miss - 1.0) < CLOSE_ENOUGH):
            break
        ladder = np.maximum.accumulate(ladder / miss)
        ladder *= 1.0 + 1e-12 * np.arange(len(ladder))  # strictly increasing
    return found if finder is solver else solver.ladder(problem, ladder, progress)


def legendre_transform(
    found: LadderResult,
    name: str,
    training_errors: int,
    patterns: int,
    wanted: NDArray[np.float64] | None = None,
    stacklevel: int = 2,
) -> LocalEntropyCurve:
    """The curve for an engine's result, moved along its tangents to the ``wanted`` distances.

    A ``UserWarning`` reports points that did not converge.
    """
    missed = np.flatnonzero(~found.converged)
    if missed.size:
        warnings.warn(
            f"engine {name} did not converge at {missed.size} of {len(found.variance)} points "
            f"(first at variance {found.variance[missed[0]]:.4g}, "
            f"residual {found.residual[missed].max():.2g}).",
            stacklevel=stacklevel,
        )
    r = found.displacement
    distance = 0.5 * r * found.variance
    local_entropy = found.free_entropy + 0.5 * (r - 1.0 - np.log(r))
    if wanted is not None:
        local_entropy = local_entropy + (1.0 - 1.0 / r) / found.variance * (wanted - distance)
        distance = wanted
    return LocalEntropyCurve(
        variance=found.variance,
        distance=distance,
        local_entropy=local_entropy,
        free_entropy=found.free_entropy,
        displacement=r,
        converged=found.converged,
        iterations=found.iterations,
        residual=found.residual,
        standard_error=found.free_entropy_error,
        distance_error=0.5 * found.variance * found.displacement_error,
        engine=name,
        training_errors=training_errors,
        patterns=patterns,
    )
