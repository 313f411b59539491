"""Steps per second and memory of the entropic optimizers and of their base optimizer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deep.algorithms import Algorithm, Esgd, Rsgd, Sgd
from deep.config import TrainingConfig
from message_passing.tools.files import write_json
from message_passing.tools.hardware import describe_hardware
from message_passing.tools.tables import ERROR, to_markdown
from message_passing.tools.validation import check, check_numbers

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class BenchmarkOptions:
    """Time sgd, esgd and rsgd on the same network. Prints hardware, versions and a table.

    Training steps run on synthetic images, with Nesterov momentum, L = 5, y = 3 and K = 10.
    """

    model: str = "resnet18"
    """A model of deep.build_model."""
    batch_size: int = 128
    """Images per minibatch."""
    steps: int = 10
    """Minibatches per repetition and replica."""
    repeats: int = 5
    """Timed repetitions, after one for warming up. The optimizers take turns."""
    device: str = "auto"
    """auto, cpu, cuda."""
    precision: str = "auto"
    """auto, float32, bf16."""
    out: Path | None = None
    """JSON file for the results."""

    def __post_init__(self) -> None:
        check_numbers(self, positive=("batch_size", "steps"))
        check("repeats", self.repeats, self.repeats >= 2, "at least 2")


def benchmark(options: BenchmarkOptions) -> pd.DataFrame:
    """Milliseconds per minibatch of a training step, and the overhead over plain SGD.

    The overhead compares a step of Replicated-SGD with y plain steps, and an outer step of
    Entropy-SGD with L plain steps. It is the mean over repetitions of the ratio within a
    repetition. Errors are standard errors over the repetitions. Memory counts weights, gradients
    and optimizer state.
    """
    import pandas as pd
    import torch

    from deep.device import Device
    from deep.images.datasets import synthetic_images
    from deep.model_state import bytes_held
    from deep.training import Training

    device = Device(options.device, options.precision)
    images = synthetic_images(options.batch_size, 1).to(device.torch)
    algorithms: dict[str, Algorithm] = {
        "sgd": Sgd(),
        "esgd": Esgd(gamma=0.1, gamma_growth=1.0, inner_lr=1e-4),
        "rsgd y=3": Rsgd(gamma=0.1, gamma_growth=1.0),
    }
    runs = {}
    for name, own in algorithms.items():
        config = TrainingConfig(
            model=options.model, algorithm=own, batch_size=options.batch_size,
            lr=0.5 if name == "esgd" else 1e-4, lr_drops=(), weight_decay=0.0, padding=0,
            flip=False,
        )  # fmt: skip
        runs[name] = Training(config, images, device)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(options.repeats + 1):
        for name, training in runs.items():
            steps = range(repeat * options.steps, (repeat + 1) * options.steps)
            start = time.perf_counter()
            for step in steps:
                training.step(step)
            if device.gpu:
                torch.cuda.synchronize(device.torch)
            minibatches = len(steps) * len(training.models)  # summed over replicas
            milliseconds = 1e3 * (time.perf_counter() - start) / minibatches
            if repeat > 0:  # the first one warms up
                times[name].append(milliseconds)
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
            "memory_MiB": [bytes_held(run.models, run.method) / 2**20 for run in runs.values()],
        }
    )


def show(chosen: BenchmarkOptions) -> None:
    """Run the benchmark, print it, and write it to ``out``."""
    import torch

    from deep.device import Device

    device = Device(chosen.device).name()
    hardware = describe_hardware() | {"device": device, "threads": str(torch.get_num_threads())}
    for key, value in hardware.items():
        print(f"{key:>18}: {value}")
    table = benchmark(chosen)
    print(f"{chosen}\n\n{to_markdown(table)}\n±: standard error over the repetitions")
    if chosen.out is not None:
        write_json(chosen.out, {"hardware": hardware, "rows": table.to_dict("records")})
