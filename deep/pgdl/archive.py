"""The archive of the PGDL competition: a folder, a zip, or a zip on the web read by ranges.

*Predicting Generalization in Deep Learning*, NeurIPS 2020, arXiv 2012.07976; the public part is
``PUBLIC_ARCHIVE`` (8.8 GB). What is in it: ``deep.pgdl.task``.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from deep.pgdl.extra import required
from message_passing.tools.downloads import cache_folder
from message_passing.tools.files import write_atomically

PUBLIC_ARCHIVE = "http://storage.googleapis.com/gresearch/pgdl/public_data.zip"
RETRIES, TIMEOUT = 5, 60  # the latter in seconds


class Archive(ABC):
    """Named files, read whole."""

    def __init__(self, place: str, names: list[str]) -> None:
        self.place = place
        self.names = frozenset(name for name in names if not name.endswith("/"))

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Content of a file. Raises ``ValueError`` where it cannot be read."""

    @abstractmethod
    def checksum(self, name: str) -> int:
        """CRC-32 of a file."""

    def json(self, name: str) -> Any:
        """Content of a JSON file. Raises ``ValueError`` where it is missing or broken."""
        try:
            return json.loads(self.read(name))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{name} of {self.place} is not JSON: {error}.") from error

    def check(self, name: str) -> None:
        """Raises ``ValueError`` for a file that is not in the archive."""
        if name not in self.names:
            raise ValueError(f"{self.place} has no {name}.")


class FolderArchive(Archive):
    """An unpacked archive."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
        super().__init__(str(folder), names)

    def read(self, name: str) -> bytes:
        """Content of a file."""
        self.check(name)
        return (self.folder / name).read_bytes()

    def checksum(self, name: str) -> int:
        """CRC-32 of a file."""
        return zlib.crc32(self.read(name))


class ZipArchive(Archive):
    """A zip file; with ``cache`` every member is kept in that folder once it has been read."""

    def __init__(self, place: str, file: zipfile.ZipFile, cache: Path | None = None) -> None:
        self.file, self.cache = file, cache
        super().__init__(place, file.namelist())

    def read(self, name: str) -> bytes:
        """Content of a file, from the cache where it is there and sound."""
        self.check(name)
        kept = None if self.cache is None else self.cache / name
        if kept is not None and kept.exists():
            content = kept.read_bytes()
            if zlib.crc32(content) == self.checksum(name):
                return content
        try:
            content = self.file.read(name)
        except _broken(self.place) as error:
            raise ValueError(f"{name} of {self.place} cannot be read: {error}.") from error
        if kept is not None:
            write_atomically(kept, lambda file: file.write(content))
        return content

    def checksum(self, name: str) -> int:
        """CRC-32 of a file, as the zip's directory has it."""
        return self.file.getinfo(name).CRC


def open_archive(place: str | Path) -> Archive:
    """An archive: path of an unpacked folder, path of the zip, or the zip's address on the web.

    Of a zip on the web only the members that are read are fetched, by HTTP range requests; they
    are kept in the cache folder. Raises ``ValueError`` for a place that cannot be read.
    """
    address = str(place)
    is_remote = _is_remote(address)
    if not is_remote and not Path(address).exists():
        raise ValueError(
            f"archive is {address!r}; a folder, a zip file or an address http(s)://… was expected."
        )
    if not is_remote and Path(address).is_dir():
        return FolderArchive(Path(address))
    try:
        if not is_remote:
            return ZipArchive(address, zipfile.ZipFile(address))
        file = required("remotezip").RemoteZip(address, session=_session(), timeout=TIMEOUT)
    except _broken(address) as error:
        raise ValueError(f"archive {address} cannot be read as a zip file: {error}.") from error
    digest = hashlib.sha256(address.encode()).hexdigest()[:20]
    return ZipArchive(address, file, cache_folder() / f"pgdl-{digest}")


def _is_remote(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _broken(place: str) -> tuple[type[Exception], ...]:
    """What reading a damaged zip file raises, or one from a server that fails."""
    # NotImplementedError is zipfile's for a compression that it does not know.
    local = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError)
    return (*local, required("remotezip").RemoteZipError) if _is_remote(place) else local


def _session() -> Any:
    """Requests that are tried again when the server or the line fails."""
    session = required("requests").Session()
    retry = required("urllib3").Retry(
        total=RETRIES, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504)
    )
    adapter = required("requests.adapters").HTTPAdapter(max_retries=retry)
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    return session
