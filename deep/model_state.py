"""Keep or recalibrate the state of a network: modes, weights and BatchNorm's statistics."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils._pytree import tree_leaves


def recalibrated(model: nn.Module, batches: Iterable[Any]) -> nn.Module:
    """A copy of ``model`` with the mean of the BatchNorm statistics over ``batches``."""
    fresh = copy.deepcopy(model)
    update_bn(batches, fresh)
    return fresh


@contextmanager
def modes_kept(*models: nn.Module) -> Iterator[None]:
    """Context that restores the modes (training, evaluation) of all modules at its end."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def values_kept(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Context that restores the values of tensors at its end, bit for bit."""
    saved = [(tensor, tensor.detach().clone()) for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in saved:
                tensor.copy_(value)


@contextmanager
def batch_statistics(models: Sequence[nn.Module]) -> Iterator[None]:
    """Context in training mode. It restores buffers, modes and the random state at its end."""
    buffers = [buffer for model in models for buffer in model.buffers()]
    devices = {p.device.index for model in models for p in model.parameters() if p.is_cuda}
    generators = torch.random.fork_rng(devices=sorted(d for d in devices if d is not None))
    with modes_kept(*models), values_kept(buffers), generators:
        for model in models:
            model.train()
        yield


def bytes_held(models: Sequence[nn.Module], method: Any) -> int:
    """Bytes of the weights, the gradients and the method's state, without activations."""
    weights = [p for model in models for p in model.parameters()]
    tensors = [*weights, *(p.grad for p in weights), *tree_leaves(method.state_dict())]
    held = {t.data_ptr(): t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor)}
    return sum(held.values())
