"""Entropy ascent: climb the local entropy itself, from any machine, along a ladder in Δ.

Each Δ takes a few steps up the free entropy φ(w, Δ) of the solutions around w (``entropy_slope``),

    w ← w + a (⟨w′⟩ − w) + b (w − w_before),      rows of norm √N,

so w follows the centre of its own neighbourhood. A step is rejected if it lowers φ, adds training
errors or reaches a slope that has not converged. Then a is halved and the b term is dropped. This
is Entropy-SGD ([P21] Algorithm 1) with a solved inner loop and a decreasing γ = 1/Δ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from committee.algorithms import EntropyAscent
from committee.machine import unit_rows
from committee.solution_space.entropy_slope import Slope
from message_passing.problem import PatternGeometry, ReferenceProblem

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: The ascent at one Δ ends once a falls below this fraction of the full step.
SHORTEST = 0.1
#: An accepted step multiplies a by this factor, up to the full step.
GROWTH = 1.5


@dataclass(frozen=True, repr=False)
class AscentPath:
    """Machines on the way up, the last one at each Δ.

    Attributes
    ----------
    variance : (M,)
    weights : (M, K, N)
        Unit rows.
    training_errors : (M,) int
        Never increase along the path.
    free_entropy : tuple of (steps + 1,)
        For each Δ, φ from the first machine to the last, increasing. NaN if the engine has no φ.
    work : int
        Sweeps (EP) or slice steps (Monte Carlo) of the whole ascent.
    converged : bool
        Whether every slope that was followed had converged.
    """

    variance: NDArray[np.float64]
    weights: NDArray[np.float64]
    training_errors: NDArray[np.int64]
    free_entropy: tuple[NDArray[np.float64], ...]
    work: int
    converged: bool

    @property
    def steps(self) -> int:
        """Number of accepted steps, over all Δ."""
        return sum(len(values) - 1 for values in self.free_entropy)

    def to_frame(self) -> pd.DataFrame:
        """One row per Δ: accepted steps, φ before and after them, training errors."""
        import pandas as pd

        columns = {
            "variance": self.variance,
            "steps": [len(values) - 1 for values in self.free_entropy],
            "first_free_entropy": [values[0] for values in self.free_entropy],
            "free_entropy": [values[-1] for values in self.free_entropy],
            "training_errors": self.training_errors,
        }
        return pd.DataFrame(columns)

    def plot(self, ax: Axes | None = None) -> Axes:
        """φ at each Δ, before its first step and after its last."""
        from committee.solution_space.figures import plot_ascent

        return plot_ascent(self, ax)

    def __repr__(self) -> str:
        return (
            f"AscentPath({self.steps} steps to Δ = {self.variance[-1]:g}, φ = "
            f"{self.free_entropy[-1][-1]:.3g} there, {self.training_errors[-1]} training errors)"
        )


def ascend(
    weights: ArrayLike,
    patterns: ArrayLike | PatternGeometry,
    labels: ArrayLike,
    algorithm: EntropyAscent | None = None,
) -> AscentPath:
    """Climb from a machine (K, N), with or without training errors; row norms do not matter.

    Raises ``ValueError`` for even K, shapes that do not fit, labels other than ±1 and NaN. With
    Monte Carlo slopes, it also raises if the start makes training errors.
    """
    algorithm = algorithm or EntropyAscent()
    problem = ReferenceProblem.from_arrays(weights, patterns, labels)
    geometry, y, N = problem.geometry, problem.labels, problem.inputs
    w = np.sqrt(N) * unit_rows(np.asarray(weights, dtype=np.float64))
    trail: list[Slope] = []
    stops, errors, entropies = [], [], []
    work, converged = 0, True
    for variance in map(float, algorithm.variances):
        here = algorithm.engine.slope(problem, variance, trail)
        work, converged = work + here.work, converged and here.converged
        trail, values = [here], [here.free_entropy]
        motion = np.zeros_like(w)
        a = algorithm.step
        while len(values) <= algorithm.max_epochs and a >= SHORTEST * algorithm.step:
            raised = w + a * here.displacement + motion
            raised *= np.sqrt(N) / np.linalg.norm(raised, axis=1, keepdims=True)
            candidate = ReferenceProblem.from_arrays(raised, geometry, y)
            if candidate.training_errors <= problem.training_errors:
                there = algorithm.engine.slope(candidate, variance, trail)
                work += there.work
                # An engine without φ gives NaN, which this comparison accepts.
                if there.converged and not there.free_entropy <= here.free_entropy:
                    motion = algorithm.momentum * (raised - w)
                    w, problem, here = raised, candidate, there
                    trail = [*trail[-1:], here]
                    values.append(here.free_entropy)
                    a = min(algorithm.step, GROWTH * a)
                    continue
            a, motion, trail = 0.5 * a, np.zeros_like(w), trail[-1:]
        stops.append(unit_rows(w))
        errors.append(problem.training_errors)
        entropies.append(np.array(values))
    return AscentPath(
        variance=np.array(algorithm.variances),
        weights=np.array(stops),
        training_errors=np.array(errors),
        free_entropy=tuple(entropies),
        work=work,
        converged=converged,
    )
