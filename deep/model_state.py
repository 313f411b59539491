"""The state of a network: modes, weights and BatchNorm's statistics, kept or measured again."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn


def recalibrated(model: nn.Module, batches: Iterable[Any]) -> nn.Module:
    """A copy of ``model`` whose BatchNorm statistics are the mean over ``batches``."""
    fresh = copy.deepcopy(model)
    update_bn(batches, fresh)
    return fresh


@contextmanager
def modes_kept(*models: nn.Module) -> Iterator[None]:
    """The modes (training, evaluation) of all modules are restored afterwards."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def values_kept(tensors: Iterable[Tensor]) -> Iterator[None]:
    """The values of tensors are restored afterwards, bit for bit."""
    saved = [(tensor, tensor.detach().clone()) for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in saved:
                tensor.copy_(value)


@contextmanager
def batch_statistics(models: Sequence[nn.Module]) -> Iterator[None]:
    """Models in training mode; buffers, modes and the random state are restored afterwards."""
    buffers = [buffer for model in models for buffer in model.buffers()]
    devices = {p.device.index for model in models for p in model.parameters() if p.is_cuda}
    generators = torch.random.fork_rng(devices=sorted(d for d in devices if d is not None))
    with modes_kept(*models), values_kept(buffers), generators:
        for model in models:
            model.train()
        yield


def bytes_held(models: Sequence[nn.Module], optimizer: Any) -> int:
    """Bytes of weights, gradients and optimizer state (not of activations and buffers)."""
    held: dict[int, int] = {}

    def add(tensor: Tensor) -> None:
        held[tensor.data_ptr()] = tensor.numel() * tensor.element_size()

    for model in models:
        for p in model.parameters():
            add(p)
            if p.grad is not None:
                add(p.grad)
    for tensor in _tensors(vars(optimizer), set()):
        add(tensor)
    return sum(held.values())


def _tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """All tensors that an optimizer refers to; of a network its parameters."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.parameters()
    elif callable(value):
        return
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item, seen)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item, seen)
    elif hasattr(value, "__dict__"):
        yield from _tensors(vars(value), seen)
