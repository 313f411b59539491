"""Local entropy of given weights: belief propagation, expectation propagation, Monte Carlo."""

from message_passing.belief_propagation import BeliefPropagation
from message_passing.local_entropy import LocalEntropyCurve, local_entropy_curve
from message_passing.problem import PatternGeometry

__all__ = ["BeliefPropagation", "LocalEntropyCurve", "PatternGeometry", "local_entropy_curve"]
