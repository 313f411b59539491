"""Entropy-SGD and Replicated-SGD for deep networks, on torch."""

from deep.datasets import load_images
from deep.entropy_sgd import EntropySGD
from deep.focusing import AutomaticFocusing
from deep.models import build_model
from deep.replicated_sgd import ReplicatedSGD

__all__ = ["AutomaticFocusing", "EntropySGD", "ReplicatedSGD", "build_model", "load_images"]
