"""``python -m deep baselines``: compare algorithms at the same number of gradient evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from deep.algorithms import BASELINES
from deep.config import Hardware, TrainingConfig
from deep.measurements import FlatnessOptions, Images, measure_flatness
from deep.recipes import recipe
from deep.run import Run
from message_passing.tools.files import save_figure, write_table
from message_passing.tools.tables import means
from message_passing.tools.validation import check, check_seeds

SPLITS = ("train", "test")


@dataclass(frozen=True)
class BaselinesCommand:
    """Train by SGD, Lookahead, SAM, ASAM, SWA, schedule-free SGD, eSGD and rSGD, and compare.

    All runs share network, data, minibatch size and number of gradients (SAM takes two per step,
    rSGD one per replica). The settings are in deep.recipes; nothing is tuned. The command train
    uses the same run folders, and interrupted runs resume. Writes baselines.csv (one row per
    algorithm), runs.csv (one row per run) and a figure. Flatness is measured on both splits without
    augmentation. Seconds count whole runs, evaluations included. Memory counts weights, gradients
    and optimizer state. Hardware and versions are in each run's config.json.
    """

    dataset: str = "cifar10"
    """cifar10, cifar100, tinyimagenet, or the path of an image-folder archive."""
    model: str = "smallconvnet"
    """A model of Table 1."""
    algorithms: tuple[str, ...] = ("sgd", *BASELINES, "esgd", "rsgd")
    """Algorithms to compare. lookahead, sam, asam and schedulefree need the package
    pytorch_optimizer (pip install "wide-flat-minima[baselines]")."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the runs, one run each."""
    passes: float | None = None
    """Number of gradients per run, in passes of SGD; None: the passes of SGD's recipe."""
    sigmas: tuple[float, ...] = (0.2, 0.4)
    """Noise intensities σ of δE, relative to each weight."""
    samples: int = 10
    """Number of noise vectors."""
    images: int | None = None
    """Number of images per split for δE; None: all of them."""
    runs: Path = Path("runs")
    """Folder for the runs: RUNS/DATASET-MODEL-ALGORITHM/seed-N."""
    out: Path = Path("baselines")
    """Folder for the tables and the figure."""
    hardware: Annotated[Hardware, tyro.conf.arg(name="")] = field(default_factory=Hardware)


def equal_budget(
    dataset: str, model: str, algorithms: Sequence[str], passes: float | None = None
) -> list[TrainingConfig]:
    """One run per algorithm, all with the same number of gradient evaluations.

    The number is ``passes`` passes, by default the passes of SGD's recipe. All use the recipe's
    minibatch size. Drops and focusing scale with the length. Raises ``ValueError`` for unknown
    names, for rsgd-xy (y times the gradients), and if a package of an algorithm is not installed.
    """
    from deep.methods import library

    shared = "rsgd-xy" not in algorithms
    check("algorithms", algorithms, shared, "rsgd, whose replicas share the passes")
    different = 0 < len(set(algorithms)) == len(algorithms)
    check("algorithms", algorithms, different, "a list of different names")
    for name in {"lookahead", "sam", "asam", "schedulefree"} & set(algorithms):
        library(name)
    budget = recipe(dataset, model, "sgd").passes if passes is None else passes
    return [recipe(dataset, model, algorithm).stretched(budget) for algorithm in algorithms]


def compare(chosen: BaselinesCommand) -> None:
    """Train the missing runs, measure them, write and print the table."""
    import pandas as pd

    from deep.device import Device
    from deep.figures import plot_baselines
    from deep.tables import in_markdown
    from deep.training import train_all

    check_seeds(chosen.seeds)
    options = FlatnessOptions(chosen.sigmas, chosen.samples, augment=False, images=chosen.images)
    configs = equal_budget(chosen.dataset, chosen.model, chosen.algorithms, chosen.passes)
    # Seed by seed, so that an interrupted comparison has runs of all algorithms.
    seeded = [replace(config, seed=seed) for seed in chosen.seeds for config in configs]
    done = train_all(seeded, chosen.runs, **vars(chosen.hardware))
    images = Images(Device(chosen.hardware.device), data_dir=chosen.hardware.data_dir)
    rows = pd.DataFrame([measured_row(run, options, images) for run in done])
    numbers = [str(n) for n in rows if n not in ("algorithm", "seed", "device")]
    table = means(rows, "algorithm", numbers)
    write_table(chosen.out / "runs.csv", rows)
    write_table(chosen.out / "baselines.csv", table)
    flatness = f"train_local_energy_{chosen.sigmas[-1]:g}"
    save_figure(plot_baselines(table, flatness).figure, chosen.out / "baselines")
    print(f"{configs[0].dataset_name}, {chosen.model}\n{in_markdown(table)}")
    print(f"Written: {chosen.out / 'baselines.csv'}, runs.csv and the figure beside it")


def measured_row(run: Run, options: FlatnessOptions, images: Images) -> dict[str, object]:
    """Errors, cost, and δE on both splits of a finished run. Stored δE is not measured again."""
    result = run.result or {}
    steps = result["steps"] * run.config.algorithm.gradients_per_step
    profiles = {s: measure_flatness(run, "final", options, images, s) for s in SPLITS}
    return {
        "algorithm": run.config.algorithm.name,
        "seed": run.config.seed,
        "passes": result["passes"],
        **{f"{split}_error": result[f"{split}_error"] for split in SPLITS},
        **{
            f"{split}_local_energy_{sigma:g}": value
            for split, profile in profiles.items()
            for sigma, value in zip(profile.sigma, profile.local_energy, strict=True)
        },
        # Distance of rsgd's replicas: the error of their centre means little before they meet.
        "distance": run.log["distance"].iloc[-1],
        "seconds_per_gradient": result["seconds"] / steps,
        "hours": result["seconds"] / 3600,
        "memory_MiB": result["memory_MiB"],
        "device": result["device"],
    }
