"""Entropy-SGD and Replicated-SGD for deep networks, on torch."""

from deep.config import TrainingConfig
from deep.correlations import correlation_report
from deep.flatness import local_energy
from deep.hessian import hessian_spectrum, hessian_trace
from deep.images.datasets import load_images
from deep.local_entropy import local_entropy_curve
from deep.models import build_model
from deep.optimizers.entropy_sgd import EntropySGD
from deep.optimizers.focusing import AutomaticFocusing
from deep.optimizers.replicated_sgd import ReplicatedSGD
from deep.recipes import recipe
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
    "local_entropy_curve",
    "recipe",
    "train",
]
