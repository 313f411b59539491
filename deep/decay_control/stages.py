"""``python -m deep decay-control``: train and measure the missing runs, stage by stage."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deep.decay_control.design import STAGES, Best, DecayControlCommand, Unit, units
from deep.linear_response import equivalent_sgd
from deep.measurements import (
    Images,
    LocalEntropyOptions,
    measure_flatness,
    measure_hessian,
    measure_local_entropy,
)
from deep.run import Run
from message_passing.tools.files import read_table, write_table
from message_passing.tools.parallel import run_tasks
from message_passing.tools.run_folder import RunFolder, as_json, measured_once

if TYPE_CHECKING:
    import pandas as pd

    from deep.images.datasets import ImageData

TITLE = "Entropy or weight decay?"


def decay_control(command: DecayControlCommand) -> None:
    """Compute the stages one after the other; write and print their tables."""
    from deep.decay_control import tables
    from deep.device import Device
    from deep.images.datasets import load_images

    hardware = command.hardware
    folder = RunFolder(command.out, extensible=("stages",), units=STAGES)
    precision = "bf16" if Device(hardware.device, hardware.precision).bf16 else "float32"
    own = as_json({stage: command.settings(stage) for stage in command.stages})
    settings = {"precision": precision, "stages": own}
    folder.check(settings)
    if "final" in command.stages and "tune" not in command.stages:
        best_points(command)  # fails early if the tuning is incomplete
    # Decode an archive here, once, instead of in each process.
    load_images(command.dataset, hardware.data_dir).held_out(command.validation_images)
    folder.store_config(TITLE, settings, dataset=command.dataset)
    for stage in command.stages:
        best = best_points(command) if stage == "final" else None
        chosen = units(command, stage, best)
        left = [unit for unit in chosen if state_of(unit, command) == "left"]
        print(f"{stage}: {len(left)} of {len(chosen)} runs are left.", flush=True)
        problems = run_tasks(
            compute, [] if command.report else left, common=(command,), workers=command.workers,
            progress=bool(left) and not command.report, description=stage,
        )  # fmt: skip
        for _, problem in problems:
            if problem:
                print(problem, flush=True)
        if stage == "tune":
            write_table(command.out / "tune.csv", tuning_table(command, chosen))
        print(tables.write(command, stage, chosen))


def state_of(unit: Unit, command: DecayControlCommand) -> Literal["left", "done", "diverged"]:
    """Whether a unit is trained and measured ("done"), diverged, or has work left."""
    folder = unit.folder(command.out)
    if not (folder / "config.json").exists():
        return "left"
    run = Run(folder)
    if run.state == "diverged":
        return "diverged"
    kinds = [] if unit.stage == "tune" else ["test"]
    if unit.stage == "gap" and command.gap.local_entropy:
        kinds.append("local_entropy")
    done = run.state == "complete" and all(run.measured(kind=kind) for kind in kinds)
    return "done" if done else "left"


def compute(command: DecayControlCommand, unit: Unit) -> str:
    """Unit of work: train a run and measure its networks. Returns the problem, or ""."""
    import torch

    from deep.device import Device, keep_freed_memory
    from deep.training import DivergedError, train
    from message_passing.tools.run_folder import RunInUseError

    torch.set_num_threads(1)
    keep_freed_memory()
    hardware = command.hardware
    data = _images(command.dataset, hardware.data_dir)
    try:
        run = train(
            unit.config, unit.folder(command.out), **vars(hardware), data=data, progress=False
        )
    except (DivergedError, RunInUseError) as error:
        return str(error)
    assert run is not None
    if unit.stage == "tune":
        return ""
    images = Images(Device(hardware.device), data)
    for name in run.networks:
        measure_flatness(run, name, command.flatness, images)
    if unit.stage == "gap":
        measure_hessian(run, "final", command.hessian, images)
        if command.gap.local_entropy:
            measure_local_entropy(run, "final", LocalEntropyOptions(), images)
    measure_test(run, data, images)
    return ""


@cache
def _images(dataset: str, data_dir: Path | None) -> ImageData:
    from deep.images.datasets import load_images

    return load_images(dataset, data_dir)


def measure_test(run: Run, data: ImageData, images: Images) -> dict[str, Any]:
    """Error and loss of the final network on the test set, stored in ``test/final.json``."""
    from deep.images.minibatches import ImageBatches, evaluate

    def measure() -> dict[str, Any]:
        model = run.network().model.to(images.device.torch)
        # Pixels are normalised by the statistics of the training images, without held-out ones.
        prepare = images(run).preprocessing()
        batches = ImageBatches(data.to(images.device.torch), prepare, "test")
        loss, error = evaluate(model, batches)
        return {"test_error": error, "test_loss": loss}

    return measured_once(run.folder / "test" / "final.json", {}, run.path("final"), measure)


def tuning_table(command: DecayControlCommand, chosen: list[Unit]) -> pd.DataFrame:
    """One row per grid point: its settings, the equivalent SGD, state, validation error."""
    import pandas as pd

    rows = []
    for unit in chosen:
        config, state = unit.config, state_of(unit, command)
        result = Run(unit.folder(command.out)).result if state == "done" else None
        error = float("nan") if result is None else result["test_error"]
        same = equivalent_sgd(config)
        rows.append(
            {
                "family": config.algorithm.name, "lr": config.lr,
                "weight_decay": config.weight_decay, "passes": config.passes,
                "equivalent_lr": same.lr, "effective_decay": same.weight_decay, "state": state,
                "validation_error": error,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def best_points(command: DecayControlCommand) -> Best:
    """Learning rate and decay of each family with the smallest validation error in tune.csv.

    Raises ``ValueError`` if the tuning is not complete, or if all runs of a family diverged.
    """
    path = command.out / "tune.csv"
    if not path.exists():
        raise ValueError(f"{path} does not exist; --stages tune makes it.")
    table = read_table(path, "Delete it; --stages tune makes it again.")
    if left := int((table["state"] == "left").sum()):
        raise ValueError(f"{left} runs of {path} are left; --stages tune trains them.")
    known = table.dropna(subset="validation_error")
    found = known.loc[known.groupby("family")["validation_error"].idxmin()]
    points = zip(*(found[name].tolist() for name in ("family", "lr", "weight_decay")), strict=True)
    best = {family: (lr, decay) for family, lr, decay in points}
    if lacking := sorted({*table["family"]} - best.keys()):
        raise ValueError(f"every run of {lacking[0]} in {path} diverged; choose other --tune.lrs.")
    return best
