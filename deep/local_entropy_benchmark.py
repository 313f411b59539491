"""``python -m deep local-entropy-benchmark``: time the measurement of local entropy curves.

It times a whole curve of a network with 10⁵ weights on 1000 inputs, and the evaluation of one
neighbour with and without batching and early exit, for several numbers of weights and inputs. The
networks are trained to zero errors on patterns that the seed generates.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from message_passing.example_machines import image_like_patterns
from message_passing.ladder import LadderSettings
from message_passing.tools.files import save_figure, write_table
from message_passing.tools.hardware import describe_hardware

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

INPUTS = 784
MOST_EPOCHS = 1000


@dataclass(frozen=True)
class LocalEntropyBenchmark:
    """Time local entropy curves and the evaluation of neighbours."""

    weights: int = 100_000
    """Approximate number of weights, in three layers."""
    images: int = 1000
    """Number of inputs."""
    variances: tuple[float, ...] = (0.1, 0.2, 0.4, 0.8)
    """Relative variances Δ of the curve."""
    draws: int = 2000
    """Number of direct samples."""
    chains: int = 16
    """Number of independent chains, evaluated together."""
    repeats: int = 5
    """Timed repetitions of the evaluation of all chains, after one for warming up."""
    seed: int = 0
    """Seed of the patterns, the network and the chains."""
    out: Path = Path("results/local_entropy_benchmark")
    """Folder for the tables and the figure."""


def trained_network(weights: int, images: int, seed: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A ReLU network with two hidden layers and no training errors, its inputs and classes.

    Raises ``ValueError`` if training does not reach zero errors.
    """
    import torch
    from torch import nn
    from torch.nn.functional import cross_entropy

    patterns, labels = image_like_patterns(images, INPUTS, seed)
    inputs = torch.tensor(patterns, dtype=torch.float32)
    targets = torch.tensor(labels > 0).long()
    hidden = round((((INPUTS + 4) ** 2 + 4 * weights) ** 0.5 - INPUTS - 4) / 2)
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(INPUTS, hidden), nn.ReLU(),
        nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for _ in range(MOST_EPOCHS):
        if not bool((model(inputs).argmax(1) != targets).any()):
            return model.eval(), inputs, targets
        for chosen in torch.randperm(images).split(100):
            optimizer.zero_grad()
            cross_entropy(model(inputs[chosen]), targets[chosen]).backward()
            optimizer.step()
    raise ValueError(f"weights is {weights}; more were expected, to learn {images} images.")


def time_curve(config: LocalEntropyBenchmark) -> pd.DataFrame:
    """One row per point. ``seconds`` is cumulative; ``iterations`` divide the total time."""
    from deep.local_entropy import local_entropy_curve

    network = trained_network(config.weights, config.images, config.seed)
    settings = LadderSettings(draws=config.draws, chains=config.chains, steps=60, burn_in=30)
    start = time.perf_counter()
    curve = local_entropy_curve(
        *network, variances=config.variances, sampler=settings, seed=config.seed,
        chains_at_once=config.chains,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    table = curve.to_frame()
    table["log_z"] = curve.parameters * curve.free_entropy
    table["log_z_standard_error"] = curve.parameters * curve.standard_error
    table["seconds"] = seconds * table["iterations"].cumsum() / table["iterations"].sum()
    columns = ["distance", "log_z", "log_z_standard_error", "converged", "iterations", "seconds"]
    return table[columns]


def time_evaluations(config: LocalEntropyBenchmark, weights: int, images: int) -> pd.DataFrame:
    """Milliseconds per neighbour, with and without batching and early exit."""
    import pandas as pd

    from deep.local_entropy import perturbation_scales
    from deep.perturbed_networks import PerturbedNetworks

    model, inputs, targets = trained_network(weights, images, config.seed)
    scales = perturbation_scales(model, "layer")
    rows = []
    for at_once in (1, config.chains):
        for early_exit in (False, True):
            networks = PerturbedNetworks(
                model, scales, inputs, targets, lambda outputs, t: outputs.argmax(-1) != t,
                at_once, early_exit=early_exit,
            )  # fmt: skip
            rng = np.random.default_rng(config.seed)
            shape = (config.chains, networks.size)
            # As in the slices, half of the proposals are near and half are rejected at once.
            offsets = rng.standard_normal(shape, dtype=np.float32)
            offsets *= np.resize(np.sqrt([0.01, 0.5]), (config.chains, 1)).astype(np.float32)
            milliseconds = []
            for _ in range(config.repeats + 1):
                start = time.perf_counter()
                for first in range(0, config.chains, at_once):
                    networks.errors(offsets[first : first + at_once], 0)
                milliseconds.append(1e3 * (time.perf_counter() - start) / config.chains)
            rows.append(
                {
                    "weights": networks.size,
                    "images": images,
                    "at_once": at_once,
                    "early_exit": early_exit,
                    "milliseconds": np.mean(milliseconds[1:]),
                    "milliseconds_standard_error": np.std(milliseconds[1:], ddof=1)
                    / np.sqrt(config.repeats),
                }
            )
    return pd.DataFrame(rows)


def show(config: LocalEntropyBenchmark) -> None:
    """Time everything; write and print the tables, draw the figure."""
    import pandas as pd
    import torch
    from matplotlib.figure import Figure

    print(describe_hardware(), f"threads: {torch.get_num_threads()}", sep="\n")
    sizes = [(config.weights // part, config.images) for part in (4, 2, 1)]
    sizes += [(config.weights, config.images // part) for part in (4, 2)]
    evaluations = pd.concat([time_evaluations(config, *size) for size in sizes])
    print(evaluations.to_markdown(index=False, floatfmt=".3g"))
    curve = time_curve(config)
    print(curve.to_markdown(index=False, floatfmt=".4g"))
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    axes = figure.subplots(1, 3)
    for ax, x, fixed in ((axes[0], "weights", "images"), (axes[1], "images", "weights")):
        chosen = evaluations[evaluations[fixed] == evaluations[fixed].max()]
        for (at_once, early), group in chosen.groupby(["at_once", "early_exit"]):
            group = group.sort_values(x)
            ax.errorbar(
                group[x], group["milliseconds"], group["milliseconds_standard_error"], marker=".",
                label=f"{at_once} at once{', early exit' if early else ''}",
            )  # fmt: skip
        ax.set(xscale="log", yscale="log", xlabel=x, ylabel="ms for each neighbour")
        ax.legend(fontsize="small")
    axes[2].plot(-curve["log_z"], curve["seconds"], marker=".")
    axes[2].set(xlabel="−log Z", ylabel="seconds")
    written = [
        write_table(config.out / "evaluations.csv", evaluations),
        write_table(config.out / "curve.csv", curve),
        *save_figure(figure, config.out / "benchmark"),
    ]
    print("Written:", ", ".join(map(str, written)))
