"""Committee machines: data, training by SGD and its entropic relatives, flatness, figures."""

from committee.datasets import load_patterns
from committee.flatness import LocalEnergyProfile, local_energy
from committee.machine import error_rate, predict
from committee.patterns import PatternSet

__all__ = [
    "LocalEnergyProfile",
    "PatternSet",
    "error_rate",
    "load_patterns",
    "local_energy",
    "predict",
]
