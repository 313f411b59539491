"""The replicas of a run, their minibatches and optimizer, and what is measured on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from deep.batch_norm import recalibrated
from deep.checkpoints import save_model
from deep.config import PEERS, TrainingConfig
from deep.held_memory import bytes_held
from deep.images.datasets import ImageData
from deep.images.minibatches import (
    LANGEVIN,
    START,
    ImageBatches,
    Minibatches,
    evaluate,
    stream_seed,
)
from deep.models import build_model
from deep.optimizers.baselines import Baseline, build_baseline
from deep.optimizers.entropy_sgd import EntropySGD
from deep.optimizers.replicas import spread
from deep.optimizers.replicated_sgd import ReplicatedSGD
from deep.place import CompileMode, Place
from message_passing.tools.hardware import describe_hardware, git_revision

GAMMA0_MINIBATCHES = 8
RECALIBRATION_IMAGES = 5000  # of the training set, augmented: for a row, for an average


class TrainingRun:
    """The replicas of this process, their minibatches and their optimizer."""

    def __init__(
        self,
        config: TrainingConfig,
        data: ImageData,
        place: Place,
        compile_mode: CompileMode = "off",
    ) -> None:
        if compile_mode not in get_args(CompileMode):
            raise ValueError(
                f"compile_mode is {compile_mode!r}; one of {get_args(CompileMode)} was expected."
            )
        self.config, self.data, self.place = config, data, place
        replicas = config.replicas if config.replicated else 1
        self.indices = spread(replicas, place.processes, place.rank)
        self.total_replicas = replicas
        self.models = [self._fresh_model(index) for index in self.indices]
        self.forwards: list[Callable[[Tensor], Tensor]] = [
            model if compile_mode == "off" else torch.compile(model, mode=compile_mode)
            for model in self.models
        ]
        self.images = config.preprocessing(data)
        self.batches = [
            Minibatches(data, self.images, config.batch_size, config.seed, index)
            for index in self.indices
        ]
        self.per_pass = self.batches[0].per_pass
        self.steps = config.steps(self.per_pass)
        # A CUDA graph's gradients lie in memory that the next replica's forward pass takes back;
        # to those that are there before it the graph's are added.
        self.keeps_gradients = compile_mode == "reduce-overhead" and len(self.models) > 1
        if self.keeps_gradients:
            for p in (p for model in self.models for p in model.parameters()):
                p.grad = torch.zeros_like(p)
        self.optimizer = self._build_optimizer()
        self.sums = torch.zeros(3, dtype=torch.float64, device=place.device)
        self.has_batch_norm = any(
            isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.models[0].modules()
        )

    def _fresh_model(self, index: int) -> nn.Module:
        """Initial weights are a function of the seed and the replica."""
        torch.manual_seed(stream_seed(self.config.seed, START, index))
        model = build_model(
            self.config.model, len(self.data.classes), **self.config.model_options
        ).to(self.place.device)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    def _build_optimizer(self) -> torch.optim.Optimizer | Baseline:
        config = self.config
        if config.algorithm in PEERS:
            return build_baseline(config, self.models[0], self.steps, self.per_pass)
        base = config.base()
        if config.algorithm == "sgd":
            return base(self.models[0].parameters(), lr=config.lr)
        gamma = config.gamma_schedule(self.steps)
        if config.algorithm == "esgd":
            return EntropySGD(
                self.models[0].parameters(), base, lr=config.lr, inner_lr=config.inner_lr,
                inner_steps=config.inner_steps, noise=config.noise, averaging=config.averaging,
                gamma=gamma, outer_base=base, reset_inner=True,
                seed=stream_seed(config.seed, LANGEVIN),
            )  # fmt: skip
        return ReplicatedSGD(
            self.models, base, lr=config.lr, gamma=gamma, coupling=config.coupling,
            coupling_period=config.coupling_period, process_group=self.place.group,
        )  # fmt: skip

    def prepare(self) -> None:
        """Before the first step: γ0 of the replicas, stability of their coupling."""
        if isinstance(self.optimizer, EntropySGD):
            self.optimizer.check_stability(self.steps // self.config.inner_steps)
        if not isinstance(self.optimizer, ReplicatedSGD):
            return

        def loss(model: nn.Module) -> float:
            replica = next(i for i, m in enumerate(self.models) if m is model)
            total = 0.0
            count = min(GAMMA0_MINIBATCHES, self.per_pass)
            for step in range(count):
                images, labels = self.batches[replica](step)
                with self.place.autocast():
                    output = model(images)
                total += float(nn.functional.cross_entropy(output.float(), labels)) / count
            return total

        if self.optimizer.awaits_measurement:
            self.optimizer.measure_gamma0(loss)
        if self.place.first:
            self.optimizer.check_stability(
                self.steps,
                lambda step: self.config.learning_rate(step / self.steps),
                lambda step: self.config.coupling_period_at(step / self.steps),
            )

    def step(self, step: int) -> None:
        """One step of every replica; losses stay on the device."""
        rate = self.config.learning_rate(step / self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if isinstance(self.optimizer, ReplicatedSGD):
            self.optimizer.coupling_period = self.config.coupling_period_at(step / self.steps)
        self.optimizer.zero_grad(set_to_none=not self.keeps_gradients)
        for replica, batches in enumerate(self.batches):
            images, labels = batches(step)
            images = images.contiguous(memory_format=torch.channels_last)
            loss, wrong = self._backward(replica, images, labels)
            count = torch.full_like(wrong, len(labels))
            self.sums += torch.stack([loss * count, wrong, count]).double()
        if isinstance(self.optimizer, EntropySGD):
            self.optimizer.step(loss=loss)
        elif isinstance(self.optimizer, Baseline):
            self.optimizer.step(lambda: self._backward(0, images, labels))
        else:
            self.optimizer.step()

    def _backward(self, replica: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Add the gradient of a replica on a minibatch; its loss and number of wrong answers."""
        self.models[replica].train()
        with self.place.autocast():
            output = self.forwards[replica](images)
        output = output.float()
        loss = nn.functional.cross_entropy(output, labels)
        loss.backward()
        return loss.detach(), (output.argmax(1) != labels).sum()

    @contextmanager
    def network(self) -> Iterator[nn.Module]:
        """The network that counts: w of Entropy-SGD, the centre of the replicas, an average.

        The average of a peer is a copy with BatchNorm statistics of its own, where there are
        any: those that its weights were trained with are of other weights.
        """
        if isinstance(self.optimizer, EntropySGD):
            with self.optimizer.anchor():
                yield self.models[0]
        elif isinstance(self.optimizer, ReplicatedSGD):
            with self.optimizer.centre() as centre:
                yield centre
        elif isinstance(self.optimizer, Baseline):
            with self.optimizer.network() as network:
                measure_again = self.has_batch_norm and self.optimizer.averages
                yield (
                    self._recalibrated(network, RECALIBRATION_IMAGES) if measure_again else network
                )
        else:
            yield self.models[0]

    def export(self) -> nn.Module:
        """A separate copy of that network, on the CPU."""
        copy = build_model(self.config.model, len(self.data.classes), **self.config.model_options)
        with self.network() as network:
            copy.load_state_dict({k: v.cpu() for k, v in network.state_dict().items()})
        return copy

    def evaluate(self, network: nn.Module, split: str) -> tuple[float, float]:
        return evaluate(network, ImageBatches(self.data, self.images, split), self.place.autocast())

    def _recalibrated(self, network: nn.Module, images: int | None = None) -> nn.Module:
        """A copy with BatchNorm statistics from augmented training images."""
        batches = ImageBatches(self.data, self.images, "train", augment=True, images=images)
        with self.place.autocast():
            return recalibrated(network, batches)

    def recalibrated_test_error(self, network: nn.Module, images: int | None = None) -> float:
        """Test error of such a copy."""
        return self.evaluate(self._recalibrated(network, images), "test")[1]

    def row(self, step: int, seconds: float) -> dict[str, Any]:
        """A row of the log; resets the running training loss and error.

        The weights of a centre or an anchor have made no forward pass in training, and their
        BatchNorm statistics are those of other weights (for a centre, the mean of the
        replicas'): where there is BatchNorm, the test error with statistics of their own is
        logged too.
        """
        loss, wrong, count = self.place.total(self.sums).tolist()
        self.sums.zero_()
        with self.network() as network:
            test_loss, test_error = self.evaluate(network, "test")
            recalibrated_error = {}
            if self.has_batch_norm and isinstance(self.optimizer, ReplicatedSGD | EntropySGD):
                error = self.recalibrated_test_error(network, RECALIBRATION_IMAGES)
                recalibrated_error = {"test_error_recalibrated": error}
        optimizer = self.optimizer
        gamma = distance = 0.0
        if isinstance(optimizer, ReplicatedSGD | EntropySGD):
            gamma = optimizer.gamma
        if isinstance(optimizer, ReplicatedSGD):
            distance = optimizer.squared_distance() / self.total_replicas
        return {
            "step": step,
            "passes": step / self.per_pass * self.config.gradients_per_step,
            "lr": self.config.learning_rate(max(step - 1, 0) / self.steps),
            "gamma": gamma,
            "train_loss": loss / count,
            "train_error": wrong / count,
            "test_loss": test_loss,
            "test_error": test_error,
            **recalibrated_error,
            # Mean of ½‖w^a − w̄‖² over the replicas.
            "distance": distance,
            "seconds": seconds,
        }

    def save(self, path: Path, log: list[dict[str, Any]]) -> None:
        """Write the network and the last row of the log."""
        with self.network() as network:
            if self.place.first:
                about = {"config": self.config.as_json(), "classes": list(self.data.classes)}
                save_model(path, network, {**about, "log": log[-1]})

    def final_result(self, log: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
        """Errors of the final network without augmentation, and what it was made on."""
        result: dict[str, Any] = {"passes": log[-1]["passes"], "steps": self.steps}
        with self.network() as network:
            for split in ("train", "test"):
                loss, error = self.evaluate(network, split)
                result |= {f"{split}_error": error, f"{split}_loss": loss}
            if self.has_batch_norm:
                result["test_error_recalibrated"] = self.recalibrated_test_error(network)
        if isinstance(self.optimizer, ReplicatedSGD | EntropySGD):
            result["measured_gamma0"] = self.optimizer.gamma0
        return {
            **result,
            "memory_MiB": bytes_held(self.models, self.optimizer) / 2**20,
            "seconds": seconds,
            "data": self.data.name,
            "device": self.place.name(),
            "precision": "bf16" if self.place.bf16 else "float32",
            "processes": self.place.processes,
            "machine": describe_hardware(),
            "revision": git_revision(Path(__file__).parent),
        }
