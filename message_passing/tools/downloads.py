"""Published files: found in a folder or in the cache, or downloaded and checked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DATA_VARIABLE = "WIDE_FLAT_MINIMA_DATA"
CACHE_VARIABLE = "WIDE_FLAT_MINIMA_CACHE"
TIMEOUT = (5, 30)  # seconds: to connect, and between two pieces of a file
RETRIES = 2


class DataUnavailableError(OSError):
    """The files are not here and cannot be downloaded. ``problem`` says so in short."""

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(f"{problem}. {advice}")
        self.problem = problem


@dataclass(frozen=True)
class PublishedFile:
    """A file on the web: its address, its name on disk, and its SHA-256."""

    address: str
    name: str
    sha256: str


def cache_folder() -> Path:
    """Folder of downloads and decoded data. ``$WIDE_FLAT_MINIMA_CACHE`` replaces the default."""
    import pooch  # here, because its import prints a warning in notebooks without widgets

    return Path(os.environ.get(CACHE_VARIABLE) or pooch.os_cache("wide-flat-minima"))


def find_files(
    files: Sequence[PublishedFile],
    directory: str | Path | None = None,
    subfolder: str = "",
    alternatives: Sequence[str] = (),
) -> Path:
    """The folder that holds ``files``. Files that are not found are downloaded into the cache.

    Parameters
    ----------
    files : sequence of PublishedFile
    directory : path, optional
        Folder that must hold them, directly or in ``subfolder``. Nothing else is tried then.
        Without it, ``$WIDE_FLAT_MINIMA_DATA`` and the cache are tried.
    subfolder : str
        Name of the files' own folder in a folder of several data sets.
    alternatives : suffixes
        A file without such a suffix also counts (".gz": unpacked).

    Raises
    ------
    ValueError
        ``$WIDE_FLAT_MINIMA_DATA`` names no folder.
    DataUnavailableError
        ``directory`` does not hold the files, or the download fails.
    """
    where = files[0].address.rpartition("/")[0]
    advice = (
        f"Get {', '.join(file.name for file in files)} from {where} (or a mirror), and "
        "give the folder: --data-dir FOLDER on the command line, directory= in Python, or the "
        f"environment variable {DATA_VARIABLE}."
    )

    def holder(folder: Path) -> Path | None:
        for candidate in (folder / subfolder, folder):
            if any(existing(candidate, file.name, alternatives) for file in files):
                return candidate
        return None

    if directory is not None:
        if found := holder(Path(directory)):
            return found
        raise DataUnavailableError(
            f"directory is {str(directory)!r}, where {files[0].name} was expected", advice
        )
    if variable := os.environ.get(DATA_VARIABLE):
        if not Path(variable).is_dir():
            raise ValueError(f"{DATA_VARIABLE} is {variable!r}; an existing folder was expected.")
        if found := holder(Path(variable)):
            return found
    folder = cache_folder() / subfolder
    for file in files:
        _download(file, folder, advice)
    return folder


def existing(folder: Path, name: str, alternatives: Sequence[str] = ()) -> Path | None:
    """The file with this name in a folder, or without one of the suffixes, or None."""
    names = [name, *(name.removesuffix(suffix) for suffix in alternatives)]
    return next((folder / n for n in names if (folder / n).is_file()), None)


def _download(file: PublishedFile, folder: Path, advice: str) -> None:
    """Download a file if it is missing. It gets its name once its hash is verified."""
    import pooch

    collection = pooch.create(
        path=folder,
        base_url="",
        registry={file.name: f"sha256:{file.sha256}"},
        urls={file.name: file.address},
        retry_if_failed=RETRIES,
    )
    try:
        collection.fetch(
            file.name, downloader=pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT)
        )
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise DataUnavailableError(
            f"{file.address} could not be downloaded into {folder} ({reason})", advice
        ) from error
