"""Files of tensors: checkpoints, which hold all replicas in one file, and networks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.utils._pytree import tree_map

from deep.methods import Method
from deep.optimizers.replicas import guarded
from message_passing.tools.files import write_atomically

CHECKPOINT = "checkpoint.pt"
AGAIN = "Delete it: the run then starts again."


def save_checkpoint(
    folder: Path,
    models: Sequence[nn.Module],
    method: Method,
    progress: dict[str, Any],
    group: Any | None = None,
) -> None:
    """Write models, optimizer states and ``progress`` atomically.

    With a (gloo) ``group`` every process must call this: the first one gathers and writes all.
    """
    own = _on_cpu([model.state_dict() for model in models]), _on_cpu(method.state_dict())
    parts: list[Any] | None = [own]
    if group is not None:
        first = dist.get_rank(group) == 0
        parts = [None] * dist.get_world_size(group) if first else None
        guarded(lambda: dist.gather_object(own, parts, dst=0, group=group))
    if parts is not None:
        content = {
            "models": [state for states, _ in parts for state in states],
            "optimizer": method.joined([state for _, state in parts]),
            "progress": progress,
        }
        _write(folder / CHECKPOINT, content)


def load_checkpoint(
    folder: Path, models: Sequence[nn.Module], method: Method, indices: Sequence[int]
) -> dict[str, Any] | None:
    """Restore the replicas with these indices. Returns ``progress``, or None without a checkpoint.

    Raises ``ValueError`` for a broken file or a checkpoint of another model.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    content = load_file(path, AGAIN)
    try:
        for index, model in zip(indices, models, strict=True):
            model.load_state_dict(content["models"][index])
        method.load_state_dict(content["optimizer"], indices)
        return content["progress"]
    except (RuntimeError, KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{path} belongs to another model: {error}") from error


def save_network(path: Path, model: nn.Module, about: dict[str, Any]) -> None:
    """Write the weights of a network, with ``about`` as its metadata."""
    _write(path, {"model": _on_cpu(model.state_dict()), "about": about})


def load_file(path: Path, advice: str) -> dict[str, Any]:
    """Read a file of tensors and plain values. Raises ``ValueError`` with ``advice`` if broken."""
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # a broken file can make the unpickler raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} cannot be read ({reason}). {advice}") from error


def _write(path: Path, content: dict[str, Any]) -> None:
    buffer = io.BytesIO()  # torch reports a full disk as a RuntimeError that names no file
    torch.save(content, buffer)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def _on_cpu(value: Any) -> Any:
    return tree_map(lambda x: x.detach().cpu() if isinstance(x, torch.Tensor) else x, value)
