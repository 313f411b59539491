"""Estimates of the flatness of a committee of signs: log Z(Δ), and numbers that only rank machines.

Weights are in units of their root mean square: rows have the norm √N, and u_k = w_k·x/√N. Then
log Z(Δ) is the same for engines that exploit the structure of a committee
(:mod:`message_passing.local_entropy`) and for black-box estimators. Methods that need a gradient
use the smooth committee of [P21] App. B.1,

    f(x) = K^(-1/2) Σ_k tanh(β u_k),      loss −log p(y|x) = log(1 + exp(−2ω y f)).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import hyp1f1, logsumexp
from scipy.stats import chi2
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.nn.functional import softplus

import message_passing
from committee.flatness import local_energy
from deep.hessian import hessian_trace
from deep.learning_coefficient import LearningCoefficient, Problem
from deep.local_entropy import local_entropy_curve, perturbation_scales
from deep.perturbed_networks import PerturbedNetworks, what_is_wrong
from message_passing import MonteCarlo
from message_passing.ladder import LadderSettings
from message_passing.local_entropy import DEFAULT_VARIANCES, LocalEntropyCurve

TRUTH = "mc"
RAYS, HALVINGS = 500, 30
TRACE_VECTORS = 30


class Committee(nn.Module):
    """K^(-1/2) Σ_k tanh(β w_k·x/√N). β = ∞ gives signs; a zero counts as +1."""

    def __init__(self, weights: NDArray, beta: float = math.inf) -> None:
        super().__init__()
        self.weight, self.beta = nn.Parameter(torch.tensor(weights, dtype=torch.float32)), beta

    def forward(self, x: Tensor) -> Tensor:
        K, N = self.weight.shape
        u = x @ self.weight.T / N**0.5
        hidden = (
            torch.tanh(self.beta * u) if self.beta < math.inf else torch.where(u >= 0, 1.0, -1.0)
        )
        return hidden.sum(-1) / K**0.5


@dataclass(frozen=True)
class Case:
    """A machine (K, N) with rows of norm √N, its training patterns, and the options.

    Options: Δ of log Z(Δ), β and ω of the smooth committee, the settings of the black-box ladder.
    """

    weights: NDArray[np.float64]
    patterns: NDArray[np.float64]
    labels: NDArray[np.float64]
    variance: float
    beta: float
    omega: float
    ladder: LadderSettings
    seed: int

    @property
    def data(self) -> tuple[Tensor, Tensor]:
        """Inputs (P, N) and labels (P,)."""
        patterns, labels = (torch.from_numpy(a).float() for a in (self.patterns, self.labels))
        return patterns, labels

    @property
    def smooth(self) -> Committee:
        """The committee of tanh units."""
        return Committee(self.weights, self.beta)

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Loss of each pattern."""
        return softplus(-2 * self.omega * labels * outputs)


class Estimate(NamedTuple):
    """A value with its claimed standard error (NaN: none), and who computed it."""

    value: float
    standard_error: float = math.nan
    converged: bool = True
    by: str = "here"


def _engine(name: str, case: Case) -> Estimate:
    """log Z by an engine for committees. bp and ep start from smaller Δ."""
    Δ = case.variance
    ladder = [Δ] if name == TRUTH else [*DEFAULT_VARIANCES[DEFAULT_VARIANCES < 0.99 * Δ], Δ]
    curve = message_passing.local_entropy_curve(
        case.weights, case.patterns, case.labels, variances=ladder,
        engine=MonteCarlo(seed=case.seed) if name == TRUTH else name,
    )  # fmt: skip
    found = _last_point(curve, case.weights.size)
    return found if name == TRUTH else found._replace(standard_error=math.nan)


def black_box_ladder(case: Case) -> Estimate:
    """log Z by ``deep.local_entropy_curve``, which uses only the outputs."""
    curve = local_entropy_curve(
        Committee(case.weights), *case.data, variances=[case.variance],
        sampler=case.ladder, seed=case.seed, progress=False,
    )  # fmt: skip
    return _last_point(curve, curve.parameters)


def _last_point(curve: LocalEntropyCurve, size: int) -> Estimate:
    φ, error = size * float(curve.free_entropy[-1]), size * float(curve.standard_error[-1])
    return Estimate(φ, error, bool(curve.converged[-1]))


