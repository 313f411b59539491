"""The arithmetic of Entropy-SGD's inner step on lists of tensors, around any base optimizer.

On a CPU, float32 tensors go through compiled kernels that touch memory once; everything else (a
GPU, other number formats, ``NUMBA_DISABLE_JIT=1``) goes through ``TensorList``. The update rules
are the same functions of ``committee/entropic.py``; the random streams differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from committee.entropic import (
    elastic_pull,
    langevin_kick,
    local_entropy_gradient,
    running_average,
)
from deep.optimizers import _kernels_langevin as kernels
from deep.optimizers.cpu_passes import in_chunks, in_one_pass, is_dense
from deep.optimizers.tensor_list import TensorList


def add_elastic_pull(
    gradients: Sequence[Tensor], weights: Sequence[Tensor], centre: Sequence[Tensor], gamma: float
) -> None:
    """``∇ ← ∇ + γ (w − w̄)`` (Algorithm 1, line 5; Algorithm 2, line 7)."""
    if not in_one_pass(gradients, weights, centre):
        elastic_pull(TensorList(weights), TensorList(centre), gamma).add_to(gradients)
        return
    strength = np.float32(gamma)
    in_chunks(
        lambda first, _, g, w, c: kernels.add_elastic_pull(g, w, c, strength),
        gradients, weights, centre,
    )  # fmt: skip


def return_to_anchor(
    weights: Sequence[Tensor], averages: Sequence[Tensor], anchors: Sequence[Tensor]
) -> list[Tensor]:
    """``w' ← w``; the gradient ``w − μ`` of the outer step, which may take the memory of μ."""
    if not in_one_pass(weights, averages, anchors):
        anchor = TensorList(anchors)
        anchor.copy_to(weights)
        return local_entropy_gradient(anchor, TensorList(averages)).tensors
    in_chunks(
        lambda first, _, w, m, a: kernels.return_to_anchor(w, m, a), weights, averages, anchors
    )
    return list(averages)


class LangevinNoise:
    """The noise of the Langevin dynamics, and the passes over the weights that it shares.

    ``draws`` counts the inner steps that have drawn noise; with the state of the generators of
    torch it is all that a resumed run needs.
    """

    def __init__(self, parameters: Sequence[Tensor], seed: int) -> None:
        self.seed = np.uint64(seed % 2**64)
        self.draws = 0
        devices = {p.device for p in parameters}
        self.generators = {d: torch.Generator(d).manual_seed(seed) for d in devices}

    def gaussians(self, tensors: Sequence[Tensor]) -> TensorList:
        """Standard normals like these tensors, where the kernels do not apply.

        One draw, which is one kernel on a GPU, for all tensors of a device and number format.
        """
        noise: dict[int, Tensor] = {}
        for device, dtype in {(t.device, t.dtype): None for t in tensors}:
            alike = [i for i, t in enumerate(tensors) if (t.device, t.dtype) == (device, dtype)]
            sizes = [tensors[i].numel() for i in alike]
            flat = torch.randn(
                sum(sizes), generator=self.generators[device], device=device, dtype=dtype
            )
            for i, piece in zip(alike, flat.split(sizes), strict=True):
                noise[i] = _in_memory_as(tensors[i], piece)
        return TensorList(noise[i] for i in range(len(tensors)))

    def add_to(self, values: Sequence[Tensor], lr: float, noise: float, numbers: list[int]) -> None:
        """``x ← x + √η' ε N(0, I)``; ``numbers`` are those of the parameters in the model."""
        if not in_one_pass(values):
            langevin_kick(lr, noise, self.gaussians(values)).add_to(values)
            return
        scale, draw = self.scale(lr, noise), self.draw
        tensors = list(map(np.uint32, numbers))
        in_chunks(
            lambda first, i, x: kernels.add_noise(x, scale, self.seed, draw, tensors[i], first),
            values,
        )

    def kick_and_average(
        self,
        weights: Sequence[Tensor],
        averages: Sequence[Tensor],
        averaging: float,
        lr: float,
        noise: float,
        numbers: list[int],
    ) -> None:
        """``w' ← w' + √η' ε N(0, I)``, ``μ ← α μ + (1 − α) w'`` (Algorithm 1, lines 6 and 7)."""
        if not in_one_pass(weights, averages):
            if noise != 0:
                self.add_to(weights, lr, noise, numbers)
            mean = TensorList(averages)
            running_average(mean, TensorList(weights), averaging).copy_to(mean)
            return
        memory = np.float32(averaging)
        if noise == 0:
            in_chunks(lambda first, _, m, w: kernels.average(m, w, memory), averages, weights)
            return
        scale, draw = self.scale(lr, noise), self.draw
        tensors = list(map(np.uint32, numbers))
        in_chunks(
            lambda first, i, m, w: kernels.kick_and_average(
                m, w, scale, memory, self.seed, draw, tensors[i], first
            ),
            averages, weights,
        )  # fmt: skip

    def scale(self, lr: float, noise: float) -> np.float32:
        """``√η' ε``, by which the kernels multiply their normals."""
        return np.float32(langevin_kick(lr, noise, 1.0))  # it is linear in the Gaussian

    @property
    def draw(self) -> np.uint32:
        """The number of this inner step in the counter of the kernels."""
        return np.uint32(self.draws % 2**32)

    def state_dict(self) -> dict[str, Any]:
        """Number of draws, and the states of torch's generators by device."""
        states = {str(d): g.get_state() for d, g in self.generators.items()}
        return {"seed": int(self.seed), "draws": self.draws, "generators": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ``ValueError`` for the state of another kind of device."""
        stored = state["generators"]
        kinds = [device.type for device in self.generators]
        for device, generator in self.generators.items():
            # A run on a single GPU may go on on another one.
            alike = [name for name in stored if torch.device(name).type == device.type]
            only = len(alike) == kinds.count(device.type) == 1
            name = alike[0] if only else str(device)
            if name not in stored:
                raise ValueError(
                    f"the state has no random state for {device}, only for "
                    f"{sorted(stored)}; resume on the same kind of device."
                )
            generator.set_state(stored[name].cpu())
        self.seed, self.draws = np.uint64(state["seed"]), state["draws"]


def _in_memory_as(tensor: Tensor, flat: Tensor) -> Tensor:
    """``flat`` in the shape of a tensor, and in its order in memory where that has no gaps."""
    if is_dense(tensor):
        return flat.as_strided(tensor.shape, tensor.stride())
    return flat.view(tensor.shape)
