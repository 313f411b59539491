"""Shared parts of the entropic optimizers: checks of arguments, base optimizers, state, modes.

A *base* is a callable ``base(param_groups, lr=…)`` that returns an optimizer:
``torch.optim.AdamW``, or ``functools.partial(torch.optim.SGD, momentum=0.9, nesterov=True)``.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from deep.optimizers.gamma import AutomaticFocusing, Gamma, gamma_rule
from message_passing.tools.validation import check

Base = Callable[..., torch.optim.Optimizer]
Groups = list[dict[str, Any]]


class Progress:
    """A number of an optimizer that is stored in its groups, so that every state dict has it.

    ``torch.distributed.checkpoint`` saves only the state and the groups of a state dict. Every
    group stores the number; it is read from the first one.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, optimizer: torch.optim.Optimizer | None, owner: type) -> Any:
        return self if optimizer is None else optimizer.param_groups[0][self.name]

    def __set__(self, optimizer: torch.optim.Optimizer, value: Any) -> None:
        for group in optimizer.param_groups:
            group[self.name] = value


class EntropicOptimizer(torch.optim.Optimizer, ABC):
    """The common part of EntropySGD and ReplicatedSGD, which is not in the paper.

    ``state`` and ``param_groups`` hold everything that changes in training. So state dicts, their
    hooks, ``copy.deepcopy``, pickle and ``torch.distributed.checkpoint`` work as usual in torch.
    """

    gamma0 = Progress()  # measured by AutomaticFocusing
    evaluating = Progress()  # whether the model holds the weights to evaluate

    _ready = False  # torch's constructor calls add_param_group

    def __init__(self, groups: Groups, defaults: dict[str, Any], gamma: Gamma) -> None:
        self.rule = gamma_rule(gamma)
        super().__init__(groups, defaults)
        self._ready = True
        self.gamma0, self.evaluating = None, False

    @property
    def awaits_measurement(self) -> bool:
        """Whether γ0 still has to be measured."""
        return isinstance(self.rule, AutomaticFocusing) and self.gamma0 is None

    def gamma_at(self, time: float) -> float:
        """γ at a time; zero before γ0 is measured."""
        rule = self.rule
        if isinstance(rule, AutomaticFocusing):
            if self.gamma0 is None:
                return 0.0
            rule = rule.starting_at(self.gamma0)
        return float(rule(time))

    # -- training and evaluation --------------------------------------------------------

    def train(self) -> None:
        """Let the model hold the weights in training."""
        if self.evaluating:
            self._leave_evaluation()
            self.evaluating = False

    def eval(self) -> None:
        """Let the model hold the weights to evaluate; ``step`` raises until ``train`` is called."""
        if not self.evaluating:
            self._enter_evaluation()
            self.evaluating = True

    @contextmanager
    def _evaluation(self) -> Iterator[None]:
        before = self.evaluating
        self.eval()
        try:
            yield
        finally:
            if not before:
                self.train()

    @abstractmethod
    def _enter_evaluation(self) -> None:
        """Replace the weights in training by the weights to evaluate."""

    @abstractmethod
    def _leave_evaluation(self) -> None:
        """Put the weights in training back."""

    def _check_training(self) -> None:
        if self.evaluating:
            raise RuntimeError(
                "step was called while the model holds the weights to evaluate; call "
                "optimizer.train() or leave the context before."
            )

    # -- state --------------------------------------------------------------------------

    def _parameters(self) -> Iterator[Tensor]:
        return (p for group in self.param_groups for p in group["params"])

    def _values(self, name: str) -> str:
        """The values of an option in the groups, as text."""
        return " ".join(dict.fromkeys(f"{float(group[name]):g}" for group in self.param_groups))

    def _is_asked_for_empty_state(self) -> bool:
        """Whether a first step only creates the state: η = 0 and zero gradients.

        ``torch.distributed.checkpoint`` takes such a step before it loads the state.
        """
        return all(float(group["lr"]) == 0 for group in self.param_groups) and not any(
            p.grad.any() for p in self._parameters() if p.grad is not None
        )

    @abstractmethod
    def _share_state(self) -> None:
        """Make the state of the bases visible in ``state``."""

    @abstractmethod
    def _hand_out_state(self) -> None:
        """Pass the loaded ``state`` and ``param_groups`` on to the bases."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that an exact resume needs besides the weights, in torch's format.

        ``torch.load(…, weights_only=True)`` loads it.
        """
        self._share_state()
        for group in self.param_groups:
            group["shapes"] = [list(p.shape) for p in group["params"]]
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state. Restore the model first.

        Raises ``ValueError`` for the state of another model.
        """
        check_same_shapes(state_dict.get("param_groups", []), self.param_groups)
        super().load_state_dict(state_dict)

    def __getstate__(self) -> dict[str, Any]:
        self._share_state()
        # Hooks, and a step that a scheduler has wrapped, belong to this object only.
        return {
            name: value
            for name, value in vars(self).items()
            if not name.startswith("_optimizer_") and not inspect.isroutine(value)
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._hand_out_state()


def as_groups(params: Iterable[Tensor] | Iterable[dict[str, Any]]) -> Groups:
    """Parameters, or groups of parameters, as a list of fresh group dictionaries."""
    entries: list[Any] = list(params)
    if not entries:
        raise ValueError("params is empty; at least one parameter was expected.")
    if isinstance(entries[0], dict):
        return [{**group, "params": list(group["params"])} for group in entries]
    return [{"params": entries}]


def split_group(group: dict[str, Any], vanilla: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a group for the inner base, with ``inner_lr``, and the outer base, with ``lr``.

    A ``vanilla`` outer step has no other options.
    """
    inner = {name: value for name, value in group.items() if name not in ("lr", "inner_lr")}
    outer = {**({} if vanilla else inner), "params": list(group["params"])}
    if "lr" in group:
        outer["lr"] = group["lr"]
    if "inner_lr" in group:
        check_rate(group["inner_lr"], "inner_lr")
        inner["lr"] = group["inner_lr"]
    return inner, outer


