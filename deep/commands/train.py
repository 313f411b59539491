"""``python -m deep train``: one network for each seed, with the published settings as defaults."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from deep.config import TrainingConfig
from deep.figures import plot_training
from deep.optimizers.replicas import report_termination
from deep.place import CompileMode
from deep.recipes import PUBLISHED, recipe
from deep.run_folders import cell_folder, dataset_name, run_folder
from deep.standard_error import standard_error
from deep.training import TrainingResult, train
from message_passing.tools.files import save_figure, write_csv


@dataclass(frozen=True)
class TrainCommand:
    """Train a network; defaults are the published settings of the model and the algorithm.

    Several --seeds are trained one after the other; the same command again continues. With
    torchrun the replicas of rsgd are spread over processes. With other --passes than the published
    ones, the drops of the learning rate move along.
    """

    config: Annotated[TrainingConfig, tyro.conf.arg(name="")]
    model_options: dict[str, str] = field(default_factory=dict)
    """Options of the model by name and value, e.g. stem cifar."""
    seeds: tuple[int, ...] = (0,)
    """Seeds, one run each."""
    runs: Path = Path("runs")
    """Folder for the runs: <runs>/<dataset>-<model>-<algorithm>/seed-<n>."""
    device: str = "auto"
    """auto, cpu, cuda."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Number format of the network's passes; auto: bf16 on a GPU, float32 elsewhere."""
    data_folder: Path | None = None
    """Where the official archives are; else $WIDE_FLAT_MINIMA_DATA, the cache, a download."""
    compile: CompileMode = "off"
    """Mode of torch.compile: off, default, or reduce-overhead (with CUDA graphs on a GPU)."""
    checkpoint_every: int = 1
    """Rows of the log from one checkpoint to the next."""
    tensorboard: bool = False
    """Write the log for TensorBoard too (the package must be installed)."""


def main(command: str, arguments: Sequence[str]) -> None:
    """Train one network for each seed and sum up."""
    if torch.distributed.is_torchelastic_launched():
        report_termination()
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--dataset", default="cifar10")
    first.add_argument("--model", default="smallconvnet")
    first.add_argument("--algorithm", default="sgd")
    first.add_argument("--passes", type=float)
    names, _ = first.parse_known_args(arguments)
    published = recipe(names.dataset, names.model, names.algorithm)
    if names.passes is not None and names.passes > 0:
        published = published.stretched(names.passes)
    chosen = tyro.cli(
        TrainCommand, prog=f"python -m deep {command}", args=arguments,
        default=TrainCommand(config=published),
    )  # fmt: skip
    options = {k: int(v) if v.isdigit() else v for k, v in chosen.model_options.items()}
    config = replace(chosen.config, model_options=options)
    results = []
    for seed in chosen.seeds:
        seeded = replace(config, seed=seed)
        result = train(
            seeded, run_folder(chosen.runs, seeded), chosen.device,
            data_folder=chosen.data_folder, precision=chosen.precision,
            compile_mode=chosen.compile, checkpoint_every=chosen.checkpoint_every,
            tensorboard=chosen.tensorboard,
        )  # fmt: skip
        assert result is not None
        results.append(result)
    if results[0].writer:
        _sum_up(cell_folder(chosen.runs, config), results)


def _sum_up(folder: Path, results: list[TrainingResult]) -> None:
    """Table of the seeds, their mean and standard error, and the published number."""
    config = results[0].config
    rows: list[dict[str, Any]] = [
        {
            "seed": result.config.seed,
            **{f"{s}_error_percent": 100 * result.result[f"{s}_error"] for s in ("train", "test")},
            "seconds": result.result["seconds"],
        }
        for result in results
    ]
    write_csv(folder / "summary.csv", rows)
    save_figure(
        plot_training({f"seed {r.config.seed}": r.log for r in results}).figure, folder / "training"
    )
    errors = [row["test_error_percent"] for row in rows]
    error = standard_error(errors)
    spread = "" if error is None else f" ± {error:.2f} (standard error)"
    print(
        f"{results[0].result['data']}, {config.model}, {config.algorithm}, "
        f"{config.passes:g} passes, n = {len(errors)}: "
        f"test error {statistics.mean(errors):.2f}{spread} %"
    )
    if line := published_line(config):
        print(line)


def published_line(config: TrainingConfig) -> str | None:
    """What Table 1 has for this data set, also of its image-folder archives (cifar10-jpeg)."""
    original = dataset_name(config).split("-")[0]
    published = PUBLISHED.get((original, config.model), {}).get(config.algorithm)
    if published is None:
        return None
    value, error = published
    spread = "" if error is None else f" ± {error}"
    return f"published for {original} (the original images): {value}{spread} %"
