"""Entropy-SGD's inner step in one pass over the weights, where its base is ``torch.optim.SGD``.

Pull, step, noise and average are all bound by the memory they touch. Around any other base they
are three passes (``langevin.py``); with SGD, whose formula is known, pull, noise and average add
no more than the traffic of the anchor and of the average.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import optimizer as torch_optimizer

from deep.optimizers import _kernels_langevin as kernels
from deep.optimizers.cpu_passes import in_chunks, in_one_pass
from deep.optimizers.inner_loop import Active
from deep.optimizers.langevin import LangevinNoise


def applies(base: torch.optim.Optimizer, parts: list[Active]) -> bool:
    """Whether ``base.step()`` is the plain step of SGD, and all tensors are for the kernels."""
    return (
        type(base) is torch.optim.SGD
        and "step" not in vars(base)  # nobody has put another in its place
        and not any(_hooks(base))
        and all(_is_plain(group) for group in base.param_groups)
        and all(
            in_one_pass(p.weights, p.gradients, p.anchors, p.averages, _velocities(base, p))
            for p in parts
        )
    )


def step(
    base: torch.optim.Optimizer,
    parts: list[Active],
    langevin: LangevinNoise,
    gamma: float,
    noise: float,
    averaging: float,
) -> None:
    """Algorithm 1, lines 5 to 7; ``.grad`` stays what it was.

    With d = ∇ + γ (w' − w) + λ w', SGD's step is w' ← w' − η' d; with momentum v ← m v + d and
    w' ← w' − η' v, or w' − η' (d + m v) with Nesterov's.
    """
    for group, part in zip(base.param_groups, parts, strict=True):
        begins = [False] * len(part.weights)
        if group["momentum"] != 0:
            begins = _begin_velocities(base, part)
        _step_group(part, _velocities(base, part), begins, group, langevin, gamma, noise, averaging)


def _step_group(
    part: Active,
    velocities: list[Tensor],
    begins: list[bool],
    group: Mapping[str, Any],
    langevin: LangevinNoise,
    gamma: float,
    noise: float,
    averaging: float,
) -> None:
    lr = float(group["lr"])
    sgd = (
        np.float32(lr),
        np.float32(group["momentum"]),
        bool(group["nesterov"]),
        np.float32(group["weight_decay"]),
    )
    strengths = np.float32(gamma), langevin.scale(lr, noise), np.float32(averaging)
    numbers = list(map(np.uint32, part.numbers))

    def kernel(first: int, i: int, *arrays: np.ndarray) -> None:
        kernels.sgd_step_and_average(  # type: ignore[call-arg]
            *arrays, begins[i], *sgd, *strengths, langevin.seed, langevin.draw, numbers[i], first
        )

    in_chunks(kernel, part.weights, part.gradients, part.anchors, part.averages, velocities)


def _is_plain(group: Mapping[str, Any]) -> bool:
    return not (group["dampening"] or group["maximize"] or group["differentiable"])


def _hooks(base: torch.optim.Optimizer) -> list[Any]:
    return [
        base._optimizer_step_pre_hooks,
        base._optimizer_step_post_hooks,
        torch_optimizer._global_optimizer_pre_hooks,
        torch_optimizer._global_optimizer_post_hooks,
    ]


def _begin_velocities(base: torch.optim.Optimizer, part: Active) -> list[bool]:
    """Memory for the velocities that SGD does not have yet, and for which those are."""
    missing = [base.state[p].get("momentum_buffer") is None for p in part.weights]
    for p, is_missing in zip(part.weights, missing, strict=True):
        if is_missing:
            base.state[p]["momentum_buffer"] = torch.empty_like(p)
    return missing


def _velocities(base: torch.optim.Optimizer, part: Active) -> list[Tensor]:
    """SGD's momentum buffers; the weights stand for those that there are none of."""
    kept = [base.state[p].get("momentum_buffer") if p in base.state else None for p in part.weights]
    return [p if v is None else v for p, v in zip(part.weights, kept, strict=True)]
