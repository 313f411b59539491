"""The centre of replicas that live in this process or in several (torch.distributed)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from deep.optimizers.tensor_list import TensorList
from message_passing.tools.commands import CommandError


class ReplicaLostError(CommandError):
    """Another process of the run has died or hangs."""


def guarded(operation: Callable[[], Any]) -> Any:
    """Run a collective operation; a lost process becomes a ``ReplicaLostError``."""
    try:
        return operation()
    except ReplicaLostError:
        raise
    except (RuntimeError, dist.DistBackendError) as error:
        raise ReplicaLostError(
            "another process of this run was lost while the replicas exchanged data "
            f"({type(error).__name__}). Start the same command again: it resumes from the last "
            "checkpoint."
        ) from error


def check_replicas(models: Sequence[nn.Module]) -> None:
    """Raise ``ValueError`` unless replicas are distinct modules of one kind on one device."""
    if not models:
        raise ValueError("models is empty; at least one replica was expected.")
    parameters = [dict(model.named_parameters()) for model in models]
    if not parameters[0]:
        raise ValueError("models[0] has no parameters.")
    devices = {str(p.device) for named in parameters for p in named.values()}
    if len(devices) > 1:
        raise ValueError(
            f"the replicas are on different devices: {sorted(devices)}; one device a process "
            "was expected. Use torchrun with one process for each device."
        )
    description = {name: (p.shape, p.dtype) for name, p in parameters[0].items()}
    seen: set[int] = set()
    for index, named in enumerate(parameters):
        if {name: (p.shape, p.dtype) for name, p in named.items()} != description:
            raise ValueError(
                f"models[{index}] has other parameters than models[0]; replicas of the same "
                "network were expected."
            )
        if seen & {id(p) for p in named.values()}:
            raise ValueError(
                f"models[{index}] shares parameters with another replica; separate copies were "
                "expected."
            )
        seen |= {id(p) for p in named.values()}


class Ensemble:
    """Sums and means over all replicas, here and in the other processes of the group."""

    def __init__(self, local: int, device: torch.device, group: Any | None = None) -> None:
        self.group = group
        self.device = device
        self.total = round(self.sum(float(local)))

    def sum(self, value: float) -> float:
        """Sum of a number over the processes."""
        if self.group is None:
            return value
        total = torch.tensor([value], dtype=torch.float64, device=self.device)
        self._all_reduce(total)
        return float(total)

    def mean(self, lists: Sequence[TensorList]) -> TensorList:
        """Mean over all replicas: summed in order in this process, then over processes."""
        total = lists[0].clone()
        for tensors in lists[1:]:
            tensors.add_to(total.tensors)
        if self.group is not None:
            for dtype in sorted({t.dtype for t in total.tensors}, key=str):
                same = [t for t in total.tensors if t.dtype == dtype]
                flat = torch.cat([t.reshape(-1) for t in same])
                self._all_reduce(flat)
                pieces = flat.split([t.numel() for t in same])
                views = [v.view_as(t) for v, t in zip(pieces, same, strict=True)]
                TensorList(views).copy_to(same)
        if total.tensors:
            torch._foreach_div_(total.tensors, float(self.total))
        return total

    def _all_reduce(self, tensor: Tensor) -> None:
        guarded(lambda: dist.all_reduce(tensor, group=self.group))


def floating_buffers(model: nn.Module) -> TensorList:
    """BatchNorm's running means and variances, and other buffers with a meaningful mean."""
    return TensorList(b for b in model.buffers() if b.is_floating_point())


def spread(total: int, processes: int, rank: int) -> range:
    """The numbers of a process's replicas: consecutive, and distributed as evenly as possible.

    Raises ``ValueError`` if there are more processes than replicas.
    """
    if processes > total:
        raise ValueError(
            f"{processes} processes were started for {total} replicas; at least one replica for "
            "each process was expected."
        )
    return range(rank * total // processes, (rank + 1) * total // processes)
