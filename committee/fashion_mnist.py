"""The reduced Fashion-MNIST of [P21] App. B.1 and [B20]: Dress against Coat, binarised.

An image (pixels scaled to [0, 1]) is kept when ``0.25 ≤ median ≤ 0.75``; its pattern is
``x_i = +1`` where the pixel is above the median of the image, else −1. Dress is the label +1.
The filter leaves few dresses (8.76 % of the training images, 10.93 % of the test images), so a
constant answer already has about 11 % test error.

The four official files are looked for in the directory given, in ``WIDE_FLAT_MINIMA_DATA``, in
the user's cache, and are downloaded into that cache at last.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DATA_VARIABLE = "WIDE_FLAT_MINIMA_DATA"
CACHE_VARIABLE = "WIDE_FLAT_MINIMA_CACHE"
ADDRESS = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
OFFICIAL_FILES = {
    f"{name}-ubyte.gz": sha256
    for name, sha256 in {
        "train-images-idx3": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    }.items()
}
TIMEOUT = (5, 30)  # seconds: to connect, and between two pieces of a file
ATTEMPTS = 3

DRESS, COAT = 3, 4
IMAGE_MAGIC, LABEL_MAGIC = 2051, 2049  # IDX: unsigned bytes, three and one dimensions
ADVICE = (
    "Get the four official files of Fashion-MNIST from "
    f"{ADDRESS} (or a mirror), and give their folder: --data-dir FOLDER on the command line, "
    f"directory= in Python, or the environment variable {DATA_VARIABLE}. Without any download: "
    "--data hidden-manifold."
)


class DataUnavailableError(OSError):
    """The files are neither here nor can they be downloaded; ``problem`` says so in short."""

    def __init__(self, problem: str, details: str = "") -> None:
        super().__init__(f"{problem}{details}. {ADVICE}")
        self.problem = problem


@dataclass(frozen=True)
class BinarisedImages:
    """Patterns (M, 784) in {±1} and labels (M,) in {±1} that the median filter leaves."""

    patterns: NDArray[np.float64]
    labels: NDArray[np.float64]


def reduced_fashion_mnist(
    directory: str | Path | None = None,
) -> tuple[BinarisedImages, BinarisedImages]:
    """All training and test images of the two classes that the filter leaves.

    Raises
    ------
    DataUnavailableError
        The files are not there and cannot be downloaded.
    ValueError
        A file is truncated, corrupt, or not what its name says.
    """
    folder = find_files(directory)
    return _read_split(folder, "train"), _read_split(folder, "t10k")


def binarise(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> BinarisedImages:
    """Dress and Coat among images (M, 28, 28), filtered and binarised at their median."""
    chosen = (labels == DRESS) | (labels == COAT)
    pixels = images[chosen].reshape(np.count_nonzero(chosen), -1) / 255.0
    medians = np.median(pixels, axis=1)
    kept = (medians >= 0.25) & (medians <= 0.75)
    return BinarisedImages(
        patterns=np.where(pixels[kept] > medians[kept, None], 1.0, -1.0),
        labels=np.where(labels[chosen][kept] == DRESS, 1.0, -1.0),
    )


def find_files(directory: str | Path | None = None) -> Path:
    """Folder that holds the four files (gzipped or plain); downloads them if need be.

    A ``directory`` must hold them: nothing else is tried then. The folder of the environment
    variable must exist, but may hold other data only.
    """
    if directory is not None:
        if found := _holder(Path(directory)):
            return found
        raise DataUnavailableError(
            f"directory is {str(directory)!r}, but neither it nor its subfolder fashion-mnist "
            f"holds {next(iter(OFFICIAL_FILES))}"
        )
    if variable := os.environ.get(DATA_VARIABLE):
        if not Path(variable).is_dir():
            raise ValueError(f"{DATA_VARIABLE} is {variable!r}; an existing folder was expected.")
        if found := _holder(Path(variable)):
            return found
    return download(cache_folder())


def cache_folder() -> Path:
    """Where downloads are kept: the user's cache, or ``WIDE_FLAT_MINIMA_CACHE``."""
    import pooch  # here, since its import prints a warning in notebooks without widgets

    cache = os.environ.get(CACHE_VARIABLE) or pooch.os_cache("wide-flat-minima")
    return Path(cache) / "fashion-mnist"


def download(folder: Path) -> Path:
    """Fetch what is missing in ``folder`` from the official address; check every SHA-256.

    A file gets its name only when it is complete and its hash is right.
    """
    import pooch

    fetcher = pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT)
    collection = pooch.create(
        path=folder, base_url=ADDRESS, registry=OFFICIAL_FILES, retry_if_failed=0
    )
    for name in OFFICIAL_FILES:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                collection.fetch(name, downloader=fetcher)
                break
            except (OSError, ValueError) as error:  # requests' errors are OSErrors
                if attempt == ATTEMPTS:
                    raise DataUnavailableError(
                        f"{name} could not be downloaded from {ADDRESS}",
                        f"{name} into {folder} ({ATTEMPTS} attempts; {_first_line(error)})",
                    ) from error
    return folder


def read_idx(path: str | Path, magic: int) -> NDArray[np.uint8]:
    """Array of an IDX file (gzipped or plain), whose magic number must be ``magic``."""
    path = Path(path)
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is truncated or corrupt ({error}). {ADVICE}") from error
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


def _read_split(folder: Path, split: str) -> BinarisedImages:
    images = read_idx(_existing(folder, f"{split}-images-idx3-ubyte.gz"), IMAGE_MAGIC)
    labels = read_idx(_existing(folder, f"{split}-labels-idx1-ubyte.gz"), LABEL_MAGIC)
    if len(images) != len(labels):
        raise ValueError(
            f"{folder} holds {len(images)} images ({split}) but {len(labels)} labels. {ADVICE}"
        )
    return binarise(images, labels)


def _holder(folder: Path) -> Path | None:
    for candidate in (folder / "fashion-mnist", folder):
        if any(_existing_or_none(candidate, name) for name in OFFICIAL_FILES):
            return candidate
    return None


def _existing(folder: Path, name: str) -> Path:
    path = _existing_or_none(folder, name)
    if path is None:
        raise DataUnavailableError(
            f"{folder / name} is missing (without .gz it is not there either)"
        )
    return path


def _existing_or_none(folder: Path, name: str) -> Path | None:
    for path in (folder / name, folder / name.removesuffix(".gz")):
        if path.is_file():
            return path
    return None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
