"""Entropy-SGD, Replicated-SGD and their baselines, around any base optimizer."""
