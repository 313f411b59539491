"""Committee machines: data, training by SGD and entropic algorithms, flatness, figures."""

from importlib import import_module
from typing import Any

from committee.algorithms import (
    ALGORITHMS,
    SGD,
    Algorithm,
    EntropyAscent,
    EntropySGD,
    ReplicatedSGD,
    WeightNoise,
)
from committee.flatness import LocalEnergyProfile, local_energy
from committee.machine import error_rate, predict
from committee.patterns import PatternSet, load_patterns
from committee.solution_space.entropy_ascent import AscentPath, ascend
from committee.solution_space.typical import SolutionSample, typical_solutions
from committee.training import TrainedEnsemble, TrainedMachine, train
from message_passing import __version__ as __version__

# These subpackages are imported when they are first used.
_THEORIES = ("gaussian_mixture", "perceptron")

# matplotlib is imported when a plot function is first used.
_PLOTS = {
    "plot_conditions": "committee.solution_space.figures",
    "plot_flatness_range": "committee.solution_space.figures",
    "plot_gaussian_mixture": "committee.gaussian_mixture.figures",
    "plot_local_energy": "committee.figures",
    "plot_local_entropy": "committee.figures",
    "plot_patterns": "committee.figures",
    "plot_perceptron": "committee.perceptron.figure",
    "plot_results": "committee.figures",
    "plot_test_errors": "committee.figures",
}

__all__ = [
    "ALGORITHMS",
    "SGD",
    "Algorithm",
    "AscentPath",
    "EntropyAscent",
    "EntropySGD",
    "LocalEnergyProfile",
    "PatternSet",
    "ReplicatedSGD",
    "SolutionSample",
    "TrainedEnsemble",
    "TrainedMachine",
    "WeightNoise",
    "ascend",
    "error_rate",
    "load_patterns",
    "local_energy",
    "predict",
    "train",
    "typical_solutions",
    *_PLOTS,
    *_THEORIES,
]


def __getattr__(name: str) -> Any:
    if name in _PLOTS:
        return getattr(import_module(_PLOTS[name]), name)
    if name in _THEORIES:
        return import_module(f"committee.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
