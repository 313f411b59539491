"""``python -m deep figure7``: local energy against test error of PGDL's networks ([P21] Fig. 7)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from deep.measurements import Scope
from message_passing.tools.files import save_figure, write_table
from message_passing.tools.run_folder import measured_once
from message_passing.tools.tables import to_markdown
from message_passing.tools.validation import check, check_numbers

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from deep.pgdl.task import PgdlModel, PgdlTask

# 12 is the number of networks of this architecture in task 1: with n = 12, r = 0.90 has p = 7e-5.
PUBLISHED = "published for task 1, σ = 0.5: r(12) = 0.90, p = 1e-4"
# Larger deviations of the measured training error from the published one are reported.
LARGEST_DEVIATION = 0.01


@dataclass(frozen=True)
class Architecture:
    """Selects the networks of a task to compare. None accepts any value.

    Local energies compare within one architecture only. The default is the choice of [P21]
    App. B.3: three blocks of two convolutions, 512 filters, one dense layer of 128 units.
    """

    convolutions: int | None = 6
    """Number of convolutional layers."""
    filters: int | None = 512
    """Filters of the last convolutional layer."""
    dense: tuple[int, ...] | None = (128,)
    """Units of the dense layers before the output."""

    def has(self, model: PgdlModel) -> bool:
        """Whether a model is of this architecture."""
        wanted, found = asdict(self), asdict(architecture(model))
        return all(value in (None, found[name]) for name, value in wanted.items())


def architecture(model: PgdlModel) -> Architecture:
    """The architecture of a model. Its last dense layer, if any, is the output."""
    filters = [int(layer["filters"]) for layer in model.layers if "filters" in layer]
    dense = [int(layer["units"]) for layer in model.layers if "units" in layer]
    return Architecture(len(filters), filters[-1] if filters else None, tuple(dense[:-1]))


@dataclass(frozen=True)
class MeasurementOptions:
    """How the local energy of one network is measured."""

    sigma: float = 0.5
    """Noise intensity, relative to each weight."""
    samples: int = 64
    """Number of noise vectors."""
    scope: Scope = "all"
    """Perturb all parameters, or only weights (no biases, no BatchNorm parameters)."""
    images: int | None = None
    """Number of training images. Default: all."""
    batch_size: int = 500
    """Images per forward pass."""
    seed: int = 0
    """Seed of the noise and of the choice of images."""

    def __post_init__(self) -> None:
        check_numbers(self, positive=("sigma", "images", "batch_size"))
        check("samples", self.samples, self.samples >= 2, "at least 2")


@dataclass(frozen=True)
class Figure7Command:
    """Local energy against test error over trained networks of the PGDL competition ([P21] Fig. 7).

    Stored measurements are not repeated. Needs the extra pgdl (pip install
    "wide-flat-minima[pgdl]"). Writes figure7.csv, figure7-correlations.csv and the figure.
    """

    archive: Path
    """The zip file http://storage.googleapis.com/gresearch/pgdl/public_data.zip (8.8 GB)."""
    task: str = "1"
    """Number of the task, or the name of its folder."""
    architecture: Annotated[Architecture, tyro.conf.arg(name="")] = field(
        default_factory=Architecture
    )
    options: Annotated[MeasurementOptions, tyro.conf.arg(name="")] = field(
        default_factory=MeasurementOptions
    )
    out: Path = Path("figure7")
    """Folder for the measurements, the tables and the figure."""
    device: str = "auto"
    """Device of the measurements: auto, cpu or cuda."""


def draw_figure7(chosen: Figure7Command) -> None:
    """Make missing measurements, write tables and figure, print the correlations."""
    from deep.figures import pearson_in_words, plot_figure7
    from deep.pgdl.archive import Archive
    from deep.pgdl.task import PgdlTask

    task = PgdlTask(Archive(chosen.archive), chosen.task)
    table = measure_task(
        task, chosen.architecture, chosen.options, chosen.out / "measurements", chosen.device
    )
    if len(table) < 3:
        raise ValueError(f"{task.name} has {len(table)} such networks; at least 3 were expected.")
    report = report_correlations(table)
    write_table(chosen.out / "figure7.csv", table)
    write_table(chosen.out / "figure7-correlations.csv", report)
    save_figure(plot_figure7(table).figure, chosen.out / "figure7")
    print(f"{to_markdown(report)}\nlow, high: 95 % confidence limits")
    print(pearson_in_words(table))
    if task.name.startswith("task1_"):
        print(PUBLISHED)
    if chosen.options.images is None:
        deviation = (table["train_error"] - table["published_train_error"]).abs()
        for _, row in table[deviation > LARGEST_DEVIATION].iterrows():
            print(
                f"note: {row['model']} has the training error {row['train_error']:.4f}; "
                f"{row['published_train_error']:.4f} is published."
            )
    print(f"Written: {chosen.out / 'figure7.csv'}")


