"""Image archives as uint8 arrays: CIFAR, Tiny ImageNet, folders of images.

Each reader returns ``train_images`` (P, 3, H, W) in uint8, ``train_labels`` (P,), the same for
``test``, and ``classes``. Its errors are ``ValueError`` and name the archive.
"""

from __future__ import annotations

import io
import lzma
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
# Errors of damaged archives. RuntimeError: an encrypted zip, or an unknown compression.
BROKEN = (
    tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError,
    RuntimeError,
)  # fmt: skip


def read_cifar(path: Path) -> dict[str, np.ndarray]:
    """The official python archive of CIFAR-10 or CIFAR-100 (fine labels)."""
    files = {PurePosixPath(name).name: content for name, content in _contents(path).items()}
    parts = {
        "train": sorted(n for n in files if n == "train" or n.startswith("data_batch")),
        "test": sorted(n for n in files if n in ("test", "test_batch")),
        "meta": sorted(n for n in files if n in ("meta", "batches.meta")),
    }
    if not all(parts.values()):
        raise ValueError(f"{path} holds {sorted(files)[:9]}; the batches of CIFAR were expected.")
    content = {}
    try:
        batches = {split: [_unpickled(files[name]) for name in parts[split]] for split in parts}
        meta = batches.pop("meta")[0]
        names = meta.get(b"fine_label_names") or meta[b"label_names"]
        content["classes"] = np.array([name.decode() for name in names])
        for split, found in batches.items():
            pixels = np.concatenate([batch[b"data"] for batch in found])
            labels = [batch.get(b"fine_labels") or batch[b"labels"] for batch in found]
            content[f"{split}_images"] = pixels.reshape(-1, 3, 32, 32).astype(np.uint8)
            content[f"{split}_labels"] = np.concatenate(labels).astype(np.int64)
            if len(pixels) != len(content[f"{split}_labels"]):
                raise ValueError(f"{len(pixels)} {split} images have another number of labels")
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(f"{path} cannot be read as a CIFAR archive: {error!r}.") from error
    return content


