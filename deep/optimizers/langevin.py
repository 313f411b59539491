"""The arithmetic of Entropy-SGD's inner step on lists of tensors.

On a CPU, float32 tensors go through compiled kernels that touch memory once; everything else (a
GPU, other number formats, ``NUMBA_DISABLE_JIT=1``) goes through ``TensorList``. The update rules
are the same functions of ``committee/entropic.py``; the random streams differ.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numba import config
from torch import Tensor

from committee.entropic import elastic_pull, langevin_kick, running_average
from deep.optimizers import _kernels_langevin as kernels
from deep.optimizers.tensor_list import TensorList

CHUNK = 64 * kernels.BLOCK  # values of one call of a kernel: half a megabyte each


def add_elastic_pull(
    gradients: Sequence[Tensor], weights: Sequence[Tensor], centre: Sequence[Tensor], gamma: float
) -> None:
    """``∇ ← ∇ + γ (w − w̄)`` (Algorithm 1, line 5; Algorithm 2, line 7)."""
    if not in_one_pass(gradients, weights, centre):
        elastic_pull(TensorList(weights), TensorList(centre), gamma).add_to(gradients)
        return
    strength = np.float32(gamma)
    _in_chunks(
        lambda first, _, g, w, c: kernels.add_elastic_pull(g, w, c, strength),
        gradients, weights, centre,
    )  # fmt: skip


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

    def gaussian(self, p: Tensor) -> Tensor:
        """Standard normals like ``p``, where the kernels do not apply."""
        generator = self.generators[p.device]
        return torch.randn(p.shape, generator=generator, device=p.device, dtype=p.dtype)

    def add_to(self, values: Sequence[Tensor], lr: float, noise: float, numbers: list[int]) -> None:
        """``x ← x + √η' ε N(0, I)``; ``numbers`` are those of the parameters in the model."""
        if not in_one_pass(values):
            langevin_kick(lr, noise, TensorList(map(self.gaussian, values))).add_to(values)
            return
        scale, draw = self._scale(lr, noise), np.uint32(self.draws % 2**32)
        tensors = list(map(np.uint32, numbers))
        _in_chunks(
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
            _in_chunks(lambda first, _, m, w: kernels.average(m, w, memory), averages, weights)
            return
        scale, draw = self._scale(lr, noise), np.uint32(self.draws % 2**32)
        tensors = list(map(np.uint32, numbers))
        _in_chunks(
            lambda first, i, m, w: kernels.kick_and_average(
                m, w, scale, memory, self.seed, draw, tensors[i], first
            ),
            averages, weights,
        )  # fmt: skip

    def _scale(self, lr: float, noise: float) -> np.float32:
        return np.float32(langevin_kick(lr, noise, 1.0))  # it is linear in the Gaussian

    def state_dict(self) -> dict[str, Any]:
        """Number of draws, and the states of torch's generators by device."""
        states = {str(d): g.get_state() for d, g in self.generators.items()}
        return {"seed": int(self.seed), "draws": self.draws, "generators": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ``ValueError`` for the state of another kind of device."""
        for device, generator in self.generators.items():
            stored = state["generators"].get(str(device))
            if stored is None:
                raise ValueError(
                    f"the state has no random state for {device}, only for "
                    f"{sorted(state['generators'])}; resume on the same kind of device."
                )
            generator.set_state(stored.cpu())
        self.seed, self.draws = np.uint64(state["seed"]), state["draws"]


def in_one_pass(*lists: Sequence[Tensor]) -> bool:
    """Whether the kernels apply: float32 on a CPU, and tensors that lie in memory alike."""
    if config.DISABLE_JIT:  # type: ignore[attr-defined]
        return False
    return all(
        all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
        and len({_strides(t) for t in tensors}) == 1
        and _is_dense(tensors[0])
        for tensors in zip(*lists, strict=True)
    )


def _is_dense(tensor: Tensor) -> bool:
    return tensor.is_contiguous() or (
        tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    )


def _strides(tensor: Tensor) -> tuple[int, ...]:
    return tuple(s for s, size in zip(tensor.stride(), tensor.shape, strict=True) if size != 1)


def _in_chunks(kernel: Callable[..., None], *lists: Sequence[Tensor]) -> None:
    """``kernel(first block, index in the lists, flat arrays…)`` on pieces, in torch's threads."""
    pieces = []
    for index, tensors in enumerate(zip(*lists, strict=True)):
        flat = [t.detach().as_strided((t.numel(),), (1,)).numpy() for t in tensors]
        for start in range(0, tensors[0].numel(), CHUNK):
            arrays = [array[start : start + CHUNK] for array in flat]
            pieces.append((start // kernels.BLOCK, index, *arrays))
    threads = torch.get_num_threads()
    if threads == 1 or len(pieces) == 1:
        for piece in pieces:
            kernel(*piece)
    else:
        # Interleaved: every thread gets large and small pieces.
        parts = [pieces[thread::threads] for thread in range(threads)]

        def work(part: list[tuple[Any, ...]]) -> None:
            for piece in part:
                kernel(*piece)

        list(_pool(os.getpid(), threads).map(work, parts))


@lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="langevin")
