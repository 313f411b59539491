"""Finished runs of several algorithms beside each other: test error, flatness, cost."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from deep.config import Algorithm, TrainingConfig
from deep.flatness import NetworkLocalEnergyProfile, checked_sigmas
from deep.images.datasets import ImageData
from deep.place import Place
from deep.recipes import recipe
from deep.standard_error import standard_error
from deep.stored_runs import FlatnessOptions, Images, load_network, stored_local_energy
from deep.training import TrainingResult

Row = dict[str, Any]
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Flatness:
    """How δE of the final networks is measured: without augmentation, on both splits."""

    sigmas: tuple[float, ...] = (0.2, 0.4)
    """Noise intensities, relative to each weight."""
    samples: int = 10
    """Noise vectors."""
    images: int | None = None
    """Use only so many images of each split; none: all of them."""

    def __post_init__(self) -> None:
        checked_sigmas(self.sigmas, self.samples)
        if self.images is not None and not self.images >= 1:
            raise ValueError(f"images is {self.images}; a positive number was expected.")


def equal_budget(
    dataset: str, model: str, algorithms: Sequence[Algorithm], passes: float | None = None
) -> list[TrainingConfig]:
    """Runs of the algorithms with as many gradient evaluations: ``passes``, else those of SGD.

    All have the recipe's minibatches; learning rate drops and focusing stretch along. Raises
    ``ValueError`` for unknown names, and for rsgd-xy, which evaluates y times as many gradients.
    """
    if "rsgd-xy" in algorithms:
        raise ValueError(
            "algorithms has 'rsgd-xy', whose replicas make all passes each; 'rsgd', which shares "
            "them, was expected."
        )
    if not algorithms or len(set(algorithms)) < len(algorithms):
        raise ValueError(f"algorithms is {algorithms}; different names were expected.")
    if passes is not None and not passes > 0:
        raise ValueError(f"passes is {passes}; a positive number was expected.")
    budget = passes or recipe(dataset, model, "sgd").passes
    return [recipe(dataset, model, algorithm).stretched(budget) for algorithm in algorithms]


def measure(
    results: Sequence[TrainingResult],
    flatness: Flatness,
    device: str = "auto",
    data: ImageData | None = None,
    data_folder: Path | None = None,
) -> list[Row]:
    """One row for each run; δE is kept in the run's folder and measured once."""
    images = Images(Place(device), data, data_folder)
    options = replace(FlatnessOptions(), **asdict(flatness), augment=False)
    rows = []
    for result in results:
        network = load_network(result.folder / "final.pt")
        profiles = {
            split: stored_local_energy(
                network, result.folder / "flatness" / f"final-{split}.json", options, images, split
            )
            for split in SPLITS
        }
        rows.append(_row(result, profiles))
    return rows


def _row(result: TrainingResult, profiles: dict[str, NetworkLocalEnergyProfile]) -> Row:
    config, measured = result.config, result.result
    gradients = measured["steps"] * config.gradients_per_step
    return {
        "algorithm": config.algorithm,
        "seed": config.seed,
        "passes": measured["passes"],
        **{f"{split}_error_percent": 100 * measured[f"{split}_error"] for split in SPLITS},
        **{
            f"{split}_local_energy_percent_{sigma:g}": 100 * float(value)
            for split, profile in profiles.items()
            for sigma, value in zip(profile.sigma, profile.local_energy, strict=True)
        },
        # Of the replicas of rsgd: the error of their centre means little before they meet.
        "distance": result.log[-1]["distance"],
        "seconds_per_gradient": measured["seconds"] / gradients,
        "hours": measured["seconds"] / 3600,
        "memory_MiB": measured["memory_MiB"],
        "device": measured["device"],
    }


def summary(rows: Sequence[Row]) -> list[Row]:
    """One row for each algorithm: means and standard errors over the seeds, total of the hours.

    The standard error of a single run is None.
    """
    algorithms = dict.fromkeys(row["algorithm"] for row in rows)
    table = []
    for algorithm in algorithms:
        runs = [row for row in rows if row["algorithm"] == algorithm]
        line: Row = {
            "algorithm": algorithm,
            "n": len(runs),
            "passes": statistics.mean(run["passes"] for run in runs),
        }
        for name in runs[0]:
            if name.endswith("_error_percent") or "_local_energy_percent_" in name:
                values = [run[name] for run in runs]
                line[name] = statistics.mean(values)
                line[f"{name}_se"] = standard_error(values)
        line["seconds_per_gradient"] = statistics.mean(r["seconds_per_gradient"] for r in runs)
        line["hours"] = sum(run["hours"] for run in runs)
        line["memory_MiB"] = runs[-1]["memory_MiB"]
        table.append(line)
    return table
