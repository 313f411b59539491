"""Entropy-SGD and Replicated-SGD for deep networks, on torch."""

from deep.entropy_sgd import EntropySGD
from deep.focusing import AutomaticFocusing
from deep.replicated_sgd import ReplicatedSGD

__all__ = ["AutomaticFocusing", "EntropySGD", "ReplicatedSGD"]
