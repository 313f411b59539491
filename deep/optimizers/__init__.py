"""Entropy-SGD, Replicated-SGD and their peers, around any base optimizer."""
