"""Committee machines: data, training by SGD and its entropic relatives, flatness, figures."""

from committee.datasets import load_patterns
from committee.flatness import LocalEnergyProfile, local_energy
from committee.machine import error_rate, predict
from committee.patterns import PatternSet
from committee.protocols import PROTOCOLS, SGD, EntropySGD, Protocol, ReplicatedSGD
from committee.training import TrainedEnsemble, TrainedMachine, train

__all__ = [
    "PROTOCOLS",
    "SGD",
    "EntropySGD",
    "LocalEnergyProfile",
    "PatternSet",
    "Protocol",
    "ReplicatedSGD",
    "TrainedEnsemble",
    "TrainedMachine",
    "error_rate",
    "load_patterns",
    "local_energy",
    "predict",
    "train",
]
