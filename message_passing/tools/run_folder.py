"""The folder of a run: ``config.json`` records its settings, versions and hardware.

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
    """Another process uses this folder."""


@dataclass(frozen=True)
class RunFolder:
    """Folder of a run, with its settings and a lock.

    Attributes
    ----------
    path : folder
    extensible : names
        Settings that are mappings. A later run may add entries to them.
    units : names
        Subfolders of finished units of work. Without ``config.json`` the folder is refused.
    """

    path: Path
    extensible: Sequence[str] = ()
    units: Sequence[str] = ()

    def config(self) -> dict[str, Any] | None:
        """The stored ``config.json``, or None. Raises ``ValueError`` if it is damaged."""
        path = self.path / "config.json"
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; a folder was expected.")
        return read_json(path, "Give another folder.") if path.exists() else None

    def check(self, settings: Mapping[str, Any]) -> None:
        """Refuse a folder that holds results of other or unknown settings.

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
        """Write ``config.json`` after ``check``.

        A stored one gets the new entries, versions and hardware.
        """
        self.check(settings)
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
        """Hold a lock on the folder. It ends with the process, however that ends.

        Raises ``RunInUseError`` if another process holds the lock.
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
        """One sentence per setting that differs. Extensible settings may have new entries."""
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
    """Settings in JSON's types. A dataclass becomes a mapping with its class name as ``kind``."""
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
    """Run ``make`` on the task of each missing file, and ``store`` what it returns.

    ``options`` go to ``run_tasks``.
    """
    missing = [path for path in tasks if not path.exists()]
    todo = [tasks[path] for path in missing]
    for index, made in run_tasks(make, todo, progress=progress and bool(todo), **options):
        store(missing[index], made)


def measured_once(
    path: Path, options: Mapping[str, Any], measured: Any, measure: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """The result of ``measure()``, kept in the JSON file ``path`` with its options.

    The stored result counts if its ``options`` and the hash of ``measured``, a file or an array,
    are the same. Otherwise ``measure`` is called again.
    """
    key = {"options": as_json(options), "content": content_hash(measured)}
    stored = read_json(path) if path.exists() else {}
    if {name: stored.get(name) for name in key} != key:
        stored = {**key, **measure()}
        write_json(path, stored)
    return stored
