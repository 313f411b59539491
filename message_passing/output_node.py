"""The output node: the majority of K signs, given Gaussian pre-activations.

An engine hands over, for each pattern, means ω_k and variances V_k of independent Gaussian
pre-activations u_k; a node answers with

    log Z_μ = log ⟨weight of the pattern⟩,   g_k = ∂log Z_μ/∂ω_k,   ∂g_k/∂ω_k.

Anything with the methods of :class:`OutputNode` can stand in its place.
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

    A node over all patterns together has a single log Z (1,).
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
    """The committee: a pattern is right when most of the signs of its pre-activations are.

    h_k = sign(u_k) are independent, right with probability p_k = Φ(z_k), z_k = σω_k/√V_k, and
    the number n of right ones is Poisson-binomial:

        Z_μ = P[n ≥ (K+1)/2],
        g_k = σ P[n without k = (K−1)/2] N(z_k; 0, 1) / (√V_k Z_μ),
        ∂g_k/∂ω_k = −g_k² − (ω_k/V_k) g_k,

    computed with relative accuracy however small Z_μ is. K = 1 is the perceptron. At a finite
    inverse temperature β a wrong pattern has weight e^(−β) in place of 0:
    Z_μ → e^(−β) + (1 − e^(−β)) Z_μ. A variance of zero stands for a field that is certain.
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
