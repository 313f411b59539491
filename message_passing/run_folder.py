"""The folder of a run: ``config.json`` says with which settings and on what it was made.

Results in one folder belong to the same settings: another run with them resumes, one with other
settings is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

from message_passing.hardware import describe_machine, git_revision
from message_passing.storage import write_json


@dataclass(frozen=True)
class RunFolder:
    """Where the files of a run are.

    Attributes
    ----------
    path : folder
    extensible : names
        Settings that are mappings, and may get new entries in a later run.
    """

    path: Path
    extensible: Sequence[str] = ("engines",)

    def config(self) -> dict[str, Any] | None:
        """The stored ``config.json``, if there is one."""
        path = self.path / "config.json"
        try:
            return dict(json.loads(path.read_text()))
        except FileNotFoundError:
            return None
        except NotADirectoryError as error:
            raise ValueError(f"{self.path} is a file; a folder was expected.") from error
        except ValueError as error:
            raise ValueError(f"{path} is not JSON ({error}); give another folder.") from error

    def check(self, settings: dict[str, Any]) -> None:
        """Refuse a folder whose results belong to other settings (``ValueError``)."""
        stored = self.config()
        if stored is None:
            return
        differences = self._differences(stored.get("settings", {}), settings)
        if differences:
            raise ValueError(
                f"{self.path} holds results of other settings: {'; '.join(differences)}. "
                "Give another folder with --out, or the same settings."
            )

    def store_config(self, title: str, settings: dict[str, Any], **about: Any) -> None:
        """Write ``config.json`` (the last file of a new folder), or add what is new."""
        stored = self.config() or {}
        made = {
            **describe_machine(),
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

    def _differences(self, stored: Any, wanted: Any, name: str = "") -> list[str]:
        """Sentences on the settings that differ; entries of extensible ones may be added."""
        if isinstance(stored, dict) and isinstance(wanted, dict):
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
    """Settings in JSON's types: dataclasses become mappings."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__name__, **{k: as_json(v) for k, v in vars(value).items()}}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no infinity
    return value
