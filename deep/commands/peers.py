"""``python -m deep peers``: algorithms beside each other at equal gradient evaluations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from deep.config import Algorithm
from deep.optimizers.baselines import check_libraries
from deep.peer_comparison import Flatness, equal_budget, measure, summary
from deep.peer_figure import plot_peers
from deep.run_folders import run_folder
from deep.training import TrainingResult, train
from message_passing.tools.files import save_figure, write_csv, write_json


@dataclass(frozen=True)
class PeersCommand:
    """Train by SGD, Lookahead, SAM, ASAM, SWA, schedule-free SGD, eSGD and rSGD, and compare.

    Same network, data, minibatch size and number of gradients (SAM takes two a step, rSGD one
    for each replica); settings are those of deep.recipes. Runs are shared with the command train
    and continue where they were. Writes peers.csv (a row for each algorithm), runs.csv (for each
    run), peers.json (options, hardware and versions) and a figure. The seconds are those of the
    whole runs, evaluations on the test set included; the memory is that of weights, gradients
    and optimizer state after the last step.
    """

    dataset: str = "cifar10"
    """cifar10, cifar100, tinyimagenet, or the path of an image-folder archive."""
    model: str = "smallconvnet"
    """A model of Table 1."""
    algorithms: tuple[Algorithm, ...] = (
        "sgd", "lookahead", "sam", "asam", "swa", "schedulefree", "esgd", "rsgd",
    )  # fmt: skip
    """What is compared; all but sgd, swa, esgd, rsgd need the package pytorch_optimizer."""
    seeds: tuple[int, ...] = (0,)
    """Seeds, one run each."""
    passes: float | None = None
    """Passes over the training data that the gradients are worth; none: those of SGD's recipe."""
    flatness: Annotated[Flatness, tyro.conf.arg(name="")] = field(default_factory=Flatness)
    runs: Path = Path("runs")
    """Folder for the runs: <runs>/<dataset>-<model>-<algorithm>/seed-<n>."""
    output: Path = Path("peers")
    """Folder for the tables and the figure."""
    device: str = "auto"
    """auto, cpu, cuda."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Number format of the network's passes; auto: bf16 on a GPU, float32 elsewhere."""
    data_folder: Path | None = None
    """Where the official archives are; else $WIDE_FLAT_MINIMA_DATA, the cache, a download."""


def main(command: str, arguments: Sequence[str]) -> None:
    """Train what is missing, measure, write and print the table."""
    chosen = tyro.cli(PeersCommand, prog=f"python -m deep {command}", args=arguments)
    if not chosen.seeds or len(set(chosen.seeds)) < len(chosen.seeds):
        raise ValueError(f"seeds is {chosen.seeds}; different numbers were expected.")
    check_libraries(chosen.algorithms)
    configs = equal_budget(chosen.dataset, chosen.model, chosen.algorithms, chosen.passes)
    results: list[TrainingResult] = []
    # Seed by seed, so that an interrupted comparison is one of all algorithms.
    for seed in chosen.seeds:
        for config in configs:
            seeded = replace(config, seed=seed)
            result = train(
                seeded, run_folder(chosen.runs, seeded), chosen.device,
                data_folder=chosen.data_folder, precision=chosen.precision,
            )  # fmt: skip
            assert result is not None
            results.append(result)
    rows = measure(results, chosen.flatness, chosen.device, data_folder=chosen.data_folder)
    table = summary(rows)
    write_csv(chosen.output / "runs.csv", rows)
    write_csv(chosen.output / "peers.csv", table)
    settings = json.loads(json.dumps(asdict(chosen), default=str))  # paths as strings
    made_on = {
        str(result.folder): {
            key: result.result[key]
            for key in ("data", "device", "precision", "machine", "revision")
        }
        for result in results
    }
    write_json(chosen.output / "peers.json", {"command": settings, "runs": made_on})
    axes = plot_peers(table, chosen.flatness.sigmas[-1])
    save_figure(axes.figure, chosen.output / "peers")
    print(f"{results[0].result['data']}, {chosen.model}")
    _print_table(table)


def _print_table(table: Sequence[dict[str, Any]]) -> None:
    """Percent with standard errors; seconds are those of the whole run, evaluations included."""
    errors = [name for name in table[0] if f"{name}_se" in table[0]]
    titles = [_title(name) for name in errors]
    print("  ".join([f"{'':>12}", f"{'n':>3}", f"{'passes':>7}", *(f"{t:>14}" for t in titles),
                     f"{'ms/gradient':>11}", f"{'hours':>7}", f"{'MiB':>7}"]))  # fmt: skip
    for row in table:
        values = []
        for name in errors:
            spread = row[f"{name}_se"]
            values.append(f"{row[name]:.2f}" + ("" if spread is None else f" ± {spread:.2f}"))
        print("  ".join([f"{row['algorithm']:>12}", f"{row['n']:>3}", f"{row['passes']:>7.4g}",
                         *(f"{value:>14}" for value in values),
                         f"{1e3 * row['seconds_per_gradient']:>11.2f}", f"{row['hours']:>7.3f}",
                         f"{row['memory_MiB']:>7.1f}"]))  # fmt: skip


def _title(name: str) -> str:
    """train_error_percent: train %; test_local_energy_percent_0.2: test δE(0.2) %."""
    split, _, sigma = name.partition("_local_energy_percent_")
    return f"{split} δE({sigma}) %" if sigma else f"{name.split('_')[0]} error %"
