"""Engine "ep": expectation propagation on the pre-activations.

The offsets v_k = (w′_k − w_k)·X̃ᵀ of one hidden unit over the patterns are exactly Gaussian with
covariance C = ΔG, G = x̃x̃ᵀ. This includes correlations between the inputs. Gaussian sites
exp(ν_kμ v − ½ λ_kμ v²), one per hidden unit, replace the output node of pattern μ:

    posterior   Σ_k = (C⁻¹ + Λ_k)⁻¹,   m_k = Σ_k ν_k,
    cavity      V = 1/(1/Σ_μμ − λ),    c = V (m/Σ_μμ − ν),
    site        λ ← −∂g/(1 + V ∂g),    ν ← g/(1 + V ∂g) + λ c,   g, ∂g of the node at (u + c, V),

    log Z = Σ_μ log Z_μ + ½ Σ_k [ν_k·m_k − log det(1 + Λ_k C)]
            + ½ Σ_kμ [log(1 + λV) + c²/V − (c/V + ν)²/(1/V + λ)],
    KN r  = KN + Σ_k [(ν_k − Λ_k m_k)·m_k − Σ_μ λ_kμ Σ_μμ].

Precisions λ can be negative, for example where other units compensate for a wrong one. If the
posterior or a cavity variance is not positive, the step becomes smaller. There are two
approximations: units are independent within a pattern, and sites are Gaussian. On trained machines
the first is the larger (tests/reference/joint_sites.py avoids it). Sources: [M01], [RW06] ch. 3.6.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cholesky, lu_factor, lu_solve, solve_triangular
from scipy.linalg.blas import dsymv
from scipy.linalg.lapack import dpotrf, dpotri
from tqdm import tqdm

from message_passing.output_node import Majority, OutputNode, allow_errors
from message_passing.problem import LadderResult, Point, ReferenceProblem
from message_passing.tools.validation import check_least

#: Sites with |λ| C_μμ below this are left out of the factorisation; they change r by less.
NEGLIGIBLE_PRECISION = 1e-11
#: Past sweeps that Anderson mixing combines.
MEMORY = 5
#: A sweep that multiplies the residual by more than this is undone.
LARGEST_GROWTH = 5.0
#: The iteration gives up when its step falls below this.
SMALLEST_STEP = 1e-4


@dataclass(frozen=True)
class ExpectationPropagation:
    """Configuration of the engine "ep".

    Attributes
    ----------
    damping : float
        Weight of the old sites in each sweep. It rises automatically towards 1 while the
        iteration does not contract or leaves the positive matrices, and falls again afterwards.
    tolerance : float
        A point has converged when no normalised site parameter (Vλ, √V ν) would change by more,
        undamped. The evidence is stationary there, so its error is of second order.
    max_sweeps : int
        Limit per point of the ladder.
    node : OutputNode
        The second layer.
    """

    damping: float = 0.3
    tolerance: float = 1e-4
    max_sweeps: int = 500
    node: OutputNode = field(default_factory=Majority)

    def __post_init__(self) -> None:
        if not 0 <= self.damping < 1:
            raise ValueError(f"damping is {self.damping}; a number in [0, 1) was expected.")
        if not self.tolerance > 0:
            raise ValueError(f"tolerance is {self.tolerance}; a positive number was expected.")
        check_least(self, max_sweeps=1)

    def ladder(
        self, problem: ReferenceProblem, variances: NDArray[np.float64], progress: bool = False
    ) -> LadderResult:
        """Solve for increasing Δ. Each point starts from the two previous ones."""
        problem = problem.without_contradictions()
        if not problem.labels.size:
            return LadderResult.from_points(variances, [Point()] * len(variances))
        solved: list[tuple[float, Sites]] = []
        solutions = []
        for variance in tqdm(map(float, variances), "ep", len(variances), disable=not progress):
            starts = [sites for _, sites in solved[-1:]]
            if len(solved) > 1:
                # Extrapolate linearly in log Δ. If that is not valid, start from the last point.
                (before, older), (last, newer) = solved[-2:]
                ratio = np.log(variance / last) / np.log(last / before)
                starts.insert(0, newer.towards(older, -float(ratio)))
            sites, solution = self.solve(problem, variance, starts)
            solved.append((variance, sites))
            solutions.append(solution)
        return LadderResult.from_points(variances, solutions)

    def solve(
        self, problem: ReferenceProblem, variance: float, starts: list[Sites]
    ) -> tuple[Sites, Point]:
        """The best sites met at Δ, from the first valid start, and the point that they give."""
        node = allow_errors(self.node, problem.training_errors)
        sites, state, sweeps = self.fixed_point(node, problem, variance, starts)
        return sites, Point(
            state.log_z / problem.size,
            1 + state.displacement / problem.size,
            state.residual < self.tolerance,
            sweeps,
            state.residual,
        )

    def fixed_point(
        self, node: OutputNode, problem: ReferenceProblem, variance: float, starts: list[Sites]
    ) -> tuple[Sites, SiteState, int]:
        """``solve`` for any output node: the best sites, their state, and the number of sweeps."""
        # Zero sites are always valid, so they are the last resort.
        starts = [
            *starts,
            Sites(np.zeros_like(problem.preactivations), np.zeros_like(problem.preactivations)),
        ]
        sites, state = _first_valid(node, problem, variance, starts)
        best, history = (sites, state), [(sites, state.update)]
        damping, sweeps = self.damping, 1
        while sweeps < self.max_sweeps and best[1].residual >= self.tolerance:
            proposal = accelerated_step(history, variance, 1 - damping)
            trial = _evaluate(node, problem, variance, proposal)
            sweeps += 1
            if trial is None or trial.residual > LARGEST_GROWTH * best[1].residual:
                # Return to the best sites, forget the others, and take smaller steps.
                damping = 1 - 0.5 * (1 - damping)
                history = [(best[0], best[1].update)]
                if 1 - damping < SMALLEST_STEP:
                    break
                continue
            history = [*history[1 - MEMORY :], (proposal, trial.update)]
            if trial.residual < best[1].residual:
                best = (proposal, trial)
                damping = max(self.damping, 1 - 1.1 * (1 - damping))
        return *best, sweeps


class Sites(NamedTuple):
    """Natural parameters λ and ν of the sites, each (K, P)."""

    precision: NDArray[np.float64]
    shift: NDArray[np.float64]

    def towards(self, other: Sites, step: float) -> Sites:
        """self + step · (other − self)."""
        return Sites(
            self.precision + step * (other.precision - self.precision),
            self.shift + step * (other.shift - self.shift),
        )


def accelerated_step(history: list[tuple[Sites, Sites]], variance: float, step: float) -> Sites:
    """Anderson mixing: the next sites from past pairs (sites, their undamped update).

    Find the affine combination of the past sites with the smallest combined change, and make a
    damped step from there. A single pair gives the plain damped step.
    """
    points = np.array([_flat(sites, variance) for sites, _ in history])
    changes = np.array([_flat(update, variance) for _, update in history]) - points
    point, change = points[-1], changes[-1]
    if len(history) > 1:
        differences = changes[-1] - changes[:-1]
        inner = differences @ differences.T
        inner[np.diag_indices_from(inner)] *= 1 + 1e-10
        weights = np.linalg.lstsq(inner, differences @ change, rcond=1e-12)[0]
        point = point - weights @ (points[-1] - points[:-1])
        change = change - weights @ differences
    flat = point + step * change
    lam, nu = history[-1][0]
    return Sites(
        flat[: lam.size].reshape(lam.shape) / variance,
        flat[lam.size :].reshape(nu.shape) / np.sqrt(variance),
    )


def _flat(sites: Sites, variance: float) -> NDArray[np.float64]:
    """One vector with the dimensionless λΔ and ν√Δ."""
    return np.concatenate(
        [variance * sites.precision.ravel(), np.sqrt(variance) * sites.shift.ravel()]
    )


class SiteState(NamedTuple):
    """What sites imply: their undamped update, log Z, and moments of the offsets v (K, P)."""

    update: Sites
    residual: float
    log_z: float
    displacement: float  # KN (r − 1)
    force: NDArray[np.float64]  # ν − λ⟨v⟩, which is ∂log Z/∂u at the fixed point


def _first_valid(
    node: OutputNode, problem: ReferenceProblem, variance: float, starts: list[Sites]
) -> tuple[Sites, SiteState]:
    for sites in starts:
        state = _evaluate(node, problem, variance, sites)
        if state is not None:
            return sites, state
    raise ArithmeticError(f"no valid sites at variance {variance}, not even zero ones.")


def _evaluate(
    node: OutputNode, problem: ReferenceProblem, variance: float, sites: Sites
) -> SiteState | None:
    """The state that the sites imply, or None if they are not a distribution."""
    lam, nu = sites
    diagonal, mean = np.empty_like(lam), np.empty_like(lam)
    log_det = 0.0
    for k in range(len(lam)):
        posterior = gaussian_posterior(problem, variance, lam[k], nu[k])
        if posterior is None:
            return None
        diagonal[k], mean[k], part = posterior
        log_det += part
    shrink = 1.0 - lam * diagonal
    if not np.all(shrink > 0):
        return None
    V = diagonal / shrink
    c = (mean - nu * diagonal) / shrink
    moments = node.moments(problem.preactivations + c, V, problem.labels)
    left = 1.0 + V * moments.curvature  # tilted variance divided by cavity variance, > 0
    if not (np.all(left > 0) and np.all(np.isfinite(moments.log_evidence))):
        return None
    new_lam = -moments.curvature / left
    update = Sites(new_lam, moments.gradient / left + new_lam * c)
    scale = np.sqrt(V)
    # Compare ν at the cavity mean, where a change of λ alone has no effect.
    residual = max(np.abs(V * (new_lam - lam)).max(), np.abs(scale * (update.shift - nu)).max())
    broadened = 1.0 + lam * V
    log_z = (
        np.sum(moments.log_evidence)
        + 0.5 * np.sum(nu * mean)
        - 0.5 * log_det
        # ½ Σ [log(1 + λV) + c²/V − (c/V + ν)²/(1/V + λ)], without dividing by V
        + 0.5 * np.sum(np.log(broadened) + (lam * c**2 - 2 * c * nu - V * nu**2) / broadened)
    )
    force = nu - lam * mean
    displacement = np.sum(force * mean) - np.sum(lam * diagonal)
    return SiteState(update, float(residual), float(log_z), float(displacement), force)


def gaussian_posterior(
    problem: ReferenceProblem, variance: float, lam: NDArray[np.float64], nu: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float] | None:
    """Diagonal of Σ = (C⁻¹ + Λ)⁻¹, m = Σν and log det(1 + ΛC), for C = ΔG; None if Σ is invalid.

    If few sites a matter, only these are factorised: Σ = C − C_a (1 + Λ_a C_aa)⁻¹ Λ_a C_aᵀ. With
    many, C⁻¹ + Λ is factorised, or, for a (nearly) singular C, the matrix 1 + Δ FᵀΛF (R, R).
    """
    geometry = problem.geometry
    gram, factor = geometry.gram, geometry.factor
    prior = variance * np.diag(gram)
    active = np.flatnonzero(np.abs(lam) * prior > NEGLIGIBLE_PRECISION)
    if len(active) == 0:
        return prior, variance * (gram @ nu), 0.0
    if len(active) < 0.5 * factor.shape[1]:
        columns = variance * gram[:, active]
        inner = np.eye(len(active)) + lam[active, None] * columns[active]
        lu = lu_factor(inner, check_finite=False)
        pivots = np.diag(lu[0])
        swaps = np.count_nonzero(lu[1] != np.arange(len(active)))
        if np.any(pivots == 0) or (np.count_nonzero(pivots < 0) + swaps) % 2:
            return None
        prior_mean = variance * (gram @ nu)
        right = np.column_stack([lam[active, None] * columns.T, lam[active] * prior_mean[active]])
        solved = lu_solve(lu, right, check_finite=False, overwrite_b=True)
        diagonal = prior - np.einsum("pa,ap->p", columns, solved[:, :-1])
        if not np.all(diagonal[prior > 0] > 0):
            return None
        return diagonal, prior_mean - columns @ solved[:, -1], np.sum(np.log(np.abs(pivots)))
    if geometry.gram_inverse is not None:
        inverse, log_det = geometry.gram_inverse
        inner = np.array(inverse / variance, order="F")
        inner[np.diag_indices_from(inner)] += lam
        root, failed = dpotrf(inner, lower=1, overwrite_a=1, clean=0)
        if failed:
            return None
        log_det += len(lam) * np.log(variance) + 2 * np.sum(np.log(np.diag(root)))
        covariance, _ = dpotri(root, lower=1, overwrite_c=1)
        return np.diag(covariance).copy(), dsymv(1.0, covariance, nu, lower=1), log_det
    inner = np.eye(factor.shape[1]) + variance * (factor.T * lam) @ factor
    try:
        root = cholesky(inner, lower=True, check_finite=False)
    except LinAlgError:
        return None
    half = solve_triangular(root, factor.T, lower=True, check_finite=False)  # (R, P)
    diagonal = variance * np.einsum("rp,rp->p", half, half)
    mean = variance * (half.T @ (half @ nu))
    return diagonal, mean, 2 * np.sum(np.log(np.diag(root)))
