"""Committee machines: data, training by SGD and its entropic relatives, flatness, figures."""

from committee.machine import error_rate, predict
from committee.patterns import PatternSet

__all__ = ["PatternSet", "error_rate", "predict"]
