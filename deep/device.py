"""Device, number format and torchrun process of a run."""

from __future__ import annotations

import ctypes
import os
import platform
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from deep.optimizers.replicas import guarded
from message_passing.tools.validation import check_one_of

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # parameters of mallopt(3)


class Device:
    """The device of this process, and its process group if torchrun started several processes.

    Parameters
    ----------
    device
        "auto" takes a GPU if there is one.
    precision
        "float32", "bf16" (autocast: weights and sums stay float32), or "auto": bf16 on a GPU,
        float32 elsewhere. bf16 takes two thirds of the time on CPUs with AVX-512 BF16.

    Under torchrun each process of a host has its own GPU, numbered by the local rank. Raises
    ``ValueError`` for a device that cannot be used, and for more processes than GPUs on a host.
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
        """The sum of a tensor over all processes."""
        tensor = tensor.clone()
        if self.group is not None:
            guarded(lambda: dist.all_reduce(tensor, group=self.group))
        return tensor

    def gathered(self, value: int) -> list[int]:
        """The values of all processes, in the order of their ranks."""
        if self.gloo is None:
            return [value]
        values = [0] * self.processes
        guarded(lambda: dist.all_gather_object(values, value, group=self.gloo))
        return values

    def name(self) -> str:
        """Name of the device, for people."""
        return torch.cuda.get_device_name(self.torch) if self.gpu else str(self.torch)


def launched() -> bool:
    """Whether torchrun started this process."""
    return dist.is_available() and dist.is_torchelastic_launched()


def first_process() -> bool:
    """Whether this process is the one that writes files."""
    return not launched() or int(os.environ["RANK"]) == 0


def own_gpu() -> str:
    """Select the GPU of this torchrun process by its local rank, and return its name.

    Raises ``ValueError`` for more processes than GPUs: NCCL takes one process per GPU.
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
    """Leave the process group, if this process has joined one. NCCL complains otherwise."""
    if launched() and dist.is_initialized():
        dist.destroy_process_group()


def keep_freed_memory() -> bool:
    """Let malloc keep freed memory for the rest of this process. Returns whether it does.

    By default glibc returns the activations of a step to the kernel, which must then clear the same
    pages for the next step. This takes up to a fifth of SmallConvNet's time. Call it only from a
    program, because the process then never shrinks. Without glibc nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return mallopt(M_MMAP_MAX, 0) == 1 and mallopt(M_TRIM_THRESHOLD, 2**31 - 1) == 1
