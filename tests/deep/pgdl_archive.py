"""A small archive in the official format of the PGDL competition, made from a seed.

The bytes of its TFRecords are built by hand.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import h5py
import numpy as np

SHAPE = (6, 5, 3)
CONVOLUTION = {"layer_name": "Conv2D", "kernel_size": [3, 3], "padding": "same"}


def vgg(dropout: float, filters: int = 4) -> list[dict]:
    """Layers as in task 1: numbers are floats, activations arguments, dropout follows Dense."""
    return [
        {**CONVOLUTION, "filters": 3.0, "activation": "relu"},
        {**CONVOLUTION, "filters": float(filters), "activation": "relu"},
        {"layer_name": "MaxPooling2D", "pool_size": [2.0, 2.0], "strides": [2.0, 2.0]},
        {"layer_name": "Flatten"},
        {"layer_name": "Dense", "units": 8.0, "activation": "relu"},
        *([{"layer_name": "Dropout", "rate": dropout}] if dropout else []),
        {"layer_name": "Dense", "units": 4.0},
    ]


def framed(record: bytes) -> bytes:
    """Length, checksum, record, checksum. The checksums are zero: the reader skips them."""
    return struct.pack("<Q", len(record)) + bytes(4) + record + bytes(4)


def varint(value: int) -> bytes:
    groups = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(array: np.ndarray, number_type: int) -> bytes:
    shape = b"".join(field(2, b"\x08" + varint(size)) for size in array.shape)
    return b"\x08" + varint(number_type) + field(2, shape) + field(4, array.tobytes())


def example(image: np.ndarray, label: int) -> bytes:
    """A tf.train.Example with a float32 image and an int32 label."""
    values = {
        b"inputs": tensor(image.astype("<f4"), 1),
        b"output": tensor(np.array(label, "<i4"), 3),
    }
    entries = [
        field(1, field(1, name) + field(2, field(1, field(1, v)))) for name, v in values.items()
    ]
    return field(1, b"".join(entries))


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, *SHAPE)).astype(np.float32), rng.integers(4, size=count)


def weights_of(layers: list[dict], rng: np.random.Generator) -> list[dict[str, np.ndarray]]:
    """Random weights in Keras' layout for the layers of ``vgg`` that have weights."""
    weights, channels = [], SHAPE[2]
    for layer in layers:
        if layer["layer_name"] == "Conv2D":
            shape = (3, 3, channels, int(layer["filters"]))
        elif layer["layer_name"] == "Dense":
            shape = (channels, int(layer["units"]))
        elif layer["layer_name"] == "Flatten":
            channels = channels * (SHAPE[0] // 2) * (SHAPE[1] // 2)
            continue
        else:
            continue
        scale = (2 / np.prod(shape[:-1])) ** 0.5
        weights.append({
            "kernel": rng.normal(0, scale, shape).astype(np.float32),
            "bias": rng.normal(0, 0.1, shape[-1]).astype(np.float32),
        })  # fmt: skip
        channels = shape[-1]
    return weights


def write_weights(path: Path, layers: list[dict], weights: list[dict[str, np.ndarray]]) -> None:
    """Write as Keras 2.4 does: names are numbered over all models, and every layer is listed."""
    left = iter(weights)
    with h5py.File(path, "w") as file:
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.4.0"
        names = [f"{layer['layer_name'].lower()}_{17 + i}" for i, layer in enumerate(layers)]
        file.attrs["layer_names"] = np.array(names, dtype="S")
        with_weights = ("Conv2D", "Dense", "BatchNormalization")
        for name, layer in zip(names, layers, strict=True):
            group = file.create_group(name)
            own = next(left) if layer["layer_name"] in with_weights else {}
            group.attrs["weight_names"] = np.array([f"{name}/{key}:0" for key in own], dtype="S")
            for key, value in own.items():
                group.create_dataset(f"{name}/{key}:0", data=value)


def write_archive(folder: Path) -> dict[str, list[dict[str, np.ndarray]]]:
    """Write six networks of task 1, five of one architecture. Returns their Keras weights."""
    task = folder / "public_data/input_data/task1_v4"
    for split, seed in (("train", 1), ("test", 2)):
        (task / "dataset_1" / split).mkdir(parents=True)
        inputs, labels = images(30, seed)
        for shard in range(3):
            part = slice(10 * shard, 10 * shard + 10)
            content = b"".join(
                framed(example(i, l)) for i, l in zip(inputs[part], labels[part], strict=True)
            )
            (task / "dataset_1" / split / f"shard_{shard}.tfrecord").write_bytes(content)
    described, all_weights = {}, {}
    rng = np.random.default_rng(3)
    for i, key in enumerate(("148", "20", "21", "212", "213", "6")):
        filters, dropout = (4, 0.5 * (i % 2)) if i < 5 else (6, 0.0)
        layers = vgg(dropout, filters)
        model = task / f"model_{key}"
        model.mkdir()
        config = {"model_config": layers, "input_shape": list(SHAPE)}
        (model / "config.json").write_text(json.dumps(config))
        all_weights[f"model_{key}"] = weights_of(layers, rng)
        write_weights(model / "weights.hdf5", layers, all_weights[f"model_{key}"])
        hyper_parameters = {
            "convwidth": {"possible_values": [4, 6], "current_value": float(filters)},
            "dropout": {"possible_values": [0.0, 0.5], "current_value": dropout},
            "batch_size": {"possible_values": [8, 32, 512], "current_value": (8, 32, 512)[i // 2]},
        }
        metrics = {"train_acc": 1 - 0.01 * i, "test_acc": 0.8 - 0.03 * i}
        described[key] = {"hparams": hyper_parameters, "metrics": metrics}
    reference = folder / "public_data/reference_data/task1_v4"
    reference.mkdir(parents=True)
    (reference / "model_configs.json").write_text(json.dumps(described))
    return all_weights
