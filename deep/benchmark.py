"""Steps per second and memory of the entropic optimizers beside their base optimizer."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import tyro
from torch import nn

from deep.algorithms import check_numbers
from deep.device import Device
from deep.held_memory import bytes_held
from deep.models import build_model
from deep.optimizers.entropy_sgd import EntropySGD
from deep.optimizers.replicated_sgd import ReplicatedSGD
from message_passing.tools.files import write_json
from message_passing.tools.hardware import describe_hardware
from message_passing.tools.tables import ERROR, to_markdown


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
        check_numbers(self, positive=("batch_size", "steps", "replicas", "inner_steps"))
        if self.repeats < 2:
            raise ValueError(f"repeats is {self.repeats}; at least 2 was expected.")


@dataclass(frozen=True)
class BenchmarkCommand:
    """Time sgd, esgd and rsgd on the same network; prints hardware, versions and a table."""

    options: Annotated[BenchmarkOptions, tyro.conf.arg(name="")] = field(
        default_factory=BenchmarkOptions
    )
    out: Path | None = None
    """JSON file for the numbers."""


def benchmark(options: BenchmarkOptions) -> pd.DataFrame:
    """Milliseconds per minibatch (gradient and its share of all else), overhead over plain SGD.

    The overhead compares a step of Replicated-SGD with y plain steps and an outer step of
    Entropy-SGD with L plain steps; it is a mean of ratios of repetitions that followed each other.
    Errors are standard errors over the repetitions. Memory is that of weights, gradients and
    optimizer state.
    """
    device = Device(options.device, options.precision)
    names = {"sgd": "sgd", "esgd": "esgd", "rsgd": f"rsgd y={options.replicas}"}
    runs = {name: _Timed(algorithm, options, device) for algorithm, name in names.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(options.repeats + 1):
        for name, run in runs.items():
            seconds = run.seconds_per_minibatch(options.steps)
            if repeat > 0:
                times[name].append(1e3 * seconds)
    table = pd.DataFrame(times)
    overhead = 100 * (table.div(table["sgd"], axis=0) - 1)
    return pd.DataFrame(
        {
            "optimizer": [*runs],
            "minibatches_per_second": 1e3 / table.mean().to_numpy(),
            "milliseconds": table.mean().to_numpy(),
            "milliseconds" + ERROR: table.sem().to_numpy(),
            "overhead_percent": overhead.mean().to_numpy(),
            "overhead_percent" + ERROR: overhead.sem().to_numpy(),
            "memory_MiB": [bytes_held(r.models, r.optimizer) / 2**20 for r in runs.values()],
        }
    )


def show(chosen: BenchmarkCommand) -> None:
    """Print the benchmark, and keep it."""
    device = Device(chosen.options.device).name()
    hardware = describe_hardware() | {"device": device, "threads": str(torch.get_num_threads())}
    for key, value in hardware.items():
        print(f"{key:>18}: {value}")
    table = benchmark(chosen.options)
    print(f"{chosen.options}\n\n{to_markdown(table)}\n±: standard error over the repetitions")
    if chosen.out is not None:
        write_json(chosen.out, {"hardware": hardware, "rows": table.to_dict("records")})


class _Timed:
    """A network (or replicas of it) and its optimizer on one fixed minibatch of noise."""

    def __init__(self, algorithm: str, options: BenchmarkOptions, device: Device) -> None:
        self.device = device
        base = partial(torch.optim.SGD, momentum=0.9, nesterov=True, fused=True)
        torch.manual_seed(0)
        count = options.replicas if algorithm == "rsgd" else 1
        self.models = [build_model(options.model, 10).to(device.torch) for _ in range(count)]
        self.images = torch.randn(options.batch_size, 3, 32, 32, device=device.torch)
        self.images = self.images.contiguous(memory_format=torch.channels_last)
        for model in self.models:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.labels = torch.randint(10, (options.batch_size,), device=device.torch)
        self.optimizer: torch.optim.Optimizer
        if algorithm == "sgd":
            self.optimizer = base(self.models[0].parameters(), lr=1e-4)
        elif algorithm == "esgd":
            self.optimizer = EntropySGD(
                self.models[0].parameters(), base, lr=0.5, inner_lr=1e-4, gamma=0.1,
                inner_steps=options.inner_steps,
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
                with self.device.autocast():
                    output = model(self.images)
                nn.functional.cross_entropy(output.float(), self.labels).backward()
            self.optimizer.step()
        self._wait()
        return (time.perf_counter() - start) / (steps * len(self.models))

    def _wait(self) -> None:
        if self.device.gpu:
            torch.cuda.synchronize(self.device.torch)