def report_correlations(table: pd.DataFrame) -> pd.DataFrame:
    """Correlations of the local energy with the test error and the generalisation gap.

    Hyper-parameters are the columns between "model" and "train_error" that vary.
    """
    from deep.correlations import correlation_report

    names = [*table][1 : [*table].index("train_error")]
    varied = [name for name in names if table[name].nunique(dropna=False) > 1]
    return correlation_report(table, ["local_energy"], ["test_error", "gap"], varied)


def measure_task(
    task: PgdlTask, wanted: Architecture, options: MeasurementOptions, folder: Path, device: str
) -> pd.DataFrame:
    """Measure each model of the architecture once (``folder/<model>.json``); one row per model.

    A stored measurement is valid if its options, layers, weights and training data are the same.

    Returns
    -------
    Columns: model, its hyper-parameters, train_error as measured on the images,
    published_train_error, test_error as published, gap (published test error minus published
    training error), local_energy δE(σ) and local_energy_standard_error, sigma, samples.

    Raises ``ValueError`` if the task has no such model, and for a damaged archive.
    """
    import pandas as pd
    import torch
    from tqdm import tqdm

    from deep.device import Device
    from deep.images.minibatches import ORDER, stream_seed
    from deep.pgdl.keras_networks import build_network, load_weights
    from deep.weight_noise import local_energy

    models = [model for model in task.models if wanted.has(model)]
    if not models:
        present = sorted({str(architecture(model)) for model in task.models})
        raise ValueError(
            f"{task.name} has no model of {wanted}; it has models of {', '.join(present)}."
        )
    for model in models:  # a bad model fails before the work begins
        build_network(model.layers, model.input_shape)
        task.archive.check(task.weights_name(model))
    data = [task.archive.checksum(shard) for shard in task.shards]
    torch_device = Device(device).torch

    @cache
    def batches() -> list[tuple[Tensor, Tensor]]:
        inputs, labels = task.training_data()
        generator = torch.Generator().manual_seed(stream_seed(options.seed, ORDER))
        order = torch.randperm(len(labels), generator=generator)[: options.images]
        parts = (t[order].to(torch_device).split(options.batch_size) for t in (inputs, labels))
        return list(zip(*parts, strict=True))

    def measure(model: PgdlModel) -> dict[str, Any]:
        network = build_network(model.layers, model.input_shape).to(torch_device)
        weights = task.weights_name(model)
        load_weights(network, task.archive.read(weights), weights)
        profile = local_energy(
            network, batches(), sigmas=[options.sigma], samples=options.samples,
            scope=options.scope, seed=options.seed,
        )  # fmt: skip
        return {
            "train_error": float(profile.reference_error),
            "local_energy": float(profile.local_energy[0]),
            "local_energy_standard_error": float(profile.standard_error[0]),
        }

    settings = asdict(options)
    del settings["batch_size"]  # does not change the result
    rows = []
    for model in tqdm(models, desc=f"local energy, {task.name}", unit="model"):
        content = [model.layers, task.archive.checksum(task.weights_name(model)), data]
        file = folder / f"{model.name}.json"
        stored = measured_once(file, settings, content, partial(measure, model))
        energy = {name: stored[name] for name in ("local_energy", "local_energy_standard_error")}
        rows.append({
            "model": model.name, **model.hyper_parameters, "train_error": stored["train_error"],
            "published_train_error": 1 - model.train_accuracy,
            "test_error": 1 - model.test_accuracy,
            "gap": model.train_accuracy - model.test_accuracy,
            **energy, "sigma": options.sigma, "samples": options.samples,
        })  # fmt: skip
    return pd.DataFrame(rows)
