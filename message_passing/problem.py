"""Input of the engines (a reference machine on labelled patterns) and their results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from message_passing.tools.validation import check_labels, check_patterns, check_weights

#: G is inverted if its smallest eigenvalue is at least this share of the largest.
LEAST_EIGENVALUE = 1e-9


class PatternGeometry:
    """Patterns and their Gram matrix and factors, made once for any number of machines.

    Attributes
    ----------
    patterns : (P, N)
        As given.
    gram : (P, P)
        G = X Xᵀ / N. A Gaussian of variance Δ around a row w of the weights gives the
        pre-activations u = X w / √N the covariance Δ G.
    factor : (P, R)
        F with F Fᵀ = G. R ≤ min(P, N) is the rank of G. Duplicate patterns or P > N make R < P.
    squares : (P, N)
        x² / N.
    common_square : float or None
        The common value of x² if it is the same for all inputs (1 for binary ±1 inputs).
    """

    def __init__(self, patterns: ArrayLike) -> None:
        self.patterns = check_patterns(patterns)

    def subset(self, kept: NDArray[np.bool_]) -> PatternGeometry:
        """The geometry of the patterns where ``kept`` is true. There may be none."""
        geometry = object.__new__(PatternGeometry)
        geometry.patterns = self.patterns[kept]
        return geometry

    @cached_property
    def gram(self) -> NDArray[np.float64]:
        return self.patterns @ self.patterns.T / self.patterns.shape[1]

    @cached_property
    def factor(self) -> NDArray[np.float64]:
        values, vectors = np.linalg.eigh(self.gram)
        kept = values > len(values) * np.finfo(float).eps * max(values[-1], 0.0)
        return np.ascontiguousarray(vectors[:, kept] * np.sqrt(values[kept]))

    @cached_property
    def gram_inverse(self) -> tuple[NDArray[np.float64], float] | None:
        """G⁻¹ and log det G, or None if G is singular or too ill-conditioned to invert."""
        values, vectors = np.linalg.eigh(self.gram)
        if values[0] < LEAST_EIGENVALUE * values[-1]:
            return None
        return (vectors / values) @ vectors.T, float(np.sum(np.log(values)))

    @cached_property
    def squares(self) -> NDArray[np.float64]:
        return self.patterns**2 / self.patterns.shape[1]

    @cached_property
    def common_square(self) -> float | None:
        first = float(self.patterns[0, 0] ** 2)
        return first if np.all(self.patterns**2 == first) else None


@dataclass(frozen=True)
class ReferenceProblem:
    """A reference machine on labelled patterns.

    Attributes
    ----------
    geometry : PatternGeometry
    labels : (P,)
        σ in {±1}.
    preactivations : (K, P)
        w·x/√N of the reference, with every row rescaled to norm √N.
    inputs : int
        N.
    """

    geometry: PatternGeometry
    labels: NDArray[np.float64]
    preactivations: NDArray[np.float64]
    inputs: int

    @classmethod
    def from_arrays(
        cls, weights: ArrayLike, patterns: ArrayLike | PatternGeometry, labels: ArrayLike
    ) -> ReferenceProblem:
        """Check the arrays and compute the reference's pre-activations.

        Raises ``ValueError`` for even K, shapes that do not fit, labels other than ±1, NaN.
        """
        weights = check_weights(weights)
        if weights.ndim != 2:
            raise ValueError(f"weights has shape {weights.shape}; one machine (K, N) was expected.")
        geometry = patterns if isinstance(patterns, PatternGeometry) else PatternGeometry(patterns)
        check_patterns(geometry.patterns, weights.shape[1])
        labels = check_labels(labels, len(geometry.patterns))
        # The raw product decides the sign (a zero stays a zero), so rescale after it.
        scale = 1.0 / np.linalg.norm(weights, axis=1, keepdims=True)
        preactivations = (weights @ geometry.patterns.T) * scale
        return cls(geometry, labels, preactivations, weights.shape[1])

    @property
    def hidden_units(self) -> int:
        """K."""
        return len(self.preactivations)

    @property
    def size(self) -> int:
        """K N, the number of weights."""
        return self.hidden_units * self.inputs

    @property
    def training_errors(self) -> int:
        """Number of training errors of the reference."""
        positive = np.count_nonzero(self.preactivations >= 0, axis=0)
        return int(np.sum(np.where(2 * positive > self.hidden_units, 1, -1) != self.labels))

    def without_contradictions(self) -> ReferenceProblem:
        """Remove the pairs of patterns that contradict each other.

        Every machine gets exactly one pattern of such a pair wrong: x and c x with different labels
        (c > 0), or x and −c x with the same label (the majority of an odd number of signs is odd).
        The remaining problem has the same volume Z with one allowed error less per pair. Engines
        that treat patterns as independent are then right.
        """
        gram, square = self.geometry.gram, np.diag(self.geometry.gram)
        # Cauchy-Schwarz: no two patterns are parallel, as is usual.
        if np.count_nonzero(gram**2 >= (1 - 1e-9) * np.outer(square, square)) == len(gram):
            return self
        length = np.linalg.norm(self.geometry.patterns, axis=1, keepdims=True)
        unit = self.geometry.patterns / np.where(length > 0, length, 1.0)
        first = np.take_along_axis(unit, np.argmax(unit != 0, axis=1)[:, None], axis=1)
        side = np.sign(first[:, 0])
        _, direction = np.unique(np.round(unit * side[:, None], 9), axis=0, return_inverse=True)
        kept = np.ones(len(unit), dtype=bool)
        for same in np.unique(direction[np.flatnonzero(np.bincount(direction)[direction] > 1)]):
            members = np.flatnonzero(direction == same)
            wanted = self.labels[members] * side[members]
            pairs = min(np.count_nonzero(wanted > 0), np.count_nonzero(wanted < 0))
            for sign in (1, -1):
                kept[members[wanted == sign][:pairs]] = False
        if np.all(kept):
            return self
        return ReferenceProblem(
            self.geometry.subset(kept), self.labels[kept], self.preactivations[:, kept], self.inputs
        )


@dataclass(frozen=True)
class LadderResult:
    """Results of an engine at each Δ of a ladder, as arrays of equal length.

    Attributes
    ----------
    variance : Δ
    free_entropy : φ = log Z / (KN)
    displacement : r = ⟨‖w′−w‖²⟩ / (KNΔ)
    converged : bool
    iterations : int
    residual : float
        Residual of the fixed-point equations, or a diagnostic of the chains (see the engine).
    free_entropy_error, displacement_error : float
        Standard errors; zero for the deterministic engines.
    """

    variance: NDArray[np.float64]
    free_entropy: NDArray[np.float64]
    displacement: NDArray[np.float64]
    converged: NDArray[np.bool_]
    iterations: NDArray[np.int64]
    residual: NDArray[np.float64]
    free_entropy_error: NDArray[np.float64]
    displacement_error: NDArray[np.float64]

    @classmethod
    def from_points(cls, variances: ArrayLike, points: Iterable[Sequence[Any]]) -> LadderResult:
        """The result with these rows (see :class:`Point`) at these Δ."""
        φ, r, converged, iterations, *rest = (np.array(c) for c in zip(*points, strict=True))
        variance = np.asarray(variances, dtype=np.float64)
        return cls(variance, φ, r, converged.astype(bool), iterations.astype(np.int64), *rest)


class Point(NamedTuple):
    """One point of a ladder, in the order of LadderResult's fields after the variance.

    The defaults hold without patterns.
    """

    free_entropy: float = 0.0
    displacement: float = 1.0
    converged: bool = True
    iterations: int = 0
    residual: float = 0.0
    free_entropy_error: float = 0.0
    displacement_error: float = 0.0
