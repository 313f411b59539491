"""Where a run lives, whether a folder holds it, and that one process at a time works on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from deep.config import TrainingConfig


class RunInUseError(RuntimeError):
    """Another process trains in this folder."""


def dataset_name(config: TrainingConfig) -> str:
    """Name of the data set, without the folder and the suffixes of an archive."""
    return Path(config.dataset).name.split(".")[0]


def cell_folder(runs: Path, config: TrainingConfig) -> Path:
    """Folder of the runs that differ in their seeds only: data set, model, options, algorithm."""
    options = [f"{name}-{value}" for name, value in config.model_options.items()]
    return runs / "-".join([dataset_name(config), config.model, *options, config.algorithm])


def run_folder(runs: Path, config: TrainingConfig) -> Path:
    """``<runs>/<data set>-<model>-<algorithm>/seed-<n>``."""
    return cell_folder(runs, config) / f"seed-{config.seed}"


def stored_config(folder: Path) -> dict[str, Any] | None:
    """The content of ``config.json``, None where there is none.

    Raises ``ValueError`` for a file that cannot be read.
    """
    path = folder / "config.json"
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} cannot be read: {error}.") from error


def difference(folder: Path, config: TrainingConfig) -> str | None:
    """A sentence on the first setting in which the run of ``folder`` is another one, or None.

    An archive may have been moved: of its path only the file's name counts. A setting that the
    stored configuration does not name has its default there.
    """
    stored = stored_config(folder)
    if stored is None:
        return None
    old = TrainingConfig.from_json(stored).as_json()
    new = json.loads(json.dumps(config.as_json()))
    for key in new:
        there, here = old[key], new[key]
        if there != here and not (key == "dataset" and _same_archive(str(there), str(here))):
            return f"{folder} holds another run: {key} is {there!r} there and {here!r} here."
    return None


def _same_archive(one: str, other: str) -> bool:
    return "." in Path(one).name and Path(one).name == Path(other).name


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Hold the folder of a run; the lock goes with the process, however it ends.

    Raises ``RunInUseError`` where another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunInUseError(f"{folder} is in use: another process trains there.") from error
    try:
        yield
    finally:
        lock.release()
