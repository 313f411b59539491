"""The archive of the PGDL competition: a zip file, which has a checksum for each file.

*Predicting Generalization in Deep Learning*, NeurIPS 2020, arXiv 2012.07976. ``PUBLIC_ARCHIVE`` is
the address of the public part (8.8 GB); ``deep.pgdl.task`` explains its files.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

PUBLIC_ARCHIVE = "http://storage.googleapis.com/gresearch/pgdl/public_data.zip"
# zipfile raises NotImplementedError for an unknown compression.
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError)


class Archive:
    """Reads whole files, by name, from the zip file at ``path``.

    Raises ``ValueError`` if ``path`` is no zip file, and for a missing or damaged file in it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise ValueError(
                f"archive is {str(path)!r}, which is no file; the zip file from {PUBLIC_ARCHIVE} "
                "was expected (not unpacked: the zip has the checksums)."
            )
        try:
            self.file = zipfile.ZipFile(self.path)
        except BROKEN as error:
            raise ValueError(f"{path} cannot be read as a zip file: {error}.") from error
        self.names = frozenset(self.file.namelist())

    def read(self, name: str) -> bytes:
        """Content of a file."""
        self.check(name)
        try:
            return self.file.read(name)
        except BROKEN as error:
            raise ValueError(f"{name} of {self.path} cannot be read: {error}.") from error

    def checksum(self, name: str) -> int:
        """CRC-32 of a file, from the directory of the zip."""
        self.check(name)
        return self.file.getinfo(name).CRC

    def json(self, name: str) -> Any:
        """Content of a JSON file."""
        try:
            return json.loads(self.read(name))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{name} of {self.path} is not JSON: {error}.") from error

    def check(self, name: str) -> None:
        """Raises ``ValueError`` for a file that is not in the archive."""
        if name not in self.names:
            raise ValueError(f"{self.path} has no {name}.")
