"""Stored runs: their networks, and the flatness of these, measured once."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from deep.checkpoints import load_file
from deep.config import TrainingConfig
from deep.flatness import BatchNormMode, NetworkLocalEnergyProfile, Scope, local_energy
from deep.images.datasets import ImageData, load_images
from deep.images.minibatches import ImageBatches
from deep.models import build_model
from deep.place import Place
from message_passing.tools.files import write_json


@dataclass(frozen=True)
class FlatnessOptions:
    """How the local energy of a stored network is measured."""

    sigmas: tuple[float, ...] = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
    """Noise intensities, relative to each weight."""
    samples: int = 10
    """Noise vectors."""
    scope: Scope = "all"
    """Perturb all parameters, or weights without biases and BatchNorm's."""
    bn: BatchNormMode = "keep"
    """Keep BatchNorm's running statistics, or measure them again for each perturbed network."""
    augment: bool = True
    """Crop and flip the images as in training ([P21] App. B.2)."""
    images: int | None = None
    """Use only so many training images; none: all of them."""
    seed: int = 0
    """Of the noise, the augmentation and the choice of images."""


@dataclass(frozen=True)
class StoredNetwork:
    """A network that a run has left: ``final.pt`` or one of its snapshots."""

    path: Path
    config: TrainingConfig
    model: nn.Module
    about: dict[str, Any]

    @property
    def passes(self) -> float:
        """Passes over the training data when it was stored."""
        return float(self.about["log"]["passes"])

    @property
    def test_error(self) -> float:
        """Its test error."""
        return float(self.about["log"]["test_error"])

    @property
    def weight_norm(self) -> float:
        """‖w‖₂ over all parameters."""
        return (
            sum(float(p.detach().double().square().sum()) for p in self.model.parameters()) ** 0.5
        )


def load_network(path: str | Path) -> StoredNetwork:
    """A stored network. Raises ``ValueError`` for a file that is none."""
    path = Path(path)
    if not path.exists():
        raise ValueError(f"path is {str(path)!r}, where there is no stored network.")
    stored = load_file(path)
    if set(stored) != {"model", "about"}:
        raise ValueError(f"{path} holds {sorted(stored)}; a stored network was expected.")
    about = stored["about"]
    config = TrainingConfig.from_json(about["config"])
    model = build_model(config.model, len(about["classes"]), **config.model_options)
    model.load_state_dict(stored["model"])
    # As in training; on a CPU convolutions take half the time.
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return StoredNetwork(path, config, model, about)


def networks_of(folder: str | Path) -> list[StoredNetwork]:
    """Snapshots of a run in the order of training, then its final network.

    Raises ``ValueError`` for a folder that is no run.
    """
    folder = Path(folder)
    paths = sorted((folder / "snapshots").glob("passes-*.pt"))
    paths += [folder / "final.pt"] if (folder / "final.pt").exists() else []
    if not paths:
        raise ValueError(f"{folder} holds no stored network; a run's folder was expected.")
    return [load_network(path) for path in paths]


def measure_flatness(
    folder: str | Path,
    options: FlatnessOptions,
    device: str = "auto",
    data: ImageData | None = None,
    data_folder: str | Path | None = None,
) -> list[tuple[StoredNetwork, NetworkLocalEnergyProfile]]:
    """The local energy of every network of a run, read where these options were measured.

    Kept in ``<run>/flatness/<network>.json``, with the options.
    """
    place = Place(device)
    images = Images(place, data, data_folder)
    return [
        (
            network,
            stored_local_energy(
                network, Path(folder) / "flatness" / f"{network.path.stem}.json", options, images
            ),
        )
        for network in tqdm(networks_of(folder), desc=str(folder), unit="network")
    ]


class Images:
    """The images of the runs' data sets on the device, each loaded when it is first needed."""

    def __init__(
        self,
        place: Place,
        data: ImageData | None = None,
        data_folder: str | Path | None = None,
    ) -> None:
        self.place, self.data, self.data_folder = place, data, data_folder
        self._loaded: dict[str, ImageData] = {}

    def __call__(self, dataset: str) -> ImageData:
        """``data`` if that was given, else the data set."""
        if dataset not in self._loaded:
            data = self.data or load_images(dataset, self.data_folder)
            self._loaded[dataset] = data.to(self.place.device)
        return self._loaded[dataset]


