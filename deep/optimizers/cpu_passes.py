"""Compiled passes over lists of float32 tensors on a CPU, in as many threads as torch has."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import torch
from numba import config
from torch import Tensor

from deep.optimizers._kernels_langevin import BLOCK

CHUNK = 64 * BLOCK  # values of one call of a kernel: half a megabyte each


def in_one_pass(*lists: Sequence[Tensor]) -> bool:
    """Whether the kernels apply: float32 on a CPU, and tensors that lie in memory alike."""
    if config.DISABLE_JIT:  # type: ignore[attr-defined]
        return False
    return all(
        all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
        and len({_strides(t) for t in tensors}) == 1
        and is_dense(tensors[0])
        for tensors in zip(*lists, strict=True)
    )


def is_dense(tensor: Tensor) -> bool:
    """Whether a tensor fills its memory without gaps, in one of the usual orders."""
    return tensor.is_contiguous() or (
        tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    )


def _strides(tensor: Tensor) -> tuple[int, ...]:
    return tuple(s for s, size in zip(tensor.stride(), tensor.shape, strict=True) if size != 1)


def in_chunks(kernel: Callable[..., None], *lists: Sequence[Tensor]) -> None:
    """``kernel(first block, index in the lists, flat arrays…)`` on pieces, in torch's threads."""
    pieces: deque[tuple[Any, ...]] = deque()
    for index, tensors in enumerate(zip(*lists, strict=True)):
        flat = [t.detach().as_strided((t.numel(),), (1,)).numpy() for t in tensors]
        for start in range(0, tensors[0].numel(), CHUNK):
            arrays = [array[start : start + CHUNK] for array in flat]
            pieces.append((start // BLOCK, index, *arrays))
    threads = torch.get_num_threads()
    helpers = min(threads, len(pieces)) - 1

    def work() -> None:
        # Each thread takes the next piece when it is free: for some milliseconds after a backward
        # pass torch's own threads still wait in a loop, and one of ours shares its core with them.
        while True:
            try:
                piece = pieces.popleft()
            except IndexError:
                return
            kernel(*piece)

    waiting = [_pool(os.getpid(), threads).submit(work) for _ in range(helpers)]
    work()
    for helper in waiting:
        helper.result()


@lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="langevin")
