"""Entropy-SGD and Replicated-SGD for deep networks, on torch."""

from deep.config import TrainingConfig
from deep.correlations import correlation_report
from deep.datasets import load_images
from deep.entropy_sgd import EntropySGD
from deep.flatness import local_energy
from deep.focusing import AutomaticFocusing
from deep.hessian import hessian_spectrum, hessian_trace
from deep.models import build_model
from deep.recipes import recipe
from deep.replicated_sgd import ReplicatedSGD
from deep.training import train

__all__ = [
    "AutomaticFocusing",
    "EntropySGD",
    "ReplicatedSGD",
    "TrainingConfig",
    "build_model",
    "correlation_report",
    "hessian_spectrum",
    "hessian_trace",
    "load_images",
    "local_energy",
    "recipe",
    "train",
]
