"""Training a network by SGD, Replicated-SGD, Entropy-SGD or a peer of these, resumably.

A run lives in a folder: ``config.json``, ``log.csv`` (one row per pass of a replica over the
data), ``checkpoint.pt``, ``snapshots/passes-*.pt``, and at the end ``final.pt`` and
``result.json``. Calling ``train`` again with the same folder continues it, bit for bit on a CPU.
Where there is BatchNorm, the log of rsgd and esgd has ``test_error_recalibrated`` too: the test
error with statistics measured again, on a copy.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from deep.checkpoints import load_checkpoint, save_checkpoint
from deep.config import TrainingConfig
from deep.images.datasets import ImageData, load_images
from deep.place import CompileMode, Place
from deep.run_folders import difference, in_use
from deep.training_run import TrainingRun
from message_passing.tools.files import write_csv, write_json


class DivergedError(ArithmeticError):
    """The loss is no longer finite."""


@dataclass(frozen=True)
class TrainingResult:
    """A finished run: the network is that of w (esgd), of the centre (rsgd).

    ``result`` holds the errors and losses without augmentation; ``log`` the rows of the log.
    """

    folder: Path
    config: TrainingConfig
    model: nn.Module
    log: list[dict[str, Any]]
    result: dict[str, Any]
    writer: bool = True
    """Whether this process is the one that writes files."""


def train(
    config: TrainingConfig,
    folder: str | Path,
    device: str = "auto",
    data: ImageData | None = None,
    data_folder: str | Path | None = None,
    precision: str = "auto",
    compile_mode: CompileMode = "off",
    checkpoint_every: int = 1,
    stop_after: int | None = None,
    stop_when: Callable[[], bool] | None = None,
    tensorboard: bool = False,
    progress: bool = True,
) -> TrainingResult | None:
    """Train as ``config`` says, or continue, or return the finished run of ``folder``.

    Parameters
    ----------
    device
        "auto" takes a GPU where there is one.
    precision
        "float32", "bf16" (autocast), or "auto": bf16 on a GPU, float32 elsewhere.
    data
        Images; loaded by ``config.dataset`` (from ``data_folder``) if not given.
    compile_mode
        ``"off"``, or the mode of ``torch.compile``: ``"default"``, ``"reduce-overhead"`` (CUDA
        graphs on a GPU). Needs a C++ compiler; on a CPU SmallConvNet is slower with it.
    checkpoint_every
        Rows of the log from one checkpoint to the next.
    stop_after
        Stop, with a checkpoint, after so many steps in all (returns None).
    stop_when
        Asked after every row of the log: stop there, with a checkpoint (returns None).
    tensorboard
        Write the rows of the log to ``<folder>/tensorboard`` too (needs ``tensorboard``).

    Under torchrun the replicas are spread over the processes. Seeds torch's global generators.
    Raises ``ValueError`` for a folder that holds another run, ``RunInUseError`` for one that
    another process trains in, ``DivergedError`` where the loss is no longer finite.
    """
    folder = Path(folder)
    place = Place(device, precision)
    if not config.replicated and place.group is not None:
        raise ValueError(
            f"algorithm is {config.algorithm!r} in {place.processes} processes; only replicas "
            "can be spread over processes."
        )
    with in_use(folder) if place.first else nullcontext():
        _claim(folder, config, place)
        images = (data or load_images(config.dataset, data_folder)).to(place.device)
        run = TrainingRun(config, images, place, compile_mode)
        return _continue(
            run, folder, checkpoint_every, stop_after, stop_when, tensorboard, progress
        )


def _continue(
    run: TrainingRun,
    folder: Path,
    checkpoint_every: int,
    stop_after: int | None,
    stop_when: Callable[[], bool] | None,
    tensorboard: bool,
    progress: bool,
) -> TrainingResult | None:
    """From the last checkpoint, if any, to the end."""
    config, place = run.config, run.place
    result_file = folder / "result.json"
    finished = result_file.exists()
    kept = load_checkpoint(folder, run.models, run.optimizer, run.indices)
    kept = kept or {"step": 0, "log": [], "seconds": 0.0, "sums": torch.zeros(3).double()}
    if place.first:
        run.sums = kept["sums"].to(place.device)
    log, done, seconds = kept["log"], kept["step"], kept["seconds"]
    _check_shared(folder, done, place)
    if done == 0:
        run.prepare()
    board = _tensorboard(folder, done) if tensorboard and place.first else None
    started = time.perf_counter()
    bar = tqdm(
        total=run.steps, initial=done, unit="step", desc=f"{folder.parent.name}/{folder.name}",
        disable=not progress or not place.first, mininterval=1.0,
    )  # fmt: skip

    def elapsed() -> float:
        return seconds + time.perf_counter() - started

    def checkpoint(step: int) -> None:
        sums = place.total(run.sums).cpu()
        state = {"step": step, "log": log, "seconds": elapsed(), "sums": sums}
        save_checkpoint(folder, run.models, run.optimizer, state, place.gloo)

    with bar:
        for step in range(done, run.steps):
            run.step(step)
            bar.update()
            end = step + 1
            stop = end == stop_after
            row = end % run.per_pass == 0 or end == run.steps
            if row:
                before = log[-1]["step"] / run.steps if log else 0.0
                log.append(run.row(end, elapsed()))
                bar.set_postfix(test_error=f"{log[-1]['test_error']:.4f}")
                if any(before < f <= end / run.steps for f in config.snapshots):
                    run.save(folder / "snapshots" / f"passes-{log[-1]['passes']:06.1f}.pt", log)
                if place.first:
                    write_csv(folder / "log.csv", log)
                    if board is not None:
                        for name, value in log[-1].items():
                            board.add_scalar(name, value, end)
                if not math.isfinite(log[-1]["train_loss"]):
                    raise DivergedError(
                        f"the training loss became {log[-1]['train_loss']} before step {end} "
                        f"(lr {log[-1]['lr']:g}, gamma {log[-1]['gamma']:g}). The last "
                        "checkpoint is from before; choose a smaller learning rate or gamma "
                        "and another folder."
                    )
                stop = stop or (stop_when is not None and stop_when())
            if stop or end == run.steps or (row and len(log) % checkpoint_every == 0):
                checkpoint(end)
            if stop and end < run.steps:
                return None
    if board is not None:
        board.close()
    if finished:
        result = json.loads(result_file.read_text())
    else:
        result = run.final_result(log, elapsed())
        run.save(folder / "final.pt", log)
        if place.first:
            write_json(result_file, result)
    return TrainingResult(folder, config, run.export(), log, result, place.first)


def _check_shared(folder: Path, done: int, place: Place) -> None:
    """All processes have found the same checkpoint. Raises ``ValueError`` otherwise."""
    steps = place.gathered(done)
    if len(set(steps)) > 1:
        raise ValueError(
            f"the processes found checkpoints of {folder} after {steps} steps; one folder that "
            "all hosts share was expected."
        )


def _tensorboard(folder: Path, step: int):  # type: ignore[no-untyped-def]
    """A writer that replaces what an interrupted run wrote from ``step`` on."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("tensorboard is asked for, but the package is not installed.") from error
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)


def _claim(folder: Path, config: TrainingConfig, place: Place) -> None:
    """Write ``config.json``, or check that the folder holds this very run."""
    if other := difference(folder, config):
        raise ValueError(f"{other} Choose another folder.")
    path = folder / "config.json"
    if place.first and not path.exists():
        write_json(path, config.as_json())
