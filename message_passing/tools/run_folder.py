"""The folder of a run: ``config.json`` says with which settings and on what it was made.

Results in one folder belong to the same settings. A run with the same settings resumes; a run
with other settings is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from message_passing.tools.commands import CommandError
from message_passing.tools.files import content_hash, read_json, write_json
from message_passing.tools.hardware import describe_hardware, git_revision
from message_passing.tools.parallel import run_tasks


class RunInUseError(CommandError):
    """Another process works in this folder."""


@dataclass(frozen=True)
class RunFolder:
    """Where the files of a run are.

    Attributes
    ----------
    path : folder
    extensible : names
        Settings that are mappings, and may get new entries in a later run.
    units : names
        Subfolders that hold finished units of work. They never count without their settings.
    """

    path: Path
    extensible: Sequence[str] = ()
    units: Sequence[str] = ()

    def config(self) -> dict[str, Any] | None:
        """The stored ``config.json``, if there is one. Raises ``ValueError`` if it is damaged."""
        path = self.path / "config.json"
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; a folder was expected.")
        return read_json(path, "Give another folder.") if path.exists() else None

    def check(self, settings: Mapping[str, Any]) -> None:
        """Refuse a folder whose results belong to other settings, or to unknown ones.

        Raises ``ValueError``. Nothing is created.
        """
        stored = self.config()
        if stored is None:
            if orphans := [name for name in self.units if (self.path / name).exists()]:
                raise ValueError(
                    f"{self.path} holds {orphans[0]} but no config.json, so that its settings are "
                    "unknown. Give another folder, or delete this one."
                )
            return
        differences = self._differences(stored.get("settings", {}), settings)
        if differences:
            raise ValueError(
                f"{self.path} holds results of other settings: {'; '.join(differences)}. "
                "Give another folder, or the same settings."
            )

    def store_config(self, title: str, settings: Mapping[str, Any], **about: Any) -> None:
        """Write ``config.json`` (the last file of a new folder), or add what is new."""
        stored = self.config() or {}
        made = {
            **describe_hardware(),
            "git_revision": git_revision(Path(__file__).parent) or "not a git checkout",
        }
        makers = stored.get("made_by", [])
        before = stored.get("settings", {})
        together = {key: {**before.get(key, {}), **settings[key]} for key in self.extensible}
        content = {
            "title": title,
            "settings": {**settings, **together},
            **about,
            "made_by": makers if made in makers else [*makers, made],
        }
        if content != stored:
            write_json(self.path / "config.json", content)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Hold the folder; the lock goes with the process, however it ends.

        Raises ``RunInUseError`` where another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise RunInUseError(f"{self.path} is in use: another process works there.") from error
        try:
            yield
        finally:
            lock.release()

    def _differences(self, stored: Any, wanted: Any, name: str = "") -> list[str]:
        """Sentences on the settings that differ; entries of extensible ones may be added."""
        if isinstance(stored, Mapping) and isinstance(wanted, Mapping):
            common = stored.keys() & wanted if name in self.extensible else stored.keys() | wanted
            return [
                difference
                for key in sorted(common)
                for difference in self._differences(
                    stored.get(key), wanted.get(key), f"{name}.{key}" if name else key
                )
            ]
        return [] if stored == wanted else [f"{name} is {stored!r} there and {wanted!r} here"]


def as_json(value: Any) -> Any:
    """Settings in JSON's types: dataclasses become mappings with their kind."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__name__, **{k: as_json(v) for k, v in vars(value).items()}}
    if isinstance(value, Mapping):
        return {key: as_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no infinity
    return str(value) if isinstance(value, Path) else value


def make_missing(
    make: Callable[..., Any],
    tasks: Mapping[Path, Any],
    store: Callable[[Path, Any], object],
    progress: bool = False,
    **options: Any,
) -> None:
    """Let ``make`` its task for each file that is not there, and ``store`` what it returns.

    ``options`` are those of ``run_tasks``.
    """
    missing = [path for path in tasks if not path.exists()]
    todo = [tasks[path] for path in missing]
    for index, made in run_tasks(make, todo, progress=progress and bool(todo), **options):
        store(missing[index], made)


def measured_once(
    path: Path, options: Mapping[str, Any], measured: Any, measure: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """What ``measure()`` returns, kept in the JSON file ``path`` with its options.

    The file counts if it was measured with the same ``options`` on the same content: ``measured``
    is a file or an array, known by its hash. Otherwise it is measured again.
    """
    key = {"options": as_json(options), "content": content_hash(measured)}
    stored = read_json(path) if path.exists() else {}
    if {name: stored.get(name) for name in key} != key:
        stored = {**key, **measure()}
        write_json(path, stored)
    return stored