def laplace(case: Case) -> Estimate:
    """log Z ≈ −½ log det(1 + Δ H), H the Gauss–Newton matrix of the summed smooth loss.

    H = Jᵀ Λ J has at most rank P, so the determinant equals det(1 + Δ Λ^½ J Jᵀ Λ^½), of size P.
    """
    model, (inputs, labels) = case.smooth, case.data
    weight = model.weight.detach()
    J = jacrev(lambda w: functional_call(model, {"weight": w}, (inputs,)))(weight).flatten(1)
    p = torch.sigmoid(2 * case.omega * labels * model(inputs).detach())
    rows = J.double() * (2 * case.omega * (p * (1 - p)).sqrt()).double()[:, None]
    inner = torch.eye(len(rows)).double() + case.variance * rows @ rows.T
    return Estimate(-0.5 * float(torch.linalg.slogdet(inner).logabsdet))


def log_ball(size: int, square: NDArray[np.float64]) -> NDArray[np.float64]:
    """log P[χ² ≤ square] for ``size`` degrees of freedom, even if P underflows."""
    a, h = 0.5 * size, 0.5 * np.asarray(square)
    with np.errstate(divide="ignore"):
        tail = a * np.log(h) - h - math.lgamma(a + 1) + np.log(hyp1f1(1.0, a + 1, np.minimum(h, a)))
    return np.where(h < a, tail, chi2.logcdf(2 * h, size))


def radial_rays(case: Case) -> Estimate:
    """log Z for star-shaped solutions: the mean Gaussian mass of random rays up to their ends.

    Bisection finds the end. A ray ends at ten standard deviations of |z|² at the latest.
    """
    model, Δ = Committee(case.weights), case.variance
    size, (inputs, labels) = case.weights.size, case.data
    wrong = what_is_wrong(model(inputs).detach(), labels, None, None)
    scales = perturbation_scales(model, "layer")
    networks = PerturbedNetworks(model, scales, inputs, labels, wrong)
    most = int(networks.errors(np.zeros((1, size), np.float32), len(inputs))[0])
    directions = np.random.default_rng(case.seed).standard_normal((RAYS, size), dtype=np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)

    def allowed(radii: NDArray[np.float64]) -> NDArray[np.bool_]:
        offsets = (radii[:, None] * directions).astype(np.float32)
        parts = np.array_split(offsets, -(-RAYS // networks.at_once))
        return np.concatenate([networks.errors(part, most) <= most for part in parts])

    low, high = np.zeros(RAYS), np.full(RAYS, math.sqrt(Δ * (size + 10 * math.sqrt(2 * size))))
    low[allowed(high)] = high[0]
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        good = allowed(middle)
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    shares = log_ball(size, low**2 / Δ)
    relative = np.exp(shares - shares.max())
    error = relative.std(ddof=1) / relative.mean() / math.sqrt(RAYS)
    return Estimate(float(logsumexp(shares)) - math.log(RAYS), float(error))


def noise_energy(case: Case) -> Estimate:
    """δE(1) of the committee of signs, exact."""
    profile = local_energy(case.weights, case.patterns, case.labels, [1.0])
    return Estimate(float(profile.local_energy[0]), 0.0)


def curvature(case: Case) -> Estimate:
    """Trace of the Hessian of the mean smooth loss."""
    found = hessian_trace(
        case.smooth, [case.data], samples=TRACE_VECTORS, seed=case.seed,
        loss=lambda outputs, labels: case.losses(outputs, labels).mean(),
    )  # fmt: skip
    return Estimate(found.trace, found.standard_error)


def learning_coefficient(settings: LearningCoefficient, case: Case) -> Estimate:
    """λ of the smooth loss, with the standard error over the chains."""
    values, by = settings.of(Problem(case.smooth, *case.data, case.losses), case.seed)
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return Estimate(float(values.mean()), error, bool(np.isfinite(values).all()), by)


#: The estimators: a function, and the sign of its expected correlation with log Z.
#: The second learning coefficient has the theory's nβ = P / log P and localised chains.
LOCALIZED = LearningCoefficient(lr=1e-4, n_beta=None, localization=100.0, draws=1000)
ESTIMATORS: dict[str, tuple[Callable[[Case], Estimate], int]] = {
    TRUTH: (partial(_engine, TRUTH), 1),
    "bp": (partial(_engine, "bp"), 1),
    "ep": (partial(_engine, "ep"), 1),
    "ladder": (black_box_ladder, 1),
    "laplace": (laplace, 1),
    "rays": (radial_rays, 1),
    "local_energy": (noise_energy, -1),
    "hessian_trace": (curvature, -1),
    "llc": (partial(learning_coefficient, LearningCoefficient()), -1),
    "llc_localized": (partial(learning_coefficient, LOCALIZED), -1),
}
ENTROPIES = [name for name, (_, sign) in ESTIMATORS.items() if sign > 0]
