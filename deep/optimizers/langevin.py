"""The noise of Entropy-SGD's Langevin dynamics.

The noise of a step is a function of the seed and the number of the step, so a resumed run needs no
random state. On a CPU, float32 tensors go through one compiled pass, which draws its own normals.
All other cases (GPU, other number formats, ``NUMBA_DISABLE_JIT=1``) use plain torch.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import config
from torch import Tensor

from committee.entropic import langevin_kick, running_average
from deep.optimizers._kernels_langevin import BLOCK
from deep.optimizers._kernels_langevin import kick_and_average as compiled
from deep.optimizers.tensor_list import TensorList

CHUNK = 64 * BLOCK  # values per call of the kernel: half a megabyte


class Draw(NamedTuple):
    """Key of the noise: seed, number of the inner step, numbers of the tensors in the model."""

    seed: int
    step: int
    tensors: list[int]


def kick(values: Sequence[Tensor], lr: float, noise: float, draw: Draw) -> None:
    """``x ← x + √η' ε N(0, I)``."""
    # The average of a tensor with itself is this tensor.
    kick_and_average(values, values, 0.0, lr, noise, draw)


def kick_and_average(
    weights: Sequence[Tensor],
    averages: Sequence[Tensor],
    averaging: float,
    lr: float,
    noise: float,
    draw: Draw,
) -> None:
    """``w' ← w' + √η' ε N(0, I)``, ``μ ← α μ + (1 − α) w'`` (Algorithm 1, lines 6 and 7)."""
    if noise != 0 and in_one_pass(weights, averages):
        _in_threads(weights, averages, averaging, lr, noise, draw)
        return
    if noise != 0:
        langevin_kick(lr, noise, gaussians(weights, draw)).add_to(weights)
    if averages is not weights:
        mean = TensorList(averages)
        running_average(mean, TensorList(weights), averaging).copy_to(mean)


def gaussians(tensors: Sequence[Tensor], draw: Draw) -> TensorList:
    """Standard normals in the shapes of these tensors, in plain torch.

    All tensors of one device and format share a call of ``randn``, which is one kernel on a GPU.
    """
    noise: dict[int, Tensor] = {}
    for kind, (device, dtype) in enumerate({(t.device, t.dtype): None for t in tensors}):
        seed = np.random.SeedSequence([draw.seed, draw.step, kind]).generate_state(1, np.uint64)
        generator = torch.Generator(device).manual_seed(int(seed[0]))
        alike = [i for i, t in enumerate(tensors) if (t.device, t.dtype) == (device, dtype)]
        sizes = [tensors[i].numel() for i in alike]
        flat = torch.randn(sum(sizes), generator=generator, device=device, dtype=dtype)
        for i, piece in zip(alike, flat.split(sizes), strict=True):
            tensor = tensors[i]
            noise[i] = (
                piece.as_strided(tensor.shape, tensor.stride())
                if _is_dense(tensor)
                else piece.view(tensor.shape)
            )
    return TensorList(noise[i] for i in range(len(tensors)))


def in_one_pass(*lists: Sequence[Tensor]) -> bool:
    """Whether the kernel applies: float32 on a CPU, and the same memory layout in all lists."""
    if config.DISABLE_JIT:  # type: ignore[attr-defined]
        return False
    return all(
        all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
        and len({_strides(t) for t in tensors}) == 1
        and _is_dense(tensors[0])
        for tensors in zip(*lists, strict=True)
    )


def _in_threads(
    weights: Sequence[Tensor],
    averages: Sequence[Tensor],
    averaging: float,
    lr: float,
    noise: float,
    draw: Draw,
) -> None:
    """Run the compiled pass on pieces of the tensors, in as many threads as torch uses."""
    scale = np.float32(langevin_kick(lr, noise, 1.0))  # linear in the normals
    constants = scale, np.float32(averaging), np.uint64(draw.seed), np.uint32(draw.step % 2**32)
    pieces: deque[tuple[Any, ...]] = deque()
    for number, *tensors in zip(draw.tensors, averages, weights, strict=True):
        flat = [t.detach().as_strided((t.numel(),), (1,)).numpy() for t in tensors]
        for start in range(0, len(flat[0]), CHUNK):
            arrays = [array[start : start + CHUNK] for array in flat]
            pieces.append((*arrays, *constants, np.uint32(number), start // BLOCK))

    def work() -> None:
        # Free threads take the next piece, since some are slower: torch's own threads still spin
        # on their cores for some milliseconds after a backward pass.
        while True:
            try:
                piece = pieces.popleft()
            except IndexError:
                return
            compiled(*piece)

    threads = torch.get_num_threads()
    helpers = min(threads, len(pieces)) - 1
    waiting = [_pool(os.getpid(), threads).submit(work) for _ in range(helpers)]
    work()
    for helper in waiting:
        helper.result()
    # Autograd does not see writes by NumPy.
    torch.autograd.graph.increment_version([*weights, *averages])


def _is_dense(tensor: Tensor) -> bool:
    """Whether a tensor fills its memory without gaps, in one of the usual orders."""
    return tensor.is_contiguous() or (
        tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    )


def _strides(tensor: Tensor) -> tuple[int, ...]:
    return tuple(s for s, size in zip(tensor.stride(), tensor.shape, strict=True) if size != 1)


@lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="langevin")
