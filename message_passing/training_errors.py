"""References with training errors: from a temperature to a number of errors.

Eq. 3 of [P21] counts configurations with at most the reference's number E of training errors.
An engine that knows Z(β) = ⟨exp(−β · errors)⟩ yields that count by a second Legendre transform,
log Z_E = log Z(β) + βE at ⟨errors⟩ = E. This is the leading order, and an upper bound; with E
of order one it is off by about one unit in log Z. Hence the next order is included: the count is
the contour integral of Z(z) z^(−E−1)/(1 − z), z = e^(−β), and its saddle point gives

    h(β) = log Z(β) + βE − log(1 − e^(−β)),    h′(β) = 0:  ⟨errors⟩ + 1/(e^β − 1) = E,
    log Z_E = h − ½ log(2π h″),                h″ = Var(errors) + e^(−β)/(1 − e^(−β))²,

right to 0.1 in log Z for Poisson-distributed errors. E = 0 is β = ∞ and needs none of this.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from message_passing.output_node import Majority, OutputNode
from message_passing.problem import Solution

State = TypeVar("State")

#: Accuracy of β in log ⟨errors⟩; log Z_E is stationary, its error is of the order of the square.
TOLERANCE = 1e-3
MOST_TEMPERATURES = 40
#: Distance in β over which the variance of the number of errors is measured.
STEP = 0.1


def solve_with_errors(
    solve: Callable[[State, OutputNode], tuple[State, Solution]],
    start: State,
    node: OutputNode,
    errors: int,
    size: int,
) -> tuple[State, Solution, Majority]:
    """Solve at the β that allows ``errors`` ≥ 1 errors.

    Parameters
    ----------
    solve : from a start and a node to a state and a solution.
    node : Majority
        Its temperature, if finite, is the first guess.
    size : K N

    Returns
    -------
    The state, the solution with φ of at most ``errors`` errors, and the node at that temperature.
    """
    if not isinstance(node, Majority):
        raise ValueError(
            f"node is {node!r}; a reference with training errors needs a Majority node."
        )
    iterations = 0

    def at(beta: float) -> tuple[Solution, float]:
        nonlocal start, iterations
        warm = replace(node, inverse_temperature=beta)
        start, solution = solve(start, warm)
        iterations += solution.iterations
        return solution, float(warm.wrong_probability(solution.log_evidence).sum())

    beta = node.inverse_temperature if math.isfinite(node.inverse_temperature) else 1.0
    low, high = 0.0, math.inf
    for _ in range(MOST_TEMPERATURES):
        solution, mean = at(beta)
        # log(⟨errors⟩ + 1/(e^β − 1)) falls with β with a slope near −1.
        excess = math.log((mean + 1.0 / math.expm1(beta)) / errors)
        if abs(excess) < TOLERANCE:
            break
        low, high = (beta, high) if excess > 0 else (low, beta)
        guess = beta + excess
        beta = (
            guess if low < guess < high else (0.5 * (low + high) if high < math.inf else 2 * beta)
        )
    found = solution
    _, colder = at(beta + STEP)
    spread = math.sqrt(mean * colder) * math.log(mean / colder) / STEP  # −∂⟨errors⟩/∂β
    wrong = math.exp(-beta)
    second = spread + wrong / (1.0 - wrong) ** 2
    log_z = (
        found.free_entropy * size
        + beta * errors
        - math.log1p(-wrong)
        - 0.5 * math.log(2.0 * math.pi * second)
    )
    corrected = found._replace(
        free_entropy=min(log_z, 0.0) / size,
        converged=found.converged and abs(excess) < TOLERANCE,
        iterations=iterations,
    )
    return start, corrected, replace(node, inverse_temperature=beta)
