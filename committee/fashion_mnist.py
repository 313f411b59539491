"""The reduced Fashion-MNIST of [P21] App. B.1 and [B20]: Dress against Coat, binarised.

An image (pixels scaled to [0, 1]) is kept when ``0.25 ≤ median ≤ 0.75``. Its pattern is
``x_i = +1`` where the pixel is above the median of the image, else −1. Dress has the label +1.
The filter leaves few dresses (8.76 % of the training images, 10.93 % of the test images), so a
constant answer already has about 11 % test error. Any two other classes can replace these. The
filter leaves few or no trousers, sandals, sneakers and ankle boots.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import warnings
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from committee.patterns import PAIR, PatternSet
from message_passing.tools.downloads import (
    DATA_VARIABLE,
    DataUnavailableError,
    PublishedFile,
    existing,
    find_files,
)

ADDRESS = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FILES = tuple(
    PublishedFile(f"{ADDRESS}{name}-ubyte.gz", f"{name}-ubyte.gz", sha256)
    for name, sha256 in {
        "train-images-idx3": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    }.items()
)
# SHA-256 of the unpacked files.
CONTENTS = {
    "train-images-idx3": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
IMAGE_MAGIC, LABEL_MAGIC = 2051, 2049  # IDX: unsigned bytes, three and one dimensions
ADVICE = (
    f"Get the published files from {ADDRESS} (or a mirror) and give their folder: --data-dir "
    f"FOLDER on the command line, directory= in Python, or the environment variable "
    f"{DATA_VARIABLE}."
)


def reduced_fashion_mnist(
    directory: str | Path | None = None, classes: tuple[str, str] = PAIR
) -> PatternSet:
    """Patterns of all training and test images of two classes that pass the filter.

    ``directory`` must hold the files. Without it they are found or downloaded (see
    ``message_passing.tools.downloads.find_files``). Files that differ from the published ones are
    used with a ``UserWarning``. The first of the ``classes`` has the label +1.

    Raises
    ------
    DataUnavailableError
        The files are missing and cannot be downloaded.
    ValueError
        A file is truncated, corrupt, or not what its name says. The classes are unknown or equal,
        or the filter leaves no image of one of them.
    """
    check_classes(classes)
    folder = find_files(FILES, directory, "fashion-mnist", alternatives=(".gz",))
    contents = {name: _content(folder, f"{name}-ubyte.gz") for name in CONTENTS}
    train, test = (_read_split(folder, split, contents, classes) for split in ("train", "t10k"))
    for name, label in zip(classes, (1.0, -1.0), strict=True):
        if not (label in train[1] and label in test[1]):
            raise ValueError(
                f"classes contains {name!r}, of which the median filter leaves no training or no "
                "test image; another class was expected."
            )
    description = f"Fashion-MNIST, {classes[0]} (+1) against {classes[1]} (−1), binarised"
    unofficial = [
        path
        for name, (path, content) in contents.items()
        if hashlib.sha256(content).hexdigest() != CONTENTS[name]
    ]
    if unofficial:
        description += f" (NOT the published files: {', '.join(path.name for path in unofficial)})"
        warnings.warn(
            f"{', '.join(map(str, unofficial))}: not the published Fashion-MNIST (SHA-256 "
            "differs). Numbers made with it cannot be compared with published ones.",
            stacklevel=2,
        )
    return PatternSet(*train, *test, "fashion-mnist", description)


def check_classes(classes: tuple[str, str]) -> None:
    """Raise ``ValueError`` unless these are two different names of ``CLASSES``."""
    for name in classes:
        if name not in CLASSES:
            known = ", ".join(CLASSES)
            raise ValueError(f"classes contains {name!r}; two of {known} were expected.")
    if len(classes) != 2 or classes[0] == classes[1]:
        raise ValueError(f"classes is {classes!r}; two different ones were expected.")


def binarise(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], classes: tuple[str, str] = PAIR
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Filter and binarise images (M, 28, 28). Returns patterns and labels of two classes."""
    positive, negative = map(CLASSES.index, classes)
    chosen = (labels == positive) | (labels == negative)
    pixels = images[chosen].reshape(np.count_nonzero(chosen), -1) / 255.0
    medians = np.median(pixels, axis=1)
    kept = (medians >= 0.25) & (medians <= 0.75)
    patterns = np.where(pixels[kept] > medians[kept, None], 1.0, -1.0)
    return patterns, np.where(labels[chosen][kept] == positive, 1.0, -1.0)


def parse_idx(path: Path, content: bytes, magic: int) -> NDArray[np.uint8]:
    """The array in the content of an IDX file, whose magic number must be ``magic``."""
    found = int.from_bytes(content[:4], "big")
    if found != magic:
        raise ValueError(
            f"{path} starts with the magic number {found}; an IDX file with {magic} was "
            f"expected. {ADVICE}"
        )
    header = 4 + 4 * (magic & 0xFF)
    shape = tuple(np.frombuffer(content[4:header].ljust(header - 4, b"\0"), ">u4").tolist())
    if len(content) != header + math.prod(shape):
        raise ValueError(
            f"{path} holds {len(content)} bytes; {header + math.prod(shape)} were expected for "
            f"the shape {shape} in its header. {ADVICE}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _content(folder: Path, name: str) -> tuple[Path, bytes]:
    """Path of a file of the folder, gzipped or plain, and its unpacked content."""
    path = existing(folder, name, alternatives=(".gz",))
    if path is None:
        raise DataUnavailableError(f"{folder / name} is missing, with and without .gz", ADVICE)
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is truncated or corrupt ({error}). {ADVICE}") from error
    return path, content


def _read_split(
    folder: Path,
    split: str,
    contents: dict[str, tuple[Path, bytes]],
    classes: tuple[str, str],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    images = parse_idx(*contents[f"{split}-images-idx3"], IMAGE_MAGIC)
    labels = parse_idx(*contents[f"{split}-labels-idx1"], LABEL_MAGIC)
    if len(images) != len(labels):
        raise ValueError(
            f"{folder} holds {len(images)} images ({split}) but {len(labels)} labels. {ADVICE}"
        )
    return binarise(images, labels, classes)
