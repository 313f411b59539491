"""Checkpoints of a run: all replicas in one file, whatever processes hold them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from deep.optimizers.baselines import Baseline
from deep.optimizers.replicas import guarded
from deep.optimizers.replicated_sgd import ReplicatedSGD
from message_passing.tools.files import write_atomically

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(
    folder: Path,
    models: Sequence[nn.Module],
    optimizer: torch.optim.Optimizer | Baseline,
    progress: dict[str, Any],
    group: Any | None = None,
) -> None:
    """Write models, optimizer and ``progress``, atomically; the first process writes for all.

    With a (gloo) ``group`` every process contributes its replicas and has to call this.
    """
    states = [_on_cpu(model.state_dict()) for model in models]
    if isinstance(optimizer, ReplicatedSGD):
        optimizer_state = _on_cpu(optimizer.replica_states())
    else:
        optimizer_state = _on_cpu(optimizer.state_dict())
    if group is not None:
        first = dist.get_rank(group) == 0
        gathered: list[Any] | None = [None] * dist.get_world_size(group) if first else None
        parts = states, optimizer_state
        guarded(lambda: dist.gather_object(parts, gathered, dst=0, group=group))
        if gathered is None:
            return
        states = [state for part, _ in gathered for state in part]
        optimizer_state = [state for _, part in gathered for state in part]
    content = {"models": states, "optimizer": optimizer_state, "progress": progress}
    write_atomically(folder / CHECKPOINT, lambda file: torch.save(content, file))


def load_checkpoint(
    folder: Path,
    models: Sequence[nn.Module],
    optimizer: torch.optim.Optimizer | Baseline,
    indices: Sequence[int],
) -> dict[str, Any] | None:
    """Restore the replicas with these indices; returns ``progress``, None without a checkpoint.

    Raises ``ValueError`` for a broken file or one of another model.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    content = load_file(path)
    try:
        for index, model in zip(indices, models, strict=True):
            model.load_state_dict(content["models"][index])
        state = content["optimizer"]
        if isinstance(optimizer, ReplicatedSGD):
            optimizer.load_replica_states([state[index] for index in indices])
        else:
            optimizer.load_state_dict(state)
    except (RuntimeError, KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{path} belongs to another model: {error}") from error
    return content["progress"]


def save_model(path: Path, model: nn.Module, about: dict[str, Any]) -> None:
    """Write the weights of a network with what is known about it."""
    content = {"model": _on_cpu(model.state_dict()), "about": about}
    write_atomically(path, lambda file: torch.save(content, file))


def load_file(path: Path) -> dict[str, Any]:
    """A file of tensors and plain values. Raises ``ValueError`` where it is broken."""
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # a broken file can make the unpickler raise anything
        raise ValueError(f"{path} cannot be read: {error}; delete it to start again.") from error


def _on_cpu(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_on_cpu(item) for item in value]
    return value
