"""BatchNorm's running statistics, kept, averaged or measured again."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import update_bn


def recalibrated(model: nn.Module, batches: Iterable[Any]) -> nn.Module:
    """A copy of ``model`` whose BatchNorm statistics are the mean over ``batches``."""
    fresh = copy.deepcopy(model)
    update_bn(batches, fresh)
    return fresh


@contextmanager
def batch_statistics(models: Sequence[nn.Module]) -> Iterator[None]:
    """Models in training mode, buffers, modes and the random state restored afterwards."""
    modes = [[(module, module.training) for module in model.modules()] for model in models]
    buffers = [(b, b.detach().clone()) for model in models for b in model.buffers()]
    devices = {p.device.index for model in models for p in model.parameters() if p.is_cuda}
    try:
        with torch.random.fork_rng(devices=sorted(d for d in devices if d is not None)):
            for model in models:
                model.train()
            yield
    finally:
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        for pairs in modes:
            for module, training in pairs:
                module.training = training
