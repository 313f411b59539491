"""``python -m deep train | flatness | benchmark``; each explains itself with ``--help``."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from committee.flatness import LocalEnergyProfile
from deep.benchmark import BenchmarkOptions, benchmark, hardware
from deep.config import TrainingConfig
from deep.figures import plot_local_energy, plot_training
from deep.memory import keep_freed_memory
from deep.place import CompileMode
from deep.recipes import PUBLISHED, recipe
from deep.replicas import ReplicaLostError
from deep.stored_runs import FlatnessOptions, flatness_rows, measure_flatness
from deep.training import DivergedError, TrainingResult, train
from message_passing.storage import save_figure, write_csv, write_json


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


@dataclass(frozen=True)
class FlatnessCommand:
    """Local energy of the networks of finished or running runs: along training and at the end.

    Writes flatness.csv and the figures flatness.pdf/.png (final networks of all runs) and, for
    each run, flatness-along-training.
    """

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of runs."""
    options: Annotated[FlatnessOptions, tyro.conf.arg(name="")] = field(
        default_factory=FlatnessOptions
    )
    output: Path = Path("flatness")
    """Folder for the table and the figures."""
    device: str = "auto"
    """auto, cpu, cuda."""
    data_folder: Path | None = None
    """Where the official archives are."""


@dataclass(frozen=True)
class BenchmarkCommand:
    """Time sgd, esgd and rsgd on the same network; prints hardware, versions and a table."""

    options: Annotated[BenchmarkOptions, tyro.conf.arg(name="")] = field(
        default_factory=BenchmarkOptions
    )
    output: Path | None = None
    """JSON file for the numbers."""


def train_command(arguments: Sequence[str]) -> None:
    """Train one network for each seed and sum up."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--dataset", default="cifar10")
    first.add_argument("--model", default="smallconvnet")
    first.add_argument("--algorithm", default="sgd")
    first.add_argument("--passes", type=float)
    names, _ = first.parse_known_args(arguments)
    published = recipe(names.dataset, names.model, names.algorithm)
    if names.passes is not None and names.passes > 0:
        published = published.stretched(names.passes)
    command = tyro.cli(
        TrainCommand, prog="python -m deep train", args=arguments,
        default=TrainCommand(config=published),
    )  # fmt: skip
    options = {k: int(v) if v.isdigit() else v for k, v in command.model_options.items()}
    config = replace(command.config, model_options=options)
    network = "-".join([config.model, *(f"{k}-{v}" for k, v in options.items())])
    folder = command.runs / f"{dataset_name(config)}-{network}-{config.algorithm}"
    results = []
    for seed in command.seeds:
        result = train(
            replace(config, seed=seed), folder / f"seed-{seed}", command.device,
            data_folder=command.data_folder, precision=command.precision,
            compile_mode=command.compile,
            checkpoint_every=command.checkpoint_every, tensorboard=command.tensorboard,
        )  # fmt: skip
        assert result is not None
        results.append(result)
    if results[0].writer:
        _sum_up(folder, results)


def dataset_name(config: TrainingConfig) -> str:
    """Name of the data set, without the folder and the suffixes of an archive."""
    return Path(config.dataset).name.split(".")[0]


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
    spread = ""
    if len(errors) > 1:
        spread = f" ± {statistics.stdev(errors) / len(errors) ** 0.5:.2f} (standard error)"
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


def flatness_command(arguments: Sequence[str]) -> None:
    """Measure what is missing; write the table and the figures."""
    command = tyro.cli(FlatnessCommand, prog="python -m deep flatness", args=arguments)
    if not command.folders:
        raise ValueError("no folder of a run was given; at least one was expected.")
    rows: list[dict[str, Any]] = []
    final: dict[str, LocalEnergyProfile] = {}
    for folder in command.folders:
        results = measure_flatness(
            folder, command.options, command.device, data_folder=command.data_folder
        )
        name = f"{folder.parent.name}/{folder.name}".strip("/")
        rows += flatness_rows(results, name)
        along: dict[str, LocalEnergyProfile] = {}
        for network, profile in results:
            errors = (
                f"({100 * float(profile.reference_error):.1f}, {100 * network.test_error:.1f}) %"
            )
            along[f"{network.passes:g} passes {errors}"] = profile
            if network.path.name == "final.pt":
                final[f"{name} {errors}"] = profile
        figure = plot_local_energy(along).figure
        save_figure(figure, command.output / f"along-training-{name.replace('/', '-')}")
    write_csv(command.output / "flatness.csv", rows)
    if final:
        save_figure(plot_local_energy(final).figure, command.output / "flatness")
    print(f"written: {command.output / 'flatness.csv'} and figures beside it")


def benchmark_command(arguments: Sequence[str]) -> None:
    """Print the benchmark, and keep it."""
    command = tyro.cli(BenchmarkCommand, prog="python -m deep benchmark", args=arguments)
    machine = hardware(command.options)
    for key, value in machine.items():
        print(f"{key:>18}: {value}")
    rows = benchmark(command.options)
    print(f"{command.options}\n")
    print(f"{'optimizer':>12} {'minibatches/s':>14} {'ms':>16} {'overhead %':>15} {'MiB':>8}")
    for row in rows:
        print(
            f"{row['optimizer']:>12} {row['minibatches_per_second']:14.2f} "
            f"{row['milliseconds']:9.2f} ± {row['sd_milliseconds']:4.2f} "
            f"{row['overhead_percent']:8.1f} ± {row['sd_overhead_percent']:4.1f} "
            f"{row['memory_MiB']:8.1f}"
        )
    if command.output is not None:
        write_json(command.output, {"machine": machine, "rows": rows})


COMMANDS = {"train": train_command, "flatness": flatness_command, "benchmark": benchmark_command}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: python -m deep {{{','.join(COMMANDS)}}} …\n\n{__doc__}")
        return 0 if arguments else 2
    if arguments[0] not in COMMANDS:
        print(f"unknown command {arguments[0]!r}; one of {list(COMMANDS)} was expected.",
              file=sys.stderr)  # fmt: skip
        return 2
    keep_freed_memory()
    try:
        COMMANDS[arguments[0]](arguments[1:])
    except (ValueError, DivergedError, ReplicaLostError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
