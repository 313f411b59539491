"""Resumable training of a network by SGD, Replicated-SGD, Entropy-SGD or a baseline.

The folder of a run holds ``config.json``, ``log.csv`` (one row per pass of a replica over the
data), ``checkpoint.pt``, ``snapshots/passes-*.pt``, and at the end ``final.pt`` and
``result.json``. A second call of ``train`` with the folder resumes the run, bit for bit on a CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn
from tqdm import tqdm

from deep.checkpoints import load_checkpoint, save_checkpoint, save_network
from deep.config import CompileMode, TrainingConfig
from deep.device import Device
from deep.images.datasets import ImageData, load_images
from deep.images.minibatches import START, ImageBatches, Minibatches, evaluate, stream_seed
from deep.methods import build_method
from deep.model_state import bytes_held, recalibrated
from deep.models import build_model
from deep.optimizers.replicas import spread
from deep.run import Run, check_folder, claim, run_folder
from message_passing.tools.commands import CommandError
from message_passing.tools.files import write_json, write_table
from message_passing.tools.run_folder import RunFolder
from message_passing.tools.validation import check_one_of

GAMMA0_MINIBATCHES = 8
STOP_IMAGES = 5000
RECALIBRATION_IMAGES = 5000  # augmented training images, for rows of the log and for averages


class DivergedError(CommandError):
    """The training loss is no longer finite."""


def train(
    config: TrainingConfig,
    folder: str | Path,
    device: str = "auto",
    data: ImageData | None = None,
    data_dir: str | Path | None = None,
    precision: str = "auto",
    compile_mode: CompileMode = "off",
    stop_after: int | None = None,
    progress: bool = True,
) -> Run | None:
    """Train the run ``config``, or resume it. A finished run is only read.

    Parameters
    ----------
    device, precision
        See ``Device``.
    data
        Images. None: load ``config.dataset`` (from ``data_dir``).
    compile_mode
        ``"off"``, or the mode of ``torch.compile``: ``"default"``, ``"reduce-overhead"`` (CUDA
        graphs on a GPU). It needs a C++ compiler, and makes SmallConvNet slower on a CPU.
    stop_after
        Total number of steps after which to write a checkpoint, stop and return None.

    Seeds torch's global generators. Raises ``ValueError`` for a folder with another run and for
    unusable options, before anything is created; ``RunInUseError`` if another process trains in
    the folder; ``DivergedError`` if the loss is no longer finite.
    """
    folder = Path(folder)
    check_folder(folder, config)
    if (folder / "result.json").exists():
        run = Run(folder)
        run.check_final()
        return run
    here = Device(device, precision)
    images = (data or load_images(config.dataset, data_dir)).held_out(config.validation_images)
    training = Training(config, images.to(here.torch), here, compile_mode)
    with RunFolder(folder).in_use() if here.first else nullcontext():
        if here.first:
            claim(folder, config)
        start = training.restore(folder)
        left = range(start, start if training.has_reached_stop_loss() else training.steps)
        steps = tqdm(
            left, total=training.steps, initial=start, unit="step",
            desc=f"{folder.parent.name}/{folder.name}", mininterval=1.0,
            disable=not progress or not here.first,
        )  # fmt: skip
        for step in steps:
            training.step(step)
            done = step + 1
            stop, last = done == stop_after, done == training.steps
            row = done % training.per_pass == 0 or last
            if row:
                training.write_row(folder, done)
                steps.set_postfix(test_error=f"{training.log[-1]['test_error']:.4f}")
                last = last or training.has_reached_stop_loss()
            if stop or row:
                training.checkpoint(folder, done)
            if last:
                break
            if stop:
                return None
        training.finish(folder)
    return Run(folder)


def train_all(configs: Iterable[TrainingConfig], runs: Path, **options: Any) -> list[Run]:
    """Train each run in its folder in ``runs``, after checking all folders.

    ``options`` are arguments of ``train``.
    """
    folders = [(config, run_folder(runs, config)) for config in configs]
    for config, folder in folders:
        check_folder(folder, config)
    done = [train(config, folder, **options) for config, folder in folders]
    return [run for run in done if run is not None]


class Training:
    """The replicas of this process with their minibatches, method and log."""

    def __init__(
        self,
        config: TrainingConfig,
        data: ImageData,
        device: Device,
        compile_mode: CompileMode = "off",
    ) -> None:
        check_one_of("compile_mode", compile_mode, get_args(CompileMode))
        self.config, self.data, self.device = config, data, device
        self.indices = spread(config.algorithm.networks, device.processes, device.rank)
        self.models = [self._fresh_model(index) for index in self.indices]
        self.forwards: list[Callable[[Tensor], Tensor]] = [
            model if compile_mode == "off" else torch.compile(model, mode=compile_mode)
            for model in self.models
        ]
        self.prepare = data.preprocessing(**config.augmentation())
        self.batches = [
            Minibatches(data, self.prepare, config.batch_size, config.seed, index)
            for index in self.indices
        ]
        self.per_pass = self.batches[0].per_pass
        self.steps = config.steps(self.per_pass)
        # A CUDA graph reuses its output buffers, so gradients are kept outside it.
        self.keeps_gradients = compile_mode == "reduce-overhead" and len(self.models) > 1
        if self.keeps_gradients:
            for p in (p for model in self.models for p in model.parameters()):
                p.grad = torch.zeros_like(p)
        self.method = build_method(config, self.models, self.steps, self.per_pass, device.group)
        self.has_batch_norm = any(
            isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.models[0].modules()
        )
        self.log: list[dict[str, Any]] = []
        # Sums since the last row: loss, wrong answers, images.
        self.sums = torch.zeros(3, dtype=torch.float64, device=device.torch)
        self.seconds_before, self.started = 0.0, time.perf_counter()

    def _fresh_model(self, index: int) -> nn.Module:
        """A model with initial weights that depend on the seed and the replica only."""
        torch.manual_seed(stream_seed(self.config.seed, START, index))
        classes, options = len(self.data.classes), self.config.model_options
        model = build_model(self.config.model, classes, **options).to(self.device.torch)
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    # -- a step -------------------------------------------------------------------------

    def step(self, step: int) -> None:
        """One step of every replica. Losses stay on the device, which avoids a synchronisation."""
        fraction = step / self.steps
        self.method.set_rate(self.config.learning_rate(fraction), fraction)
        self.method.optimizer.zero_grad(set_to_none=not self.keeps_gradients)
        for replica, batches in enumerate(self.batches):
            images, labels = batches(step)
            images = images.contiguous(memory_format=torch.channels_last)
            loss, wrong = self._backward(replica, images, labels)
            count = torch.full_like(wrong, len(labels))
            self.sums += torch.stack([loss * count, wrong, count]).double()
        self.method.step(loss, lambda: self._backward(0, images, labels))

    def _backward(self, replica: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Add a replica's gradient on a minibatch. Returns the loss and the wrong answers."""
        self.models[replica].train()
        with self.device.autocast():
            output = self.forwards[replica](images)
        output = output.float()
        loss = nn.functional.cross_entropy(output, labels)
        loss.backward()
        return loss.detach(), (output.argmax(1) != labels).sum()

    def _loss_at_start(self, model: nn.Module) -> float:
        """Loss of a replica on its first minibatches, for the automatic γ0."""
        replica = next(i for i, m in enumerate(self.models) if m is model)
        total, count = 0.0, min(GAMMA0_MINIBATCHES, self.per_pass)
        for step in range(count):
            images, labels = self.batches[replica](step)
            with self.device.autocast():
                output = model(images)
            total += float(nn.functional.cross_entropy(output.float(), labels)) / count
        return total

    # -- the evaluated network ----------------------------------------------------------

    @contextmanager
    def network(self) -> Iterator[nn.Module]:
        """The network to evaluate: w of Entropy-SGD, the centre of the replicas, or an average.

        A baseline's average is a copy with recalibrated BatchNorm statistics.
        """
        with self.method.network() as network:
            if self.has_batch_norm and self.method.averages:
                network = self._recalibrated(network, RECALIBRATION_IMAGES)
            yield network

    def _evaluate(
        self, network: nn.Module, split: str, images: int | None = None
    ) -> tuple[float, float]:
        batches = ImageBatches(self.data, self.prepare, split, images=images)
        return evaluate(network, batches, self.device.autocast())

    def _recalibrated(self, network: nn.Module, images: int | None = None) -> nn.Module:
        """A copy with BatchNorm statistics from augmented training images."""
        batches = ImageBatches(self.data, self.prepare, "train", augment=True, images=images)
        with self.device.autocast():
            return recalibrated(network, batches)

    # -- log, checkpoints, result -------------------------------------------------------

    def restore(self, folder: Path) -> int:
        """Resume from the checkpoint, if there is one. Returns the number of steps done."""
        kept = load_checkpoint(folder, self.models, self.method, self.indices)
        done = kept["step"] if kept else 0
        steps = self.device.gathered(done)
        if len(set(steps)) > 1:
            raise ValueError(
                f"the processes found checkpoints of {folder} after {steps} steps; one folder "
                "that all hosts share was expected."
            )
        if kept:
            self.log, self.seconds_before = kept["log"], kept["seconds"]
            if self.device.first:
                self.sums = kept["sums"].to(self.device.torch)
        else:
            self.method.prepare(self.steps, self._loss_at_start, self.device.first)
        self.started = time.perf_counter()
        return done

    def has_reached_stop_loss(self) -> bool:
        """Whether the last row of the log is at or below ``stop_loss``, which ends the run."""
        limit = self.config.stop_loss
        return limit > 0 and bool(self.log) and self.log[-1]["fixed_images_loss"] <= limit

    def checkpoint(self, folder: Path, done: int) -> None:
        """Write the checkpoint that ``restore`` reads."""
        sums = self.device.total(self.sums).cpu()
        state = {"step": done, "log": self.log, "seconds": self.seconds, "sums": sums}
        save_checkpoint(folder, self.models, self.method, state, self.device.gloo)

    @property
    def seconds(self) -> float:
        """Wall time of the whole run so far, over all calls."""
        return self.seconds_before + time.perf_counter() - self.started

    def write_row(self, folder: Path, done: int) -> None:
        """Add a row to the log, and store the network if a snapshot is due.

        Raises ``DivergedError`` after a row with a loss that is not finite.
        """
        before = self.log[-1]["step"] / self.steps if self.log else 0.0
        row = self.row(done)
        self.log.append(row)
        if any(before < f <= done / self.steps for f in self.config.snapshots):
            self._save(folder / "snapshots" / f"passes-{row['passes']:06.1f}.pt")
        self._write_log(folder)
        if not math.isfinite(row["train_loss"]):
            raise DivergedError(
                f"The training loss became {row['train_loss']} before step {done} of {folder} "
                f"(lr {row['lr']:g}, gamma {row['gamma']:g}). The last checkpoint is from before; "
                "choose a smaller learning rate or gamma and another folder."
            )

    def row(self, done: int) -> dict[str, Any]:
        """A row of the log. Resets the running training loss and error."""
        loss, wrong, count = self.device.total(self.sums).tolist()
        self.sums.zero_()
        others = {}
        with self.network() as network:
            test_loss, test_error = self._evaluate(network, "test")
            if self.config.stop_loss > 0:
                others["fixed_images_loss"] = self._evaluate(network, "train", STOP_IMAGES)[0]
            if self.has_batch_norm and self.method.logs_recalibrated:
                fresh = self._recalibrated(network, RECALIBRATION_IMAGES)
                others["test_error_recalibrated"] = self._evaluate(fresh, "test")[1]
        return {
            "step": done,
            "passes": done / self.per_pass * self.config.algorithm.gradients_per_step,
            "lr": self.config.learning_rate(max(done - 1, 0) / self.steps),
            "gamma": self.method.gamma,
            "train_loss": loss / count,
            "train_error": wrong / count,
            "test_loss": test_loss,
            "test_error": test_error,
            **others,
            "distance": self.method.distance(),
            "seconds": self.seconds,
        }

    def _save(self, path: Path) -> None:
        with self.network() as network:
            if self.device.first:
                about = {"classes": list(self.data.classes), "log": self.log[-1]}
                save_network(path, network, about)

    def _write_log(self, folder: Path) -> None:
        import pandas as pd

        if self.device.first:
            write_table(folder / "log.csv", pd.DataFrame(self.log))

    def finish(self, folder: Path) -> None:
        """Write the final network, then the result: errors without augmentation and the cost."""
        row = self.log[-1]
        result: dict[str, Any] = {"passes": row["passes"], "steps": row["step"]}
        with self.network() as network:
            for split in ("train", "test"):
                loss, error = self._evaluate(network, split)
                result |= {f"{split}_error": error, f"{split}_loss": loss}
            if self.has_batch_norm:
                fresh = self._recalibrated(network)
                result["test_error_recalibrated"] = self._evaluate(fresh, "test")[1]
        result |= self.method.result() | {
            "memory_MiB": bytes_held(self.models, self.method) / 2**20,
            "seconds": self.seconds,
            "data": self.data.name,
            "device": self.device.name(),
            "precision": "bf16" if self.device.bf16 else "float32",
            "processes": self.device.processes,
        }
        self._save(folder / "final.pt")
        self._write_log(folder)
        if self.device.first:
            write_json(folder / "result.json", result)
