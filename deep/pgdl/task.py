"""One task of the PGDL archive: models with their hyper-parameters, and training data.

The layout of the archive, below any folder:

    input_data/task1_v4/model_<id>/config.json      layers and shape of the inputs
    input_data/task1_v4/model_<id>/weights.hdf5     Keras' weights after training
    input_data/task1_v4/dataset_1/train/shard_*.tfrecord
    reference_data/task1_v4/model_configs.json      hyper-parameters, accuracies of each model
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from deep.pgdl.archive import Archive
from deep.pgdl.tfrecords import read_examples


@dataclass(frozen=True)
class PgdlModel:
    """A trained network of a task, without its weights.

    Attributes
    ----------
    name : "model_20"
    layers : one mapping for each Keras layer: "layer_name" and the layer's arguments
    input_shape : (height, width, channels), or (inputs,)
    hyper_parameters : settings that vary over the models of the task
    train_accuracy, test_accuracy : as published
    """

    name: str
    layers: list[dict[str, Any]]
    input_shape: tuple[int, ...]
    hyper_parameters: dict[str, Any]
    train_accuracy: float
    test_accuracy: float


class PgdlTask:
    """The models and the training data of one task.

    ``task`` is its number, e.g. "1", or the name of its folder, e.g. "task1_v4". Raises
    ``ValueError`` for a task that the archive does not have.
    """

    def __init__(self, archive: Archive, task: str = "1") -> None:
        self.archive = archive
        pattern = re.compile(r"((?:.*/)?([^/]+))/model_[^/]+/config\.json")
        matches = [match for name in archive.names if (match := pattern.fullmatch(name))]
        found = {match[2]: match[1] for match in matches}
        wanted = [name for name in found if name == task or name.startswith(f"task{task}_")]
        if len(wanted) != 1:
            raise ValueError(
                f"task is {task!r}; one of {sorted(found)} or its number was expected of the "
                f"archive {archive.path}."
            )
        self.name, self.folder = wanted[0], found[wanted[0]]

    @cached_property
    def models(self) -> list[PgdlModel]:
        """The models in the order of ``model_configs.json``.

        Raises ``ValueError`` for a missing model and for malformed files.
        """
        end = f"reference_data/{self.name}/model_configs.json"
        names = sorted(name for name in self.archive.names if name.endswith(end))
        names.append(f"{self.folder}/model_configs.json")  # as in the competition's starting kit
        described = self.archive.json(names[0])
        try:
            progress = tqdm(described.items(), desc=f"models of {self.name}", unit="model")
            return [self._model(f"model_{key}", entry) for key, entry in progress]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{names[0]} of {self.archive.path}, or a model's config.json, lacks {error}; "
                "hyper-parameters, accuracies, layers and the shape of the inputs were expected."
            ) from error

    def _model(self, name: str, entry: dict[str, Any]) -> PgdlModel:
        config = self.archive.json(f"{self.folder}/{name}/config.json")
        return PgdlModel(
            name,
            config["model_config"],
            tuple(int(size) for size in config["input_shape"]),
            {key: _plain(value["current_value"]) for key, value in entry["hparams"].items()},
            float(entry["metrics"]["train_acc"]),
            float(entry["metrics"]["test_acc"]),
        )

    def weights_name(self, model: PgdlModel) -> str:
        """Name of a model's weight file in the archive."""
        return f"{self.folder}/{model.name}/weights.hdf5"

    @property
    def shards(self) -> list[str]:
        """Names of the training-data files. Raises ``ValueError`` if there are none."""
        folder = f"{self.folder}/dataset_1/train/"
        pattern = re.escape(folder) + r"shard_\d+\.tfrecord"
        shards = sorted(name for name in self.archive.names if re.fullmatch(pattern, name))
        if not shards:
            raise ValueError(f"{self.archive.path} has no {folder}shard_*.tfrecord.")
        return shards

    def training_data(self) -> tuple[Tensor, Tensor]:
        """Inputs in float32, images as (P, C, H, W), and labels (P,) in int64.

        Raises ``ValueError`` if there are no shards or one is damaged.
        """
        parts = [
            read_examples(self.archive.read(shard), shard)
            for shard in tqdm(self.shards, desc=f"data of {self.name}", unit="shard")
        ]
        if len(shapes := {inputs.shape[1:] for inputs, _ in parts}) > 1:
            raise ValueError(f"the shards of {self.folder} differ in shape: {sorted(shapes)}.")
        inputs = np.concatenate([inputs for inputs, _ in parts]).astype(np.float32)
        if inputs.ndim == 4:
            inputs = np.ascontiguousarray(inputs.transpose(0, 3, 1, 2))
        labels = np.concatenate([labels for _, labels in parts])
        return torch.from_numpy(inputs), torch.from_numpy(labels)


def _plain(value: Any) -> Any:
    """Lists and mappings as text, so that values compare and fit into a table."""
    return value if isinstance(value, str | int | float | bool) else json.dumps(value)
