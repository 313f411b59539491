"""Reading image archives into uint8 arrays: CIFAR's pickles, folders and tar files of images.

Both readers return ``train_images`` (P, 3, H, W), ``train_labels``, the same for ``test``, and
``classes``.
"""

from __future__ import annotations

import io
import lzma
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
BROKEN = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError)


class _ArraysOnly(pickle.Unpickler):
    """CIFAR's pickles hold numpy arrays, lists and byte strings; nothing else is loaded."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype"):
            return super().find_class(module, name)
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise ValueError(f"the archive holds a {module}.{name}; CIFAR's arrays were expected.")


def read_cifar(path: Path) -> dict[str, np.ndarray]:
    """The official python archive of CIFAR-10 or CIFAR-100 (fine labels).

    Raises ``ValueError`` for a truncated or foreign file.
    """
    batches: dict[str, dict[bytes, Any]] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member)
                name = Path(member.name).name
                if file is not None and not name.endswith(".html"):
                    batches[name] = _ArraysOnly(file, encoding="bytes").load()
    except (*BROKEN, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} cannot be read as a CIFAR archive: {error}.") from error

    train = sorted(n for n in batches if n == "train" or n.startswith("data_batch"))
    test = [n for n in batches if n in ("test", "test_batch")]
    meta = batches.get("meta") or batches.get("batches.meta")
    if not train or not test or not meta:
        raise ValueError(f"{path} holds {sorted(batches)}; the batches of CIFAR were expected.")
    names = meta.get(b"fine_label_names") or meta[b"label_names"]
    content = {"classes": np.array([n.decode() for n in names])}
    for split, parts in (("train", train), ("test", test)):
        pixels = np.concatenate([batches[n][b"data"] for n in parts])
        labels = [batches[n].get(b"fine_labels") or batches[n][b"labels"] for n in parts]
        content[f"{split}_images"] = pixels.reshape(-1, 3, 32, 32).astype(np.uint8)
        content[f"{split}_labels"] = np.concatenate(labels).astype(np.int64)
    return content


def read_image_folder(path: Path) -> dict[str, np.ndarray]:
    """``train/<class>/*`` and ``test/<class>/*`` in a folder or a tar file (any compression).

    Greyscale images become colour; files are ordered by name, classes alphabetically.

    Raises ``ValueError`` for broken images, images of several sizes, a missing split, classes
    that differ between the splits.
    """
    images: dict[str, dict[tuple[str, str], np.ndarray]] = {"train": {}, "test": {}}
    try:
        for name, file in _files(path):
            parts = Path(name).parts
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and len(parts) >= 3:
                split, label, leaf = parts[-3:]
                if split in images:
                    images[split][label, leaf] = _decode(name, file)
    except BROKEN as error:
        raise ValueError(f"{path} cannot be read as an image archive: {error}.") from error

    for split, found in images.items():
        if not found:
            raise ValueError(f"{path} has no images {split}/<class>/*{IMAGE_SUFFIXES[0]}.")
    classes = sorted({label for label, _ in images["train"]})
    if other := {label for label, _ in images["test"]} ^ set(classes):
        raise ValueError(f"{path} has the class {sorted(other)[0]!r} in one split only.")
    shapes = {image.shape for found in images.values() for image in found.values()}
    if len(shapes) > 1:
        raise ValueError(f"{path} has images of several sizes: {sorted(shapes)[:3]}.")
    content = {"classes": np.array(classes)}
    for split, found in images.items():
        keys = sorted(found)
        content[f"{split}_images"] = np.stack([found[key] for key in keys])
        content[f"{split}_labels"] = np.array([classes.index(label) for label, _ in keys])
    return content


def _files(path: Path) -> Iterator[tuple[str, BinaryIO | io.BytesIO]]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file():
                yield str(file.relative_to(path.parent)), io.BytesIO(file.read_bytes())
        return
    with tarfile.open(path) as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is not None:
                yield member.name, io.BytesIO(content.read())


def _decode(name: str, file: BinaryIO | io.BytesIO) -> np.ndarray:
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{name} cannot be decoded: {error}.") from error
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
