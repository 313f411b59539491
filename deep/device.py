"""Where a run computes: device, number format, process of torchrun."""

from __future__ import annotations

import ctypes
import os
import platform
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from deep.checks import check_one_of
from deep.optimizers.replicas import guarded

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3)


class Device:
    """The device of this process, and the process group where torchrun has started several.

    Parameters
    ----------
    device
        "auto" takes a GPU where there is one.
    precision
        "float32", "bf16" (autocast: weights and sums stay float32), or "auto": bf16 on a GPU,
        float32 elsewhere. On a CPU bf16 takes two thirds of the time where the processor has
        AVX-512 BF16.

    Under torchrun each process of a host has a GPU of its own, in the order of their local ranks.
    Raises ``ValueError`` for a device that cannot be used, and for more processes of a host than
    it has GPUs.
    """

    def __init__(self, device: str = "auto", precision: str = "auto") -> None:
        check_one_of("precision", precision, ("auto", "float32", "bf16"))
        self.group: Any | None = None
        self.gloo: Any | None = None  # for objects that live on the CPU
        self.rank, self.processes = 0, 1
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if launched():
            device = own_gpu() if device == "cuda" else device
            if not dist.is_initialized():  # through NCCL on GPUs, through gloo elsewhere
                on_gpu = torch.device(device).type == "cuda"
                backend, own = ("nccl", torch.device(device)) if on_gpu else ("gloo", None)
                dist.init_process_group(backend, device_id=own)
            self.rank, self.processes = dist.get_rank(), dist.get_world_size()
            if self.processes > 1:
                self.group = dist.group.WORLD
                self.gloo = dist.new_group(backend="gloo")
        try:
            self.torch = torch.device(device)
            torch.zeros(1, device=self.torch)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"device is {device!r}, which cannot be used here: {error}") from error
        self.first = self.rank == 0
        self.gpu = self.torch.type == "cuda"
        self.bf16 = precision == "bf16" or (precision == "auto" and self.gpu)

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of a forward pass: bf16 autocast or nothing."""
        return torch.autocast(self.torch.type, torch.bfloat16) if self.bf16 else nullcontext()

    def total(self, tensor: Tensor) -> Tensor:
        """Sum of a tensor over the processes."""
        tensor = tensor.clone()
        if self.group is not None:
            guarded(lambda: dist.all_reduce(tensor, group=self.group))
        return tensor

    def gathered(self, value: int) -> list[int]:
        """A number of every process, in the order of the processes."""
        if self.gloo is None:
            return [value]
        values = [0] * self.processes
        guarded(lambda: dist.all_gather_object(values, value, group=self.gloo))
        return values

    def name(self) -> str:
        """The device in words."""
        return torch.cuda.get_device_name(self.torch) if self.gpu else str(self.torch)


def launched() -> bool:
    """Whether torchrun has started this process."""
    return dist.is_available() and dist.is_torchelastic_launched()


def first_process() -> bool:
    """Whether this process is the one that writes files."""
    return not launched() or int(os.environ["RANK"]) == 0


def own_gpu() -> str:
    """The GPU of this process of torchrun, which becomes the current one.

    Raises ``ValueError`` where the host has fewer GPUs than processes: NCCL takes one process each.
    """
    processes, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if processes > gpus:
        raise ValueError(
            f"device is 'cuda' in {processes} processes of a host with {gpus} GPUs; at most one "
            "process for each GPU was expected (replicas in one process share its GPU)."
        )
    device = f"cuda:{os.environ['LOCAL_RANK']}"
    torch.cuda.set_device(device)
    return device


def leave() -> None:
    """Leave them at the end, where this process had joined: NCCL complains otherwise."""
    if launched() and dist.is_initialized():
        dist.destroy_process_group()


def keep_freed_memory() -> bool:
    """Let malloc keep what is freed, for the rest of this process; returns whether it does.

    By default glibc gives the activations of a step back to the kernel, which has to clear the
    same pages for the next step: up to a fifth of the time of SmallConvNet. Only a program should
    ask for this, since the process then never shrinks; without glibc nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return mallopt(M_MMAP_MAX, 0) == 1 and mallopt(M_TRIM_THRESHOLD, 2**31 - 1) == 1
