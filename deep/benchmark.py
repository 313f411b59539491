"""Steps per second and memory of the entropic optimizers beside their base optimizer."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from deep.held_memory import bytes_held
from deep.models import build_model
from deep.optimizers.entropy_sgd import EntropySGD
from deep.optimizers.replicated_sgd import ReplicatedSGD
from deep.place import Place
from deep.standard_error import standard_error
from message_passing.tools.hardware import describe_hardware


@dataclass(frozen=True)
class BenchmarkOptions:
    """What is timed: random images, Nesterov momentum, published L and y."""

    model: str = "resnet18"
    """smallconvnet, resnet18, resnet110, pyramidnet272, efficientnet_b0, resnet50, densenet121."""
    batch_size: int = 128
    """Images per minibatch."""
    steps: int = 10
    """Minibatches per repetition and replica."""
    repeats: int = 5
    """Repetitions, taken in turn by the optimizers, after one to warm up."""
    replicas: int = 3
    """Replicas of rsgd."""
    inner_steps: int = 5
    """Inner steps of esgd."""
    coupling_period: int = 10
    """Steps between couplings of rsgd."""
    device: str = "auto"
    """auto, cpu, cuda."""
    precision: str = "auto"
    """auto, float32, bf16."""

    def __post_init__(self) -> None:
        least = {"batch_size": 1, "steps": 1, "repeats": 2, "replicas": 1, "inner_steps": 1}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name} is {getattr(self, name)}; at least {bound} was expected.")


def benchmark(options: BenchmarkOptions) -> list[dict[str, Any]]:
    """Seconds per minibatch (gradient and its share of all else) and overhead over plain SGD.

    The overhead compares a step of Replicated-SGD with y plain steps and an outer step of
    Entropy-SGD with L plain steps; it is a mean of ratios of repetitions that followed each other.
    Errors are standard errors over the repetitions. Memory is that of weights, gradients and
    optimizer state.
    """
    place = Place(options.device, options.precision)
    runs = {
        "sgd": _Timed("sgd", options, place),
        "esgd": _Timed("esgd", options, place),
        f"rsgd y={options.replicas}": _Timed("rsgd", options, place),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(options.repeats + 1):
        for name, run in runs.items():
            seconds = run.seconds_per_minibatch(options.steps)
            if repeat > 0:
                times[name].append(seconds)
    rows = []
    for name, run in runs.items():
        ratios = [own / plain - 1 for own, plain in zip(times[name], times["sgd"], strict=True)]
        error, ratio_error = standard_error(times[name]), standard_error(ratios)
        assert error is not None and ratio_error is not None  # of two repetitions and more
        rows.append(
            {
                "optimizer": name,
                "minibatches_per_second": 1 / statistics.mean(times[name]),
                "milliseconds": 1e3 * statistics.mean(times[name]),
                "se_milliseconds": 1e3 * error,
                "overhead_percent": 100 * statistics.mean(ratios),
                "se_overhead_percent": 100 * ratio_error,
                "memory_MiB": bytes_held(run.models, run.optimizer) / 2**20,
            }
        )
    return rows


def hardware(options: BenchmarkOptions) -> dict[str, str]:
    """What it ran on."""
    return {
        **describe_hardware(),
        "device": Place(options.device).name(),
        "threads": str(torch.get_num_threads()),
    }


class _Timed:
    """A network (or replicas of it) and its optimizer on one fixed minibatch of noise."""

    def __init__(self, algorithm: str, options: BenchmarkOptions, place: Place) -> None:
        self.place = place
        base = partial(torch.optim.SGD, momentum=0.9, nesterov=True, fused=True)
        torch.manual_seed(0)
        count = options.replicas if algorithm == "rsgd" else 1
        self.models = [build_model(options.model, 10).to(place.device) for _ in range(count)]
        self.images = torch.randn(options.batch_size, 3, 32, 32, device=place.device)
        self.images = self.images.contiguous(memory_format=torch.channels_last)
        for model in self.models:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.labels = torch.randint(10, (options.batch_size,), device=place.device)
        self.optimizer: torch.optim.Optimizer
        if algorithm == "sgd":
            self.optimizer = base(self.models[0].parameters(), lr=1e-4)
        elif algorithm == "esgd":
            self.optimizer = EntropySGD(
                self.models[0].parameters(), base, lr=0.5, inner_lr=1e-4, gamma=0.1,
                inner_steps=options.inner_steps, outer_base=base,
            )  # fmt: skip
        else:
            self.optimizer = ReplicatedSGD(
                self.models, base, lr=1e-4, gamma=0.1, coupling_period=options.coupling_period
            )

    def seconds_per_minibatch(self, steps: int) -> float:
        self._wait()
        start = time.perf_counter()
        for _ in range(steps):
            self.optimizer.zero_grad()
            for model in self.models:
                with self.place.autocast():
                    output = model(self.images)
                nn.functional.cross_entropy(output.float(), self.labels).backward()
            self.optimizer.step()
        self._wait()
        return (time.perf_counter() - start) / (steps * len(self.models))

    def _wait(self) -> None:
        if self.place.gpu:
            torch.cuda.synchronize(self.place.device)
