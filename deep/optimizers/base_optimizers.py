"""Any torch optimizer in the place of the vanilla step of the entropic algorithms.

A *base* is anything that is called as ``base(param_groups, lr=…)`` and returns an optimizer:
``torch.optim.AdamW``, or ``functools.partial(torch.optim.SGD, momentum=0.9, nesterov=True)``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

Base = Callable[..., torch.optim.Optimizer]
Groups = list[dict[str, Any]]


def as_groups(params: Iterable[Tensor] | Iterable[dict[str, Any]]) -> Groups:
    """Parameters, or groups of parameters, as a list of fresh group dictionaries."""
    entries: list[Any] = list(params)
    if not entries:
        raise ValueError("params is empty; at least one parameter was expected.")
    if isinstance(entries[0], dict):
        return [{**group, "params": list(group["params"])} for group in entries]
    return [{"params": entries}]


def build_base(base: Base, groups: Groups, lr: float, name: str = "base") -> torch.optim.Optimizer:
    """``base(groups, lr=lr)``, checked: an optimizer with a learning rate and a plain ``step``.

    Raises ``ValueError`` for a base without ``lr`` or with a ``step`` that needs a closure,
    ``TypeError`` for one that is no optimizer.
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


def check_rate(value: float, name: str) -> None:
    """A learning rate: a number ≥ 0. Raises ``ValueError`` otherwise."""
    if not (isinstance(value, int | float) and value >= 0):
        raise ValueError(f"{name} is {value!r}; a number ≥ 0 was expected.")


def parameter_shapes(groups: Sequence[dict[str, Any]]) -> list[list[list[int]]]:
    """Shapes of the parameters, group by group: what a stored state is compared with."""
    return [[list(p.shape) for p in group["params"]] for group in groups]


def check_same_shapes(stored: Any, groups: Sequence[dict[str, Any]]) -> None:
    """Raises ``ValueError`` where a stored state belongs to other parameters."""
    here = parameter_shapes(groups)
    if stored == here:
        return
    counts = [sum(map(len, shapes)) for shapes in (stored, here)]
    different = next(
        (
            f"; the first difference is {a} where the model has {b}"
            for old, new in zip(stored, here, strict=False)
            for a, b in zip(old, new, strict=False)
            if a != b
        ),
        "",
    )
    raise ValueError(
        f"the state belongs to another model: it has {counts[0]} parameter tensors in "
        f"{len(stored)} groups, the model {counts[1]} in {len(here)}{different}."
    )
