"""Memory that training holds between two steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn


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
