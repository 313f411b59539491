"""Local entropy of given weights: belief propagation, expectation propagation, Monte Carlo."""

from message_passing.belief_propagation import BeliefPropagation
from message_passing.expectation_propagation import ExpectationPropagation
from message_passing.local_entropy import LocalEntropyCurve, local_entropy_curve
from message_passing.monte_carlo import MonteCarlo
from message_passing.problem import PatternGeometry

__all__ = [
    "BeliefPropagation",
    "ExpectationPropagation",
    "LocalEntropyCurve",
    "MonteCarlo",
    "PatternGeometry",
    "local_entropy_curve",
]
