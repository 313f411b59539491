"""The archive of the PGDL competition: a folder, a zip, or a zip on the web read by ranges.

*Predicting Generalization in Deep Learning*, NeurIPS 2020, arXiv 2012.07976. The public part is
``PUBLIC_ARCHIVE`` (8.8 GB); ``deep.pgdl.task`` explains its files.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from importlib import import_module
from pathlib import Path
from typing import Any

from message_passing.tools.downloads import cache_folder
from message_passing.tools.files import content_hash, write_atomically

PUBLIC_ARCHIVE = "http://storage.googleapis.com/gresearch/pgdl/public_data.zip"
RETRIES, TIMEOUT = 5, 60  # the latter in seconds


def required(package: str) -> Any:
    """A package of the extra ``pgdl``. Raises ``ValueError`` where it is not installed."""
    try:
        return import_module(package)
    except ImportError as error:
        raise ValueError(
            f"the PGDL archive needs the package {package} ({error}): "
            'pip install "wide-flat-minima[pgdl]"'
        ) from error


class Archive:
    """Named files, read whole, of an unpacked folder (no ``file``) or of a zip.

    Members of the zip that were read are kept in the folder ``cache``, if it is given.
    """

    def __init__(
        self, place: str, file: zipfile.ZipFile | None = None, cache: Path | None = None
    ) -> None:
        self.place, self.file, self.cache = place, file, cache
        if file is None:
            paths = [path for path in Path(place).rglob("*") if path.is_file()]
            self.names = frozenset(path.relative_to(place).as_posix() for path in paths)
        else:  # names such as ../x would be kept outside of the cache folder
            self.names = frozenset(
                name
                for name in file.namelist()
                if not name.startswith("/") and not name.endswith("/") and ".." not in name
            )

    def read(self, name: str) -> bytes:
        """Content of a file. Raises ``ValueError`` if it is missing or damaged."""
        self.check(name)
        if self.file is None:
            return (Path(self.place) / name).read_bytes()
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
        """CRC-32 of a file; the directory of a zip lists it."""
        self.check(name)
        return zlib.crc32(self.read(name)) if self.file is None else self.file.getinfo(name).CRC

    def json(self, name: str) -> Any:
        """Content of a JSON file. Raises ``ValueError`` if it is missing or damaged."""
        try:
            return json.loads(self.read(name))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{name} of {self.place} is not JSON: {error}.") from error

    def check(self, name: str) -> None:
        """Raises ``ValueError`` for a file that is not in the archive."""
        if name not in self.names:
            raise ValueError(f"{self.place} has no {name}.")


def open_archive(place: str | Path) -> Archive:
    """An archive: path of an unpacked folder, path of the zip, or the zip's address on the web.

    Only those members of a zip on the web are fetched that are read, by HTTP range requests. They
    are kept in the cache folder. Raises ``ValueError`` for a place that cannot be read.
    """
    address = str(place)
    if not _is_remote(address) and not Path(address).exists():
        raise ValueError(
            f"archive is {address!r}; a folder, a zip file or an address http(s)://… was expected."
        )
    if Path(address).is_dir():
        return Archive(address)
    try:
        if not _is_remote(address):
            return Archive(address, zipfile.ZipFile(address))
        file = required("remotezip").RemoteZip(address, session=_session(), timeout=TIMEOUT)
    except _broken(address) as error:
        raise ValueError(f"archive {address} cannot be read as a zip file: {error}.") from error
    return Archive(address, file, cache_folder() / f"pgdl-{content_hash(address)[:20]}")


def _is_remote(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _broken(place: str) -> tuple[type[Exception], ...]:
    """The errors of a damaged zip file, or of a server that fails."""
    # NotImplementedError is zipfile's for an unknown compression.
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