def stored_local_energy(
    network: StoredNetwork,
    file: Path,
    options: FlatnessOptions,
    images: Images,
    split: str = "train",
) -> NetworkLocalEnergyProfile:
    """The local energy of a network on a split, from ``file`` if it has these options."""
    wanted = json.loads(json.dumps(asdict(options)))
    stored = json.loads(file.read_text()) if file.exists() else {}
    # A network that was trained again is measured again.
    wanted["size"], wanted["test_error"] = network.path.stat().st_size, network.test_error
    if stored.get("options") != wanted:
        data = images(network.config.dataset)
        loader = ImageBatches(
            data, network.config.preprocessing(data), split, options.augment,
            images=options.images, seed=options.seed,
        )  # fmt: skip
        profile = local_energy(
            network.model.to(images.place.device), loader, options.sigmas, options.samples,
            options.scope, options.bn, options.seed,
        )  # fmt: skip
        stored = {
            "options": wanted,
            "passes": network.passes,
            "weight_norm": network.weight_norm,
            "profile": {
                "sigma": profile.sigma.tolist(),
                "local_energy": profile.local_energy.tolist(),
                "standard_error": profile.standard_error.tolist(),
                "reference_error": float(profile.reference_error),
            },
        }
        write_json(file, stored)
    arrays = {name: np.array(value) for name, value in stored["profile"].items()}
    return NetworkLocalEnergyProfile(
        **arrays, samples=options.samples, scope=options.scope, bn=options.bn
    )


@dataclass(frozen=True)
class StoredFlatness:
    """What ``measure_flatness`` has kept of a network: ``final``, or a snapshot's name."""

    name: str
    options: dict[str, Any]
    passes: float
    test_error: float
    profile: dict[str, Any]


def stored_flatness(folder: Path, snapshots: bool) -> list[StoredFlatness]:
    """The measured flatness of the final network, with ``snapshots`` of all networks, of a run.

    Where the run's networks are not kept, what was measured counts. Raises ``ValueError`` for a
    network that has not been measured, or has changed since.
    """
    kept = (folder / "final.pt").exists()
    networks = (folder / "snapshots").glob("passes-*.pt")
    measured = (folder / "flatness").glob("passes-*.json")
    names = sorted(path.stem for path in (networks if kept else measured))
    paths = [folder / "snapshots" / f"{name}.pt" for name in names] if snapshots else []
    found = []
    for path in [*paths, folder / "final.pt"]:
        file = folder / "flatness" / f"{path.stem}.json"
        stored = json.loads(file.read_text()) if file.exists() else None
        if stored is None or (kept and stored["options"]["size"] != path.stat().st_size):
            raise ValueError(
                f"the flatness of {path} has not been measured; `python -m deep flatness "
                f"{folder}` does it."
            )
        options = dict(stored["options"])
        del options["size"]
        test_error = float(options.pop("test_error"))
        found.append(
            StoredFlatness(path.stem, options, stored["passes"], test_error, stored["profile"])
        )
    return found


def flatness_rows(
    results: list[tuple[StoredNetwork, NetworkLocalEnergyProfile]], run: str
) -> list[dict[str, Any]]:
    """One row for each network and σ."""
    return [
        {
            "run": run,
            "algorithm": network.config.algorithm,
            "passes": network.passes,
            "sigma": float(sigma),
            "local_energy": float(value),
            "standard_error": float(error),
            "reference_error": float(profile.reference_error),
            "test_error": network.test_error,
            "weight_norm": network.weight_norm,
            "samples": profile.samples,
            "scope": profile.scope,
            "bn": profile.bn,
        }
        for network, profile in results
        for sigma, value, error in zip(
            profile.sigma, profile.local_energy, profile.standard_error, strict=True
        )
    ]
