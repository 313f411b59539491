"""Committee machines: data, training by SGD and its entropic relatives, flatness, figures."""

from typing import Any

from committee.algorithms import ALGORITHMS, SGD, Algorithm, EntropySGD, ReplicatedSGD
from committee.flatness import LocalEnergyProfile, local_energy
from committee.machine import error_rate, predict
from committee.patterns import PatternSet, load_patterns
from committee.training import TrainedEnsemble, TrainedMachine, train

# matplotlib is imported when a plot function is first used.
_PLOTS = (
    "plot_local_energy",
    "plot_local_entropy",
    "plot_patterns",
    "plot_results",
    "plot_test_errors",
)

__all__ = [
    "ALGORITHMS",
    "SGD",
    "Algorithm",
    "EntropySGD",
    "LocalEnergyProfile",
    "PatternSet",
    "ReplicatedSGD",
    "TrainedEnsemble",
    "TrainedMachine",
    "error_rate",
    "load_patterns",
    "local_energy",
    "predict",
    "train",
    *_PLOTS,
]


def __getattr__(name: str) -> Any:
    if name in _PLOTS:
        from committee import figures

        return getattr(figures, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