def build_base(base: Base, groups: Groups, lr: float, name: str = "base") -> torch.optim.Optimizer:
    """Call ``base(groups, lr=lr)`` and check the result.

    Raises ``ValueError`` for an optimizer without ``lr`` or with a ``step`` that needs a closure,
    ``TypeError`` if the result is no optimizer.
    """
    check_rate(lr, "lr" if name == "base" else f"lr of {name}")
    try:
        optimizer = base(groups, lr=lr)
    except TypeError as error:
        raise ValueError(
            f"{name} could not be called as {name}(param_groups, lr={lr:g}): {error}. "
            "A torch optimizer with a learning rate was expected."
        ) from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(
            f"{name} returned a {type(optimizer).__name__}; a torch.optim.Optimizer was expected."
        )
    if any("lr" not in group for group in optimizer.param_groups):
        raise ValueError(
            f"{name} ({type(optimizer).__name__}) has no 'lr' in its parameter groups; "
            "a base optimizer with a learning rate was expected."
        )
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ValueError(
            f"{name} ({type(optimizer).__name__}) needs a closure at every step; "
            "a base optimizer that steps from the gradients alone was expected."
        )
    return optimizer


def take_step(base: torch.optim.Optimizer) -> None:
    """Take a step of a base.

    Torch's fused SGD raises if only some of the parameters have a momentum, which happens if a
    parameter gets its first gradient late. Such a step is not fused.
    """
    late = []
    if isinstance(base, torch.optim.SGD):
        for group in (group for group in base.param_groups if group.get("fused")):
            moving = [base.state[p] for p in group["params"] if p.grad is not None]
            if len({state.get("momentum_buffer") is None for state in moving}) > 1:
                late.append(group)
    for group in late:
        group["fused"] = False
    base.step()
    for group in late:
        group["fused"] = True


def forget(base: torch.optim.Optimizer) -> None:
    """Forget the state of a base: its next step is like its first one.

    The momentum of SGD is set to zero, not deleted, so that all checkpoints have the same
    tensors.
    """
    if isinstance(base, torch.optim.SGD) and not any(g["dampening"] for g in base.param_groups):
        buffers = [state.get("momentum_buffer") for state in base.state.values()]
        if kept := [buffer for buffer in buffers if buffer is not None]:
            torch._foreach_zero_(kept)
    else:
        base.state.clear()


def check_rate(value: float, name: str) -> None:
    """Raise ``ValueError`` unless a learning rate is a number ≥ 0."""
    check(name, value, isinstance(value, int | float) and value >= 0, "a number ≥ 0")


def dense_gradient(p: Tensor) -> Tensor:
    """The gradient of a parameter, which must have one. Raises ``ValueError`` if it is sparse."""
    assert p.grad is not None
    if p.grad.is_sparse:
        raise ValueError("a parameter has a sparse gradient; dense gradients were expected.")
    return p.grad


def check_same_shapes(stored: Groups, groups: Groups) -> None:
    """Raise ``ValueError`` if stored groups have other shapes than the parameters."""
    there = [[list(shape) for shape in group.get("shapes", [])] for group in stored]
    here = [[list(p.shape) for p in group["params"]] for group in groups]
    if there != here:
        shapes = [[shape for group in groups for shape in group] for groups in (there, here)]
        pairs = [f"; the first difference is {a} where the model has {b}"
                 for a, b in zip(*shapes, strict=False) if a != b]  # fmt: skip
        raise ValueError(
            f"the state belongs to another model: it has {len(shapes[0])} parameter tensors in "
            f"{len(there)} groups, the model {len(shapes[1])} in {len(here)}{''.join(pairs[:1])}."
        )
