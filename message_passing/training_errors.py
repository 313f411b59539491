"""References with training errors: at most E of all patterns may be wrong.

Eq. 3 of [P21] counts configurations with at most the reference's number E of training errors.
Where an engine treats patterns as independent given its cavity fields, pattern μ is right with
probability Z_μ, the evidence of its own node, and the number n of wrong ones is Poisson-binomial.
The constraint n ≤ E is then one output node over all patterns,

    Z = P[n ≤ E],
    ∂log Z/∂ω_kμ   = τ_μ g_kμ,
    ∂²log Z/∂ω_kμ² = τ_μ (∂g_kμ + g_kμ²) − (τ_μ g_kμ)²,
    τ_μ = Z_μ P[n without μ = E] / P[n ≤ E],

with g and ∂g of the pattern's own node: a pattern counts where it decides, that is where the others
have used up all the errors. E = 0 gives τ = 1 and Z = Π Z_μ.

This is the second Legendre transform, for whole numbers. To pattern μ the others amount to a
finite inverse temperature,

    e^(−β_μ) = P[n without μ ≤ E − 1] / P[n without μ ≤ E],   Z_μ → e^(−β_μ) + (1 − e^(−β_μ)) Z_μ,

and for large E all β_μ tend to the one β with ⟨n⟩_β = E, and log P[n ≤ E] to log Z(β) + βE. For
small E there need not be such a β: the one error of a typical reference is always the same
pattern's, whose own β_μ is near 0 while that of all others is near ∞.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from message_passing import _kernels_output_node as kernels
from message_passing.output_node import Majority, NodeMoments, OutputNode


@dataclass(frozen=True)
class AtMostErrors:
    """The node of all patterns together: at most ``errors`` ≥ 0 of them are wrong.

    ``node`` says how likely each pattern is to be right; its evidence must be a probability, so
    that its inverse temperature, if it has one, is infinite.
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

    A node at a finite temperature stays as it is: Z(β) admits any number of errors, at its price.
    """
    return node if errors == 0 or _is_soft(node) else AtMostErrors(errors, node)


def _is_soft(node: OutputNode) -> bool:
    return isinstance(node, Majority) and math.isfinite(node.inverse_temperature)
