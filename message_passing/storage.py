"""Writing results so that nothing is lost: a file is either whole or not there.

Every writer goes to a temporary name in the same folder and renames it when it is complete.
"""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> Path:
    """Let ``write`` fill a temporary file, then rename it to ``path`` (folders are made)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def write_npz(path: str | Path, **arrays: Any) -> Path:
    """Write named arrays as a compressed ``.npz`` file."""
    return write_atomically(path, lambda file: np.savez_compressed(file, **arrays))


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays of a ``.npz`` file that this package has written.

    Raises ``ValueError`` if it is damaged.
    """
    try:
        with np.load(path) as file:
            return dict(file)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read ({error}). Delete it, and run the command again: it will "
            "be computed anew."
        ) from error


def arrays_of(result: Any) -> dict[str, np.ndarray]:
    """The fields of a dataclass as arrays, to be stored; see ``from_arrays``."""
    return {field.name: np.asarray(getattr(result, field.name)) for field in fields(result)}


def from_arrays(kind: type, arrays: Mapping[str, np.ndarray]) -> Any:
    """A dataclass from its stored fields."""
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


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows (mappings with the same keys) as CSV; floats keep six significant digits."""
    if not rows:
        raise ValueError("rows is empty; at least one row was expected.")

    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(rows[0].keys())
    for row in rows:
        table.writerow(
            f"{value:.6g}" if isinstance(value, float | np.floating) else value
            for value in row.values()
        )
    return write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def save_figure(figure: Any, path: str | Path) -> list[Path]:
    """Write a matplotlib figure as ``path.pdf`` and ``path.png`` (suffix of ``path`` ignored)."""
    stem = Path(path).with_suffix("")

    def save(kind: str) -> Path:
        return write_atomically(
            stem.with_suffix(f".{kind}"),
            lambda file: figure.savefig(file, format=kind, dpi=160, bbox_inches="tight"),
        )

    return [save("pdf"), save("png")]
