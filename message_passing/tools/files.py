"""Reading and writing files: a file is either whole or missing, and errors name it.

Every writer fills a temporary file in the same folder and renames it when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

AGAIN = "Delete it and run the command again: it will be computed anew."


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> Path:
    """Let ``write`` fill a temporary file, then rename it to ``path``. Creates the folder.

    Raises ``OSError`` that names ``path`` if the folder is read-only or the disk is full.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise type(error)(error.errno, f"{path} cannot be written ({error.strerror})") from error
    return path


_DAMAGED = (ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error)


@contextmanager
def _reading(path: str | Path, kind: str, advice: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; a {kind} file was expected.") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error}). {advice}") from error
    except _DAMAGED as error:
        # numpy's message is about pickles, which we do not read.
        reason = "" if kind == ".npz" else f" ({error})"
        raise ValueError(f"{path} cannot be read as {kind}{reason}. {advice}") from error


def write_npz(path: str | Path, **arrays: Any) -> Path:
    """Write named arrays as a compressed ``.npz`` file."""
    return write_atomically(path, lambda file: np.savez_compressed(file, **arrays))


def read_npz(path: str | Path, advice: str = AGAIN) -> dict[str, np.ndarray]:
    """Arrays of a ``.npz`` file. Pickles are refused.

    Raises ``ValueError`` that names the file, with ``advice``, if it is missing or damaged.
    """
    with _reading(path, ".npz", advice), np.load(path, allow_pickle=False) as file:
        return dict(file)


def arrays_of(result: Any) -> dict[str, np.ndarray]:
    """The fields of a dataclass as arrays. ``from_arrays`` is the inverse."""
    return {field.name: np.asarray(getattr(result, field.name)) for field in fields(result)}


def from_arrays(kind: type, arrays: Mapping[str, np.ndarray]) -> Any:
    """A dataclass from its stored fields. Raises ``ValueError`` if a field is missing."""
    missing = [field.name for field in fields(kind) if field.name not in arrays]
    if missing:
        raise ValueError(f"the stored {kind.__name__} lacks {', '.join(missing)}.")
    return kind(
        **{
            field.name: array.item() if (array := arrays[field.name]).ndim == 0 else array
            for field in fields(kind)
        }
    )


def write_json(path: str | Path, content: Any) -> Path:
    """Write ``content`` as indented JSON."""
    text = json.dumps(content, indent=2, ensure_ascii=False, sort_keys=False) + "\n"
    return write_atomically(path, lambda file: file.write(text.encode()))


def read_json(path: str | Path, advice: str = AGAIN) -> dict[str, Any]:
    """The mapping in a JSON file.

    Raises ``ValueError`` that names the file, with ``advice``, if it is missing or no mapping.
    """
    with _reading(path, "JSON", advice):
        content = json.loads(Path(path).read_text())
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds a {type(content).__name__}; a mapping was expected. {advice}"
        )
    return content


def write_table(path: str | Path, table: pd.DataFrame) -> Path:
    """Write a table as CSV. Floats keep six significant digits."""
    text = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    return write_atomically(path, lambda file: file.write(text.encode()))


def write_records(path: str | Path, table: pd.DataFrame) -> Path:
    """Write a table as JSON records. Floats keep all their digits."""
    return write_json(path, {"rows": table.to_dict("records")})


def read_records(path: str | Path, advice: str = AGAIN) -> pd.DataFrame:
    """The table in a file of ``write_records``.

    Raises ``ValueError`` that names the file, with ``advice``, if it is missing or no table.
    """
    import pandas as pd

    rows = read_json(path, advice).get("rows")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} holds no rows. {advice}")
    return pd.DataFrame(rows)


def read_table(path: str | Path, advice: str = AGAIN) -> pd.DataFrame:
    """The table in a CSV file.

    Raises ``ValueError`` that names the file, with ``advice``, if it is missing or no table.
    """
    import pandas as pd

    with _reading(path, "CSV", advice):  # pandas' parser errors are ValueErrors
        return pd.read_csv(path)


def save_figure(figure: Any, path: str | Path) -> list[Path]:
    """Write a matplotlib figure as ``path.pdf`` and ``path.png``, ignoring a suffix of ``path``."""
    stem = Path(path).with_suffix("")

    def save(kind: str) -> Path:
        return write_atomically(
            stem.with_suffix(f".{kind}"),
            lambda file: figure.savefig(file, format=kind, dpi=160, bbox_inches="tight"),
        )

    return [save("pdf"), save("png")]


def content_hash(*contents: Any) -> str:
    """SHA-256 of arrays, files (``Path``), and anything that JSON can hold, in hexadecimal.

    The shape and number format of an array are part of its content. The name and date of a file
    are not.
    """
    digest = hashlib.sha256()
    for content in contents:
        if isinstance(content, Path):
            with content.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        elif isinstance(content, np.ndarray):
            digest.update(f"{content.dtype.str}{content.shape}".encode())
            digest.update(np.ascontiguousarray(content).tobytes())
        else:
            digest.update(json.dumps(content, sort_keys=True).encode())
    return digest.hexdigest()
