"""Local entropy of given weights: belief propagation, expectation propagation, Monte Carlo."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from message_passing.belief_propagation import BeliefPropagation
from message_passing.expectation_propagation import ExpectationPropagation
from message_passing.local_entropy import LocalEntropyCurve, local_entropy_curve
from message_passing.monte_carlo import MonteCarlo
from message_passing.problem import PatternGeometry

try:
    __version__ = version("wide-flat-minima")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "unknown"

PLOTS = ("plot_curve", "plot_curves")

__all__ = [
    "BeliefPropagation",
    "ExpectationPropagation",
    "LocalEntropyCurve",
    "MonteCarlo",
    "PatternGeometry",
    "local_entropy_curve",
    "plot_curve",
    "plot_curves",
]


def __getattr__(name: str) -> Any:
    """Import plots when they are used, because matplotlib takes long."""
    if name in PLOTS:
        from message_passing import figures

        return getattr(figures, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
