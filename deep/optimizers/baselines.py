"""The optimizers beside which Entropy-SGD and Replicated-SGD are compared, from libraries.

Each is wrapped in the few methods that the training loop asks of an optimizer. Lookahead, SAM,
ASAM and schedule-free SGD are those of ``pytorch_optimizer``, the average of SWA is torch's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from deep.model_state import batch_statistics
from deep.optimizers.tensor_list import TensorList


class Baseline:
    """An optimizer of a library and the network whose weights count."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.optimizer = model, optimizer

    @property
    def averages(self) -> bool:
        """Whether an average counts, whose BatchNorm statistics are then those of other weights."""
        return False

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups, for the learning rate."""
        return self.optimizer.param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or set them to zero."""
        self.optimizer.zero_grad(set_to_none=set_to_none)

    def step(self, gradient: Callable[[], Any]) -> None:
        """A step from the gradients in ``.grad``; ``gradient`` adds those of the same minibatch."""
        self.optimizer.step()

    @contextmanager
    def network(self) -> Iterator[nn.Module]:
        """The network that counts; the model is restored afterwards, bit for bit."""
        yield self.model

    def state_dict(self) -> dict[str, Any]:
        """Everything that an exact resume needs besides the weights of the model."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.optimizer.load_state_dict(state)


class Lookahead(Baseline):
    """k steps of the base optimizer, then φ ← φ + α (w − φ), w ← φ (arXiv 1907.08610).

    The slow weights φ count.
    """

    @property
    def averages(self) -> bool:
        """Always."""
        return True

    @contextmanager
    def network(self) -> Iterator[nn.Module]:
        """The model with the slow weights."""
        self.optimizer.backup_and_load_cache()  # type: ignore[attr-defined]
        try:
            yield self.model
        finally:
            self.optimizer.clear_and_load_backup()  # type: ignore[attr-defined]


class SharpnessAware(Baseline):
    """SAM: the base optimizer along ∇L(w + ρ g/‖g‖), g = ∇L(w) (arXiv 2010.01412).

    With ASAM (arXiv 2102.11600) the perturbation is ρ w²g/‖wg‖, entry by entry and without
    the small η of that paper. Both gradients are those of the same minibatch; BatchNorm's
    running statistics follow the first one only.
    """

    def step(self, gradient: Callable[[], Any]) -> None:
        """A step of two gradients."""
        with batch_statistics([self.model]):
            self.optimizer.step(gradient)


class WeightAveraging(Baseline):
    """SWA (arXiv 1803.05407): the mean of the weights every ``period`` steps, from ``start`` on.

    Before the first average the weights themselves count.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, start: int, period: int
    ) -> None:
        super().__init__(model, optimizer)
        self.average = AveragedModel(model)
        self.start, self.period = start, period
        self.steps_done = 0

    @property
    def averages(self) -> bool:
        """Whether there is an average yet."""
        return self.steps_done >= self.start

    def step(self, gradient: Callable[[], Any]) -> None:
        """A step of the base optimizer, and the average where it is due."""
        super().step(gradient)
        self.steps_done += 1
        if self.averages and (self.steps_done - self.start) % self.period == 0:
            self.average.update_parameters(self.model)

    @contextmanager
    def network(self) -> Iterator[nn.Module]:
        """The averaged network."""
        yield self.average.module if self.averages else self.model

    def state_dict(self) -> dict[str, Any]:
        """That of the base optimizer, the average and the number of steps."""
        return {
            "base": super().state_dict(),
            "average": self.average.state_dict(),
            "steps_done": self.steps_done,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        super().load_state_dict(state["base"])
        self.average.load_state_dict(state["average"])
        self.steps_done = state["steps_done"]


class ScheduleFree(Baseline):
    """Schedule-free SGD (arXiv 2405.15682): gradients at y = (1 − β) z + β x; x counts."""

    @property
    def averages(self) -> bool:
        """Always."""
        return True

    @contextmanager
    def network(self) -> Iterator[nn.Module]:
        """The model with the average x in the place of y."""
        saved = TensorList(self.model.parameters()).clone()
        self.optimizer.eval()  # type: ignore[attr-defined]
        try:
            yield self.model
        finally:
            self.optimizer.train()  # type: ignore[attr-defined]
            with torch.no_grad():
                # The way from y to x and back rounds.
                saved.copy_to(list(self.model.parameters()))
