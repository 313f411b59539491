"""Output nodes: the second layer, given Gaussian preactivations.

For each pattern an engine gives the means ω_k and variances V_k of independent Gaussian
preactivations u_k. A node returns

    log Z_μ = log ⟨weight of the pattern⟩,   g_k = ∂log Z_μ/∂ω_k,   ∂g_k/∂ω_k.

:class:`Majority` is the committee. :class:`AtMostErrors` allows training errors. Any object with
the method of :class:`OutputNode` can replace them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from message_passing import _kernels_output_node as kernels


class NodeMoments(NamedTuple):
    """log Z_μ (P,), g = ∂log Z/∂ω (K, P) and ∂g/∂ω (K, P), Z = Π_μ Z_μ.

    A node that spans all patterns has a single log Z (1,).
    """

    log_evidence: NDArray[np.float64]
    gradient: NDArray[np.float64]
    curvature: NDArray[np.float64]


class OutputNode(Protocol):
    """What an engine needs of the second layer."""

    def moments(
        self, mean: NDArray[np.float64], variance: NDArray[np.float64], labels: NDArray[np.float64]
    ) -> NodeMoments: ...


@dataclass(frozen=True)
class Majority:
    """The committee: a pattern is right when most of its K signs equal the label.

    The signs h_k = sign(u_k) are independent. Each is right with probability p_k = Φ(z_k),
    z_k = σω_k/√V_k, so the number n of right signs is Poisson-binomial:

        Z_μ = P[n ≥ (K+1)/2],
        g_k = σ P[n without k = (K−1)/2] N(z_k; 0, 1) / (√V_k Z_μ),
        ∂g_k/∂ω_k = −g_k² − (ω_k/V_k) g_k,

    computed with relative accuracy however small Z_μ is. K = 1 is the perceptron. At a finite
    inverse temperature β a wrong pattern has the weight e^(−β) instead of 0:
    Z_μ → e^(−β) + (1 − e^(−β)) Z_μ. A variance of zero means that the preactivation is certain.
    """

    inverse_temperature: float = math.inf

    def __post_init__(self) -> None:
        if not self.inverse_temperature >= 0:
            raise ValueError(
                f"inverse_temperature is {self.inverse_temperature}; a number ≥ 0 was expected."
            )

    def moments(
        self, mean: NDArray[np.float64], variance: NDArray[np.float64], labels: NDArray[np.float64]
    ) -> NodeMoments:
        """Moments for means and variances (K, P) and labels (P,)."""
        mean = np.ascontiguousarray(mean, dtype=np.float64)
        variance = np.ascontiguousarray(variance, dtype=np.float64)
        labels = np.ascontiguousarray(labels, dtype=np.float64)
        if mean.ndim != 2 or mean.shape[0] % 2 == 0:
            raise ValueError(f"mean has shape {mean.shape}; (K, P) with K odd was expected.")
        if variance.shape != mean.shape or labels.shape != mean.shape[1:]:
            raise ValueError(
                f"variance has shape {variance.shape} and labels {labels.shape}; "
                f"{mean.shape} and {mean.shape[1:]} were expected."
            )
        result = NodeMoments(np.empty(mean.shape[1]), np.empty(mean.shape), np.empty(mean.shape))
        kernels.majority(mean, variance, labels, self.inverse_temperature, *result)
        return result


@dataclass(frozen=True)
class AtMostErrors:
    """One node over all patterns: at most E = ``errors`` ≥ 0 of them are wrong.

    Eq. 3 of [P21] counts configurations with at most the reference's number of training errors.
    Given the cavity preactivations, the engines treat patterns as independent. Pattern μ is right
    with probability Z_μ, the evidence of ``node``, so the number n of wrong patterns is
    Poisson-binomial. The constraint n ≤ E is one output node over all patterns,

        Z = P[n ≤ E],
        ∂log Z/∂ω_kμ   = τ_μ g_kμ,
        ∂²log Z/∂ω_kμ² = τ_μ (∂g_kμ + g_kμ²) − (τ_μ g_kμ)²,
        τ_μ = Z_μ P[n without μ = E] / P[n ≤ E],

    with g and ∂g of ``node``. A pattern matters only if the others use up all allowed errors.
    E = 0 gives τ = 1 and Z = Π Z_μ.

    Pattern μ sees a finite inverse temperature, e^(−β_μ) = P[n without μ ≤ E − 1] /
    P[n without μ ≤ E]. For large E all β_μ tend to one β with ⟨n⟩_β = E, as in a second Legendre
    transform. For small E no single β need exist. A typical reference has one hard pattern: its
    β_μ is near 0, and the other β_μ are near ∞.

    ``node`` must return probabilities, so a ``Majority`` must have infinite inverse temperature.
    """

    errors: int
    node: OutputNode

    def __post_init__(self) -> None:
        if self.errors < 0:
            raise ValueError(f"errors is {self.errors}; a number ≥ 0 was expected.")
        if _is_soft(self.node):
            raise ValueError(f"node is {self.node!r}; one at infinite β was expected.")

    def moments(
        self, mean: NDArray[np.float64], variance: NDArray[np.float64], labels: NDArray[np.float64]
    ) -> NodeMoments:
        """log P[n ≤ errors], one number (1,), and its derivatives (K, P)."""
        log_right, g, dg = self.node.moments(mean, variance, labels)
        log_total, log_decisive = kernels.at_most(log_right, self.errors)
        if log_total == -math.inf:
            return NodeMoments(np.array([-math.inf]), np.zeros_like(g), np.zeros_like(dg))
        decisive = np.exp(log_right + log_decisive - log_total)  # τ
        gradient = decisive * g
        return NodeMoments(np.array([log_total]), gradient, decisive * (dg + g**2) - gradient**2)


def allow_errors(node: OutputNode, errors: int) -> OutputNode:
    """The node that counts configurations with at most ``errors`` errors.

    A node at a finite temperature is returned as it is: Z(β) allows any number of errors.
    """
    return node if errors == 0 or _is_soft(node) else AtMostErrors(errors, node)


def _is_soft(node: OutputNode) -> bool:
    return isinstance(node, Majority) and math.isfinite(node.inverse_temperature)
