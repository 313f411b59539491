"""Checks of what EntropySGD and ReplicatedSGD are given; each raises ``ValueError``."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from deep.optimizers.base_optimizers import check_rate


def check_inner_loop(
    inner_lr: float, inner_steps: int, noise: float, averaging: float, noise_enters: str
) -> None:
    """The numbers of Entropy-SGD's inner loop: η' ≥ 0, L ≥ 1, ε ≥ 0, α in [0, 1)."""
    check_rate(inner_lr, "inner_lr")
    if not (isinstance(inner_steps, int) and inner_steps >= 1):
        raise ValueError(f"inner_steps is {inner_steps!r}; an integer ≥ 1 was expected.")
    if not noise >= 0:
        raise ValueError(f"noise is {noise}; a number ≥ 0 was expected.")
    if not 0 <= averaging < 1:
        raise ValueError(f"averaging is {averaging}; a number in [0, 1) was expected.")
    if noise_enters not in ("weights", "gradient"):
        raise ValueError(f"noise_enters is {noise_enters!r}; 'weights' or 'gradient' was expected.")
    if noise_enters == "gradient" and noise > 0 and inner_lr == 0:
        raise ValueError("inner_lr is 0; noise in the gradient needs a positive one.")


def check_coupling(coupling_period: Any, coupling: str) -> None:
    """The coupling of Replicated-SGD: K_c ≥ 1, explicit or implicit."""
    if not (isinstance(coupling_period, int) and coupling_period >= 1):
        raise ValueError(f"coupling_period is {coupling_period!r}; an integer ≥ 1 was expected.")
    if coupling not in ("explicit", "implicit"):
        raise ValueError(f"coupling is {coupling!r}; 'explicit' or 'implicit' was expected.")


def dense_gradient(p: Tensor) -> Tensor:
    """The gradient of a parameter that has one, which must not be sparse."""
    assert p.grad is not None
    if p.grad.is_sparse:
        raise ValueError("a parameter has a sparse gradient; dense gradients were expected.")
    return p.grad