class _ArraysOnly(pickle.Unpickler):
    """CIFAR's pickles hold numpy arrays, lists and byte strings; nothing else is loaded."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype"):
            return super().find_class(module, name)
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise ValueError(f"the archive holds a {module}.{name}; CIFAR's arrays were expected")


def _unpickled(content: bytes) -> Any:
    return _ArraysOnly(io.BytesIO(content), encoding="bytes").load()


def read_tiny_imagenet(path: Path) -> dict[str, np.ndarray]:
    """The official zip of Tiny ImageNet. The test set is its validation set, which has labels.

    ``wnids.txt`` names the classes, ``train/<wnid>/images/*.JPEG`` are the training images, and
    ``val/val_annotations.txt`` gives the class of each of ``val/images/*.JPEG``. Greyscale images
    become colour. Images are ordered by class and name, classes as in ``wnids.txt``.
    """
    files = {name.partition("/")[2]: content for name, content in _contents(path).items()}

    def lines(name: str) -> list[list[str]]:
        if name not in files:
            raise ValueError(f"{path} has no {name}; the official archive was expected.")
        return [line.split() for line in files[name].decode().splitlines() if line]

    classes = {line[0]: index for index, line in enumerate(lines("wnids.txt"))}
    images = [n for n in files if _is_image(n) and n.startswith(("train/", "val/"))]
    labels = {name: name.split("/")[1] for name in images if name.startswith("train/")}
    labels |= {f"val/images/{line[0]}": line[1] for line in lines("val/val_annotations.txt")}
    if differing := sorted(set(images) ^ set(labels)):
        raise ValueError(
            f"{path} has {differing[0]} either among its images or in val/val_annotations.txt; "
            "both were expected."
        )
    if unknown := sorted(set(labels.values()) - set(classes)):
        raise ValueError(f"{path} has the class {unknown[0]!r}, which wnids.txt lacks.")
    splits: dict[str, list[tuple[int, str]]] = {"train": [], "test": []}
    for entry in sorted((classes[labels[name]], name) for name in images):
        splits["train" if entry[1].startswith("train/") else "test"].append(entry)
    return _decoded(path, files, splits, list(classes))


def read_image_folder(path: Path) -> dict[str, np.ndarray]:
    """``train/<class>/*`` and ``test/<class>/*`` in a folder, a zip or a tar file.

    Greyscale images become colour. Images are ordered by class and name, classes alphabetically.
    """
    files = _contents(path)
    found: dict[str, dict[tuple[str, str], str]] = {"train": {}, "test": {}}
    for name in files:
        split, label, leaf = ("", "", *PurePosixPath(name).parts)[-3:]
        if split in found and _is_image(name):
            if (label, leaf) in found[split]:
                raise ValueError(f"{path} has {split}/{label}/{leaf} twice.")
            found[split][label, leaf] = name
    classes = sorted({label for label, _ in found["train"]})
    if other := {label for label, _ in found["test"]} ^ set(classes):
        raise ValueError(f"{path} has the class {min(other)!r} in one split only.")
    splits = {
        split: [(classes.index(label), name) for (label, _), name in sorted(names.items())]
        for split, names in found.items()
    }
    return _decoded(path, files, splits, classes)


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _contents(path: Path) -> dict[str, bytes]:
    """All files of a folder or an archive by name, with a progress bar."""
    files: dict[str, bytes] = {}
    try:
        for name, content in _members(path):
            if name in files:
                raise ValueError(f"{path} has {name} twice.")
            files[name] = content
    except BROKEN as error:
        reason = str(error).splitlines()[0].rstrip(":.") if str(error) else repr(error)
        raise ValueError(f"{path} cannot be read as an image archive: {reason}.") from error
    return files


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    title = f"reading {path.name}"
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.is_file())
        for file in tqdm(found, desc=title, unit="file"):
            yield file.relative_to(path.parent).as_posix(), file.read_bytes()
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            for name in tqdm(names, desc=title, unit="file"):
                yield name, archive.read(name)
    else:
        size = path.stat().st_size  # the bar counts bytes: a tar file has no list of its members
        with (
            path.open("rb") as source,
            tqdm(total=size, desc=title, unit="B", unit_scale=True) as progress,
            tarfile.open(fileobj=source) as tar,
        ):
            for member in tar:
                if (content := tar.extractfile(member)) is not None:
                    yield member.name, content.read()
                progress.update(source.tell() - progress.n)
            # tarfile takes a damaged or missing header for the end. The real end is blocks of
            # zeros. Reading them also checks the checksum of a compressed archive.
            assert tar.fileobj is not None
            tar.fileobj.seek(tar.offset)
            rest = tar.fileobj.read(-1)
            progress.update(size - progress.n)
            if not rest or rest.strip(b"\0"):
                raise tarfile.ReadError(f"it is damaged or truncated at byte {tar.offset}")


def _decoded(
    path: Path,
    files: dict[str, bytes],
    splits: dict[str, list[tuple[int, str]]],
    classes: list[str],
) -> dict[str, np.ndarray]:
    """Decode the images that ``splits`` lists as (label, name)."""
    content = {"classes": np.array(classes)}
    shape: tuple[int, ...] = ()
    for split, entries in splits.items():
        if not entries:
            raise ValueError(f"{path} has no {split} images, such as {split}/<class>/0.jpg.")
        for index, (_, name) in enumerate(tqdm(entries, desc=f"decoding {split}", unit="image")):
            try:
                with Image.open(io.BytesIO(files[name])) as image:
                    pixels = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
            except (OSError, SyntaxError, ValueError) as error:  # Pillow's, for damaged images
                raise ValueError(f"{name} of {path} cannot be decoded as an image.") from error
            shape = shape or pixels.shape
            if pixels.shape != shape:
                raise ValueError(
                    f"{path} has images of several sizes: {name} has {pixels.shape}, the first "
                    f"one {shape}."
                )
            if index == 0:
                content[f"{split}_images"] = np.empty((len(entries), *shape), np.uint8)
            content[f"{split}_images"][index] = pixels
        content[f"{split}_labels"] = np.array([label for label, _ in entries])
    return content
