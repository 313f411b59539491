"""ShakeDrop (Yamada et al., 2018, "ShakeDrop regularization for deep residual learning")."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _ScaledBothWays(torch.autograd.Function):
    """x ↦ a x with the gradient g ↦ b g."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(b)
        return x * a

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (b,) = ctx.saved_tensors
        return gradient * b, None, None


class ShakeDrop(nn.Module):
    """Scales a residual branch by c + α − cα forwards and c + β − cβ backwards in training.

    ::

        c ~ Bernoulli(p)           one for the whole minibatch
        α ~ U[−1, 1], β ~ U[0, 1]  one for each image

    So the branch is passed on as it is (c = 1) or shaken (c = 0). Evaluation multiplies by the
    mean, E[c + α − cα] = p; that of the gradient's coefficient is p + (1 − p)/2. That c is
    shared by the minibatch and α, β are not is the choice of the published implementations
    (shake-drop_pytorch, Fast AutoAugment, AutoAugment). Draws from torch's global generator,
    all of them in the forward pass.

    Raises ``ValueError`` for a p outside [0, 1].
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"p is {p}; a probability was expected.")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x * self.p
        gate = (torch.rand((), device=x.device) < self.p).to(x.dtype)
        alpha, beta = torch.rand((2, len(x), 1, 1, 1), device=x.device, dtype=x.dtype)
        scales = (torch.lerp(s, torch.ones_like(s), gate) for s in (2 * alpha - 1, beta))
        return _ScaledBothWays.apply(x, *scales)
