"""Published files: where they come from, how they are checked, where they are looked for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pooch


@dataclass(frozen=True)
class PublishedFile:
    """A file on the web: its address, the name that it is kept under, its SHA-256."""

    address: str
    name: str
    sha256: str


FILES = {
    "cifar10": PublishedFile(
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "cifar-10-python.tar.gz",
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    ),
    "cifar100": PublishedFile(
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        "cifar-100-python.tar.gz",
        "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    ),
    "tinyimagenet": PublishedFile(
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        "tiny-imagenet-200.zip",
        "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
    ),
    # The policies that Lim et al. (2019) found.
    "fast-autoaugment": PublishedFile(
        "https://raw.githubusercontent.com/kakaobrain/fast-autoaugment/"
        "2424224291616a2158a2265069ee95a78a2d13d9/FastAutoAugment/archive.py",
        "fast-autoaugment-archive.py",
        "b0bbb32853252f7273838cac3017833a4acb3cf06e0f6f6c5f89dfcfa549d723",
    ),
}


def find_file(name: str, folder: str | Path | None = None) -> Path:
    """A file of ``FILES``, downloaded and checked if it is nowhere.

    Looked for in ``folder``, in ``$WIDE_FLAT_MINIMA_DATA`` and in the cache. Raises
    ``ValueError`` where a folder is given that lacks it, and where the download fails.
    """
    file = FILES[name]
    for place in (folder, os.environ.get("WIDE_FLAT_MINIMA_DATA"), cache_folder()):
        if place and (Path(place) / file.name).exists():
            return Path(place) / file.name
    if folder is not None:
        raise ValueError(f"folder is {str(folder)!r}, where {file.name} was expected.")
    try:
        fetched = pooch.retrieve(
            file.address, f"sha256:{file.sha256}", file.name, cache_folder(), progressbar=True
        )
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        raise ValueError(
            f"{name} cannot be downloaded from {file.address} ({error}); put {file.name} into a "
            "folder and name it by --data-folder or $WIDE_FLAT_MINIMA_DATA."
        ) from error
    return Path(fetched)


def cache_folder() -> Path:
    """Where decoded images and downloads are kept."""
    folder = os.environ.get("WIDE_FLAT_MINIMA_CACHE")
    return Path(folder) if folder else Path(pooch.os_cache("wide-flat-minima"))
