"""Arithmetic on all tensors of a network at once: update rules of arrays apply to networks.

``committee.entropic`` is plain arithmetic. If its functions get a ``TensorList`` instead of an
array, they act on every tensor of the list, through torch's fused multi-tensor kernels (a few
launches for a whole network instead of a few per tensor).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


class TensorList:
    """Tensors that are added, subtracted and scaled together; ``copy_to`` writes them back."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self.tensors: list[Tensor] = list(tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __add__(self, other: TensorList) -> TensorList:
        return self._combine(other, torch._foreach_add)

    def __sub__(self, other: TensorList) -> TensorList:
        return self._combine(other, torch._foreach_sub)

    def __mul__(self, scale: float | Tensor) -> TensorList:
        if isinstance(scale, TensorList):
            return NotImplemented
        return TensorList(torch._foreach_mul(self.tensors, scale) if self.tensors else ())

    __rmul__ = __mul__

    def _combine(self, other: TensorList, operation) -> TensorList:  # type: ignore[no-untyped-def]
        if not isinstance(other, TensorList):
            return NotImplemented
        return TensorList(operation(self.tensors, other.tensors) if self.tensors else ())

    def clone(self) -> TensorList:
        """A copy that shares no memory."""
        return TensorList(tensor.detach().clone() for tensor in self.tensors)

    def copy_to(self, targets: TensorList | Sequence[Tensor]) -> None:
        """Write the values into ``targets``, in place."""
        targets = targets.tensors if isinstance(targets, TensorList) else list(targets)
        if targets:
            torch._foreach_copy_(targets, self.tensors)

    def add_to(self, targets: Sequence[Tensor]) -> None:
        """Add the values to ``targets``, in place."""
        if targets:
            torch._foreach_add_(list(targets), self.tensors)

    def squared_norm(self) -> Tensor:
        """``Σ x²`` over all tensors, in double precision."""
        total = torch.zeros((), dtype=torch.float64)
        for tensor in self.tensors:
            total = total.to(tensor.device) + tensor.detach().double().square().sum()
        return total


def exchange(one: Sequence[Tensor], other: Sequence[Tensor]) -> None:
    """Swap the values of two lists of tensors."""
    values = TensorList(one).clone()
    TensorList(other).copy_to(one)
    values.copy_to(other)
