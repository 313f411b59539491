"""Engine "bp": relaxed belief propagation in the space of the patterns.

With x̃ = x/√N, Gaussian messages and the central limit theorem, the dense form is

    ω_kμ = Σ_i x̃_μi m_ki − V_kμ g_kμ,      V_kμ = Σ_i x̃²_μi s_ki,
    A_ki = −Σ_μ x̃²_μi ∂g_kμ,               s_ki = 1/(1/Δ + A_ki),
    m_ki = s_ki (w_ki/Δ + Σ_μ x̃_μi g_kμ + A_ki m_ki),

with g, ∂g from the output node. The means stay in w plus the span of the patterns,
m_k = w_k + Δ Σ_μ x̃_μ a_kμ, with a = g at the fixed point. The iteration therefore needs only g, a,
A and the Gram matrix G = x̃x̃ᵀ: ω_k = u_k + Δ G a_k − V_k g_k. It damps g, A and a. If a is not
damped, strongly correlated patterns (a large eigenvalue of ΔG) make it diverge.
The Bethe free entropy is

    log Z = −Σ_ki ½(s_ki/Δ − 1 − log(s_ki/Δ)) − (Δ/2) Σ_k g_k·G g_k + Σ_μ log Z_μ + ½ Σ_kμ V g².

Correlations between the inputs enter the means through G, but not the variances s. On images this
overstates |log Z| by up to a factor of two. Sources: [P21] App. B.1, [B20].
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from message_passing.output_node import Majority, OutputNode, allow_errors
from message_passing.problem import LadderResult, Point, ReferenceProblem
from message_passing.tools.validation import check_least

#: After this number of iterations a try starts again with smaller steps.
ITERATIONS_PER_TRY = 400


@dataclass(frozen=True)
class BeliefPropagation:
    """Configuration of the engine "bp".

    Attributes
    ----------
    damping : float
        Weight of the old messages in each iteration. While a point does not converge, it is
        tried again from the same start with half the step 1 − damping.
    tolerance : float
        A point has converged when no normalised message √V g changes by more, undamped.
    max_iterations : int
        Limit per point of the ladder, over all tries.
    node : OutputNode
        The second layer.
    """

    damping: float = 0.7
    tolerance: float = 1e-6
    max_iterations: int = 3000
    node: OutputNode = field(default_factory=Majority)

    def __post_init__(self) -> None:
        if not 0 <= self.damping < 1:
            raise ValueError(f"damping is {self.damping}; a number in [0, 1) was expected.")
        if not self.tolerance > 0:
            raise ValueError(f"tolerance is {self.tolerance}; a positive number was expected.")
        check_least(self, max_iterations=1)

    def ladder(
        self, problem: ReferenceProblem, variances: NDArray[np.float64], progress: bool = False
    ) -> LadderResult:
        """Solve for increasing Δ. Each point starts from the previous one."""
        problem = problem.without_contradictions()
        if not problem.labels.size:
            return LadderResult.from_points(variances, [Point()] * len(variances))
        messages = self.initial_messages(problem)
        solutions = []
        for variance in tqdm(map(float, variances), "bp", len(variances), disable=not progress):
            messages, solution = self.solve(problem, variance, messages)
            solutions.append(solution)
        return LadderResult.from_points(variances, solutions)

    def initial_messages(self, problem: ReferenceProblem) -> Messages:
        """The messages for Δ → 0, where no pattern pulls."""
        common = problem.geometry.common_square is not None
        zero = np.zeros_like(problem.preactivations)
        return Messages(zero, zero, np.zeros((len(zero), 1 if common else problem.inputs)))

    def solve(
        self, problem: ReferenceProblem, variance: float, start: Messages
    ) -> tuple[Messages, Point]:
        """Messages at Δ and their φ and r. Without convergence, the best messages met."""
        node = allow_errors(self.node, problem.training_errors)
        best, best_residual = start, np.inf
        damping, used = self.damping, 0
        while used < self.max_iterations:
            messages, first = start, np.inf
            for attempt in range(ITERATIONS_PER_TRY):
                used += 1
                messages, residual, before = self._iterate(
                    problem, variance, messages, node, damping
                )
                if residual < best_residual:
                    best, best_residual = before, residual
                if residual < self.tolerance:
                    return best, _solution(problem, variance, best, node, True, used, residual)
                first = residual if attempt == 0 else first
                if used == self.max_iterations or not residual < 1e3 * max(first, 1.0):
                    break
            damping = 1 - 0.5 * (1 - damping)
        return best, _solution(problem, variance, best, node, False, used, best_residual)

    def _iterate(
        self,
        problem: ReferenceProblem,
        variance: float,
        old: Messages,
        node: OutputNode,
        damping: float,
    ) -> tuple[Messages, float, Messages]:
        """One damped step. Returns the new messages, the residual of the old ones, the old ones."""
        V = _field_variance(problem, variance, old.precision)
        cavity = (
            problem.preactivations
            + variance * (old.mean @ problem.geometry.gram)
            - V * old.gradient
        )
        moments = node.moments(cavity, V, problem.labels)
        precision = _precision(problem, -moments.curvature)
        scale = np.sqrt(V)
        residual = max(
            np.abs(scale * (moments.gradient - old.gradient)).max(),
            np.abs(scale * (old.mean - old.gradient)).max(),
            np.abs((precision - old.precision) / (1 / variance + old.precision)).max(),
        )
        step = 1 - damping
        # Shorten the step of A where a variance s would turn negative or explode.
        room = 1 + variance * (old.precision + step * (precision - old.precision))
        while np.any(room < 0.05):
            precision = 0.5 * (precision + old.precision)
            room = 1 + variance * (old.precision + step * (precision - old.precision))
        gradient = old.gradient + step * (moments.gradient - old.gradient)
        shrink = 1 / (1 + variance * old.precision.mean(axis=1, keepdims=True))
        new = Messages(
            gradient=gradient,
            mean=old.mean + step * shrink * (gradient - old.mean),
            precision=old.precision + step * (precision - old.precision),
        )
        return new, float(residual), old


@dataclass(frozen=True)
class Messages:
    """State of the iteration."""

    gradient: NDArray[np.float64]  # g (K, P)
    mean: NDArray[np.float64]  # a (K, P)
    precision: NDArray[np.float64]  # A (K, N), or (K, 1) where x² is the same for all inputs


def _precision(problem: ReferenceProblem, curvature: NDArray[np.float64]) -> NDArray[np.float64]:
    """A_ki = Σ_μ x̃²_μi Γ_kμ."""
    common = problem.geometry.common_square
    if common is not None:
        return common / problem.inputs * curvature.sum(axis=1, keepdims=True)
    return curvature @ problem.geometry.squares


def _field_variance(
    problem: ReferenceProblem, variance: float, precision: NDArray[np.float64]
) -> NDArray[np.float64]:
    """V_kμ = Σ_i x̃²_μi s_ki."""
    common = problem.geometry.common_square
    s = variance / (1.0 + variance * precision)
    if common is not None:
        return np.broadcast_to(common * s, problem.preactivations.shape)
    return s @ problem.geometry.squares.T


def _solution(
    problem: ReferenceProblem,
    variance: float,
    messages: Messages,
    node: OutputNode,
    converged: bool,
    iterations: int,
    residual: float,
) -> Point:
    """The point of the ladder, with φ and r, that these messages give."""
    g, precision = messages.gradient, messages.precision
    V = _field_variance(problem, variance, precision)
    projected = g @ problem.geometry.gram
    moments = node.moments(problem.preactivations + variance * projected - V * g, V, problem.labels)
    shift = variance * np.sum(g * projected)  # ‖m − w‖²/Δ
    shrink = 1.0 / (1.0 + variance * precision)  # s/Δ: (K, N), or (K, 1) if common
    weight = problem.inputs / precision.shape[1]
    log_z = (
        -0.5 * weight * np.sum(shrink - 1 - np.log(shrink))
        - 0.5 * shift
        + np.sum(moments.log_evidence)
        + 0.5 * np.sum(V * g**2)
    )
    r = float(weight * np.sum(shrink) + shift) / problem.size
    return Point(float(log_z) / problem.size, r, converged, iterations, residual)
