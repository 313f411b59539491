"""Local energy and published test error of PGDL's networks, each measured once and stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from deep.device import Device
from deep.flatness import Scope, local_energy
from deep.images.minibatches import ORDER, stream_seed
from deep.pgdl.keras_networks import build_network, load_weights
from deep.pgdl.task import PgdlModel, PgdlTask
from message_passing.tools.files import write_json


@dataclass(frozen=True)
class Architecture:
    """Which networks of a task are compared; none: any.

    Local energies compare within one architecture only ([P21] App. B.3), whose choice is the
    default: three blocks of two convolutions, 512 filters, one dense layer of 128 units.
    """

    convolutions: int | None = 6
    """Number of convolutional layers."""
    filters: int | None = 512
    """Filters of the last one."""
    dense: tuple[int, ...] | None = (128,)
    """Units of the dense layers before the output."""

    def has(self, model: PgdlModel) -> bool:
        """Whether a model is of this architecture."""
        wanted, found = asdict(self), asdict(architecture(model))
        return all(value in (None, found[name]) for name, value in wanted.items())


def architecture(model: PgdlModel) -> Architecture:
    """The architecture of a model: its last dense layer, if any, is the output."""
    filters = [int(layer["filters"]) for layer in model.layers if "filters" in layer]
    dense = [int(layer["units"]) for layer in model.layers if "units" in layer]
    return Architecture(len(filters), filters[-1] if filters else None, tuple(dense[:-1]))


@dataclass(frozen=True)
class MeasurementOptions:
    """How the local energy of one network is measured."""

    sigma: float = 0.5
    """Noise intensity, relative to each weight."""
    samples: int = 64
    """Noise vectors."""
    scope: Scope = "all"
    """Perturb all parameters, or weights without biases and BatchNorm's."""
    images: int | None = None
    """Use only so many training images; none: all of them."""
    batch_size: int = 500
    """Images per forward pass."""
    seed: int = 0
    """Of the noise and the choice of images."""

    def __post_init__(self) -> None:
        if not 0 < self.sigma < float("inf"):
            raise ValueError(f"sigma is {self.sigma}; a positive number was expected.")
        for name in ("images", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; at least 1 was expected.")


def measure_task(
    task: PgdlTask,
    wanted: Architecture,
    options: MeasurementOptions,
    folder: Path,
    device: str = "auto",
) -> list[dict[str, Any]]:
    """One row for each model of the architecture, kept in ``folder/<model>.json``.

    A row has the model's name, its hyper-parameters, ``train_error`` as measured on the images
    and ``published_train_error``, ``test_error`` as published, ``gap`` (published test error
    minus published training error), ``local_energy`` δE(σ) with its ``standard_error``, and
    ``standard_deviation`` over the noise vectors.

    Raises ``ValueError`` if the task has no such model, and for a broken archive.
    """
    models = [model for model in task.models if wanted.has(model)]
    if not models:
        present = sorted({str(architecture(model)) for model in task.models})
        raise ValueError(
            f"{task.name} has no model of {wanted}; it has models of {', '.join(present)}."
        )
    for model in models:  # what is wrong with any of them is said before the work begins
        build_network(model.layers, model.input_shape)
        task.weights_name(model)
    batches: _Batches | None = None
    place = Device(device)
    rows = []
    for model in tqdm(models, desc=f"local energy, {task.name}", unit="model"):
        file = folder / f"{model.name}.json"
        weights = task.weights_name(model)
        settings = {
            "task": task.name,
            "weights_crc32": task.archive.checksum(weights),
            **asdict(options),
        }
        del settings["batch_size"]  # of no consequence for the result
        stored = json.loads(file.read_text()) if file.exists() else {}
        if stored.get("settings") != settings:
            if batches is None:
                batches = _Batches(*task.training_data(), options, place.torch)
            network = build_network(model.layers, model.input_shape)
            load_weights(network, task.archive.read(weights), weights)
            profile = local_energy(
                network.to(place.torch), batches, [options.sigma], options.samples,
                options.scope, seed=options.seed,
            )  # fmt: skip
            stored = {
                "settings": settings,
                "train_error": float(profile.reference_error),
                "local_energy": float(profile.local_energy[0]),
                "standard_error": float(profile.standard_error[0]),
            }
            write_json(file, stored)
        rows.append(_row(model, stored, options))
    return rows


def _row(model: PgdlModel, stored: dict[str, Any], options: MeasurementOptions) -> dict[str, Any]:
    return {
        "model": model.name,
        **model.hyper_parameters,
        "train_error": stored["train_error"],
        "published_train_error": 1 - model.train_accuracy,
        "test_error": 1 - model.test_accuracy,
        "gap": model.train_accuracy - model.test_accuracy,
        "local_energy": stored["local_energy"],
        "standard_error": stored["standard_error"],
        "standard_deviation": stored["standard_error"] * options.samples**0.5,
        "sigma": options.sigma,
        "samples": options.samples,
    }


class _Batches:
    """The training data on the device: (inputs, labels), the same at every iteration."""

    def __init__(
        self, inputs: Tensor, labels: Tensor, options: MeasurementOptions, device: torch.device
    ) -> None:
        generator = torch.Generator().manual_seed(stream_seed(options.seed, ORDER))
        order = torch.randperm(len(labels), generator=generator)[: options.images]
        self.inputs, self.labels = inputs[order].to(device), labels[order].to(device)
        self.size = options.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self.inputs.split(self.size), self.labels.split(self.size), strict=True)
