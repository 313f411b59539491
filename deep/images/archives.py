"""Reading image archives into uint8 arrays: CIFAR, Tiny ImageNet, folders and tar files.

All readers return ``train_images`` (P, 3, H, W), ``train_labels``, the same for ``test``, and
``classes``.
"""

from __future__ import annotations

import io
import lzma
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
BROKEN = (
    tarfile.TarError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, EOFError, OSError,
)  # fmt: skip


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
    try:
        names = meta.get(b"fine_label_names") or meta[b"label_names"]
        content = {"classes": np.array([n.decode() for n in names])}
        for split, parts in (("train", train), ("test", test)):
            pixels = np.concatenate([batches[n][b"data"] for n in parts])
            labels = [batches[n].get(b"fine_labels") or batches[n][b"labels"] for n in parts]
            content[f"{split}_images"] = pixels.reshape(-1, 3, 32, 32).astype(np.uint8)
            content[f"{split}_labels"] = np.concatenate(labels).astype(np.int64)
    except KeyError as error:
        raise ValueError(f"{path} has a batch without {error}; CIFAR's was expected.") from error
    return content


def read_tiny_imagenet(path: Path) -> dict[str, np.ndarray]:
    """The official zip of Tiny ImageNet; its validation set, the labelled one, is the test set.

    ``wnids.txt`` names the classes, ``train/<wnid>/images/*.JPEG`` are the training images, and
    ``val/val_annotations.txt`` says to which class each of ``val/images/*.JPEG`` belongs.
    Greyscale images become colour; images are ordered by class and name, classes as in
    ``wnids.txt``.

    Raises ``ValueError`` for broken images, images of several sizes, a missing file, a
    validation image without annotation, an unknown class.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _tiny_imagenet(path, archive)
    except BROKEN as error:
        raise ValueError(f"{path} cannot be read as Tiny ImageNet: {error}.") from error


def _tiny_imagenet(path: Path, archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    names = [n for n in archive.namelist() if not n.endswith("/")]
    inside = {"/".join(Path(n).parts[1:]): n for n in names}  # without tiny-imagenet-200/

    def lines(name: str) -> list[list[str]]:
        if name not in inside:
            raise ValueError(f"{path} has no {name}; the official archive was expected.")
        return [line.split() for line in archive.read(inside[name]).decode().splitlines() if line]

    classes = {line[0]: index for index, line in enumerate(lines("wnids.txt"))}
    annotated = {line[0]: line[1] for line in lines("val/val_annotations.txt") if len(line) > 1}
    found: dict[str, list[tuple[int, str]]] = {"train": [], "test": []}
    for name in sorted(inside):
        parts = name.split("/")
        if Path(name).suffix.lower() not in IMAGE_SUFFIXES:
            continue
        if parts[0] == "train":
            split, label = "train", parts[1]
        elif parts[0] == "val":
            split, label = "test", annotated.get(parts[-1], "")
            if not label:
                raise ValueError(f"{name} of {path} has no line in val/val_annotations.txt.")
        else:  # the official test images have no labels
            continue
        if label not in classes:
            raise ValueError(f"{name} of {path} has the class {label!r}, which wnids.txt lacks.")
        found[split].append((classes[label], name))
    if absent := sorted(set(annotated) - {name.split("/")[-1] for _, name in found["test"]}):
        raise ValueError(f"{path} has no val/images/{absent[0]}, which val_annotations.txt names.")

    content = {"classes": np.array(list(classes))}
    for split, entries in found.items():
        if not entries:
            raise ValueError(f"{path} has no {split} images; the official archive was expected.")
        entries.sort()
        images = None
        for index, (_, name) in enumerate(tqdm(entries, desc=f"decoding {split}", unit="image")):
            image = _decode(name, io.BytesIO(archive.read(inside[name])))
            if images is None:
                images = np.empty((len(entries), *image.shape), np.uint8)
            if image.shape != images.shape[1:]:
                raise ValueError(
                    f"{path} has images of several sizes: {name} has {image.shape}, the first "
                    f"one {images.shape[1:]}."
                )
            images[index] = image
        assert images is not None
        content[f"{split}_images"] = images
        content[f"{split}_labels"] = np.array([label for label, _ in entries])
    return content


def read_image_folder(path: Path) -> dict[str, np.ndarray]:
    """``train/<class>/*`` and ``test/<class>/*`` in a folder or a tar file (any compression).

    Greyscale images become colour; files are ordered by name, classes alphabetically.

    Raises ``ValueError`` for broken images, images of several sizes, an image that is there
    twice, a missing split, classes that differ between the splits.
    """
    images: dict[str, dict[tuple[str, str], np.ndarray]] = {"train": {}, "test": {}}
    try:
        for name, file in _files(path):
            parts = Path(name).parts
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and len(parts) >= 3:
                split, label, leaf = parts[-3:]
                if split in images:
                    if (label, leaf) in images[split]:
                        raise ValueError(f"{path} has {split}/{label}/{leaf} twice.")
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
        content[f"{split}_labels"] = np.searchsorted(classes, [label for label, _ in keys])
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
