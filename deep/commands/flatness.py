"""``python -m deep flatness``: local energy of the networks that runs have stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from committee.flatness import LocalEnergyProfile
from deep.figures import plot_local_energy
from deep.stored_hessians import HessianOptions, hessian_columns, measure_hessian
from deep.stored_runs import (
    FlatnessOptions,
    StoredNetwork,
    flatness_rows,
    measure_flatness,
)
from message_passing.tools.files import save_figure, write_csv


@dataclass(frozen=True)
class FlatnessCommand:
    """Local energy of the networks of finished or running runs: along training and at the end.

    Writes flatness.csv (also norms of the weights) and the figures flatness.pdf/.png (final
    networks of all runs) and, for each run, flatness-along-training. With --hessian the table has
    the curvature of the loss at the final networks beside it.
    """

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of runs."""
    options: Annotated[FlatnessOptions, tyro.conf.arg(name="")] = field(
        default_factory=FlatnessOptions
    )
    hessian: bool = False
    """Measure the Hessian of the final networks too: largest eigenvalues and trace."""
    hessian_options: HessianOptions = field(default_factory=HessianOptions)
    output: Path = Path("flatness")
    """Folder for the table and the figures."""
    device: str = "auto"
    """auto, cpu, cuda."""
    data_folder: Path | None = None
    """Where the official archives are."""


def main(command: str, arguments: Sequence[str]) -> None:
    """Measure what is missing; write the table and the figures."""
    chosen = tyro.cli(FlatnessCommand, prog=f"python -m deep {command}", args=arguments)
    if not chosen.folders:
        raise ValueError("no folder of a run was given; at least one was expected.")
    rows: list[dict[str, Any]] = []
    final: dict[str, LocalEnergyProfile] = {}
    for folder in chosen.folders:
        results = measure_flatness(
            folder, chosen.options, chosen.device, data_folder=chosen.data_folder
        )
        name = f"{folder.parent.name}/{folder.name}".strip("/")
        run_rows = flatness_rows(results, name)
        if chosen.hessian:
            run_rows = _with_hessian(chosen, results[-1][0], run_rows)
        rows += run_rows
        along: dict[str, LocalEnergyProfile] = {}
        for network, profile in results:
            errors = (
                f"({100 * float(profile.reference_error):.1f}, {100 * network.test_error:.1f}) %"
            )
            along[f"{network.passes:g} passes {errors}"] = profile
            if network.path.name == "final.pt":
                final[f"{name} {errors}"] = profile
        figure = plot_local_energy(along).figure
        save_figure(figure, chosen.output / f"along-training-{name.replace('/', '-')}")
    write_csv(chosen.output / "flatness.csv", rows)
    if final:
        save_figure(plot_local_energy(final).figure, chosen.output / "flatness")
    print(f"written: {chosen.output / 'flatness.csv'} and figures beside it")


def _with_hessian(
    chosen: FlatnessCommand, network: StoredNetwork, rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The rows of a run, those of its final network with the Hessian's numbers."""
    measured = None
    if network.path.name == "final.pt":
        measured = measure_hessian(
            network, chosen.hessian_options, chosen.device, data_folder=chosen.data_folder
        )
    columns, empty = (hessian_columns(chosen.hessian_options, m) for m in (measured, None))
    return [row | (columns if row["passes"] == network.passes else empty) for row in rows]
