"""One step of Entropy-SGD's inner loop, around any base optimizer."""

from __future__ import annotations

from typing import NamedTuple

import torch

from deep.optimizers import sgd_inner_step
from deep.optimizers.inner_loop import Active
from deep.optimizers.langevin import LangevinNoise, add_elastic_pull


class Dynamics(NamedTuple):
    """Of the Langevin dynamics: γ at this step, ε, α, and where the noise enters."""

    gamma: float
    noise: float
    averaging: float
    noise_enters: str


def inner_step(
    base: torch.optim.Optimizer, parts: list[Active], langevin: LangevinNoise, dynamics: Dynamics
) -> None:
    """Algorithm 1, lines 5 to 7, for the groups of ``base``; counts the draw of noise."""
    gamma, noise, averaging, noise_enters = dynamics
    if noise_enters == "weights" and sgd_inner_step.applies(base, parts):
        sgd_inner_step.step(base, parts, langevin, gamma, noise, averaging)
    else:
        for group, part in zip(base.param_groups, parts, strict=True):
            if gamma != 0:
                add_elastic_pull(part.gradients, part.weights, part.anchors, gamma)
            if noise != 0 and noise_enters == "gradient":
                scale = 1 / float(group["lr"]), -noise
                langevin.add_to(part.gradients, *scale, part.numbers)
        base.step()
        kick = noise if noise_enters == "weights" else 0.0
        for group, part in zip(base.param_groups, parts, strict=True):
            langevin.kick_and_average(
                part.weights, part.averages, averaging, float(group["lr"]), kick, part.numbers
            )
    langevin.draws += 1
