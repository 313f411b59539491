"""``python -m deep benchmark``: sgd, esgd and rsgd on the same network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from deep.benchmark import BenchmarkOptions, benchmark, hardware
from message_passing.tools.files import write_json


@dataclass(frozen=True)
class BenchmarkCommand:
    """Time sgd, esgd and rsgd on the same network; prints hardware, versions and a table."""

    options: Annotated[BenchmarkOptions, tyro.conf.arg(name="")] = field(
        default_factory=BenchmarkOptions
    )
    output: Path | None = None
    """JSON file for the numbers."""


def main(command: str, arguments: Sequence[str]) -> None:
    """Print the benchmark, and keep it."""
    chosen = tyro.cli(BenchmarkCommand, prog=f"python -m deep {command}", args=arguments)
    machine = hardware(chosen.options)
    for key, value in machine.items():
        print(f"{key:>18}: {value}")
    rows = benchmark(chosen.options)
    print(f"{chosen.options}\n")
    print(f"{'optimizer':>12} {'minibatches/s':>14} {'ms':>16} {'overhead %':>15} {'MiB':>8}")
    for row in rows:
        print(
            f"{row['optimizer']:>12} {row['minibatches_per_second']:14.2f} "
            f"{row['milliseconds']:9.2f} ± {row['se_milliseconds']:4.2f} "
            f"{row['overhead_percent']:8.1f} ± {row['se_overhead_percent']:4.1f} "
            f"{row['memory_MiB']:8.1f}"
        )
    print("±: standard error over the repetitions")
    if chosen.output is not None:
        write_json(chosen.output, {"machine": machine, "rows": rows})
