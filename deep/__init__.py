"""Entropy-SGD and Replicated-SGD for deep networks, on torch."""
