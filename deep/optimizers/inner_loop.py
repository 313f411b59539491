"""The inner loop of Entropy-SGD: the weights w', their anchor w and their running average μ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from committee.entropic import running_average
from deep.optimizers.arguments import dense_gradient
from deep.optimizers.tensor_list import TensorList, copies


class Active(NamedTuple):
    """Parameters that take an inner step: w', ∇, w, μ and their numbers in the model."""

    weights: list[Tensor]
    gradients: list[Tensor]
    anchors: list[Tensor]
    averages: list[Tensor]
    numbers: list[int]


class InnerLoop:
    """w', w and μ of every group of parameters; w' are the parameters of the model themselves.

    ``touched`` says which parameters have had a gradient since the loop began.
    """

    def __init__(self) -> None:
        self.moving: list[list[Tensor]] = []
        self.anchors: list[TensorList] = []
        self.averages: list[TensorList] = []
        self.touched: list[list[bool]] = []

    def begin(self, moving: list[list[Tensor]]) -> None:
        """Algorithm 1, line 2: w', μ ← w, in the memory of the last loop where there was one."""
        self.moving = moving
        self.anchors = copies(moving, self.anchors)
        self.averages = copies(moving, self.averages)
        self.touched = [[False] * len(group) for group in moving]

    def active(self, index: int, averaging: float) -> Active:
        """The parameters of a group that this minibatch has given a gradient."""
        anchors, averages = self.anchors[index].tensors, self.averages[index].tensors
        before = sum(map(len, self.moving[:index]))
        part = Active([], [], [], [], [])
        for i, p in enumerate(self.moving[index]):
            if p.grad is None:
                # It stays where it is, and its average approaches it.
                if self.touched[index][i]:
                    averages[i].copy_(running_average(averages[i], p, averaging))
                continue
            self.touched[index][i] = True
            part.weights.append(p)
            part.gradients.append(dense_gradient(p))
            part.anchors.append(anchors[i])
            part.averages.append(averages[i])
            part.numbers.append(before + i)
        return part

    def distance(self) -> float:
        """d(w', w) = ½‖w' − w‖²."""
        squares = [
            (TensorList(moving) - anchor).squared_norm().cpu()
            for moving, anchor in zip(self.moving, self.anchors, strict=True)
        ]
        return 0.5 * float(sum(squares))

    @contextmanager
    def anchor(self) -> Iterator[None]:
        """Within this context the parameters are w; afterwards w' again, bit for bit."""
        saved = [TensorList(moving).clone() for moving in self.moving]
        with torch.no_grad():
            for anchor, moving in zip(self.anchors, self.moving, strict=True):
                anchor.copy_to(moving)
        try:
            yield
        finally:
            with torch.no_grad():
                for values, moving in zip(saved, self.moving, strict=True):
                    values.copy_to(moving)

    def state_dict(self) -> dict[str, Any]:
        """w, μ and what was touched; w' is part of the model's state."""
        return {
            "anchor": [a.clone().tensors for a in self.anchors],
            "average": [a.clone().tensors for a in self.averages],
            "touched": [list(flags) for flags in self.touched],
        }

    def load_state_dict(self, state: dict[str, Any], moving: list[list[Tensor]]) -> None:
        """Continue from a state, on the devices of ``moving``."""
        self.moving = moving
        self.anchors = self._restored(state["anchor"])
        self.averages = self._restored(state["average"])
        self.touched = [list(flags) for flags in state["touched"]]

    def _restored(self, stored: list[list[Tensor]]) -> list[TensorList]:
        return [
            TensorList(s.to(p).clone() for s, p in zip(tensors, moving, strict=True))
            for tensors, moving in zip(stored, self.moving if stored else [], strict=True)
        ]
