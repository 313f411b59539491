"""Finished runs side by side: settings, errors, flatness, and the means over their seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deep.run_columns import differing_settings, errors_of, flatness_of
from deep.standard_error import standard_error

PERCENT = ("train_error", "test_error", "gap", "local_energy")


def run_table(
    folders: Sequence[Path], sigmas: Sequence[float] = (0.3, 0.5)
) -> list[dict[str, Any]]:
    """A row for each run: run, the settings in which they differ, seed among them, and numbers.

    The numbers: train_error, test_error, gap, ``local_energy_<σ>``, weight_norm, the Hessian's
    largest eigenvalue and trace, and standard errors over the random vectors of these; None where
    they were not measured.

    Raises ``ValueError`` for no run, for one that is not finished, for two of the same settings
    and seed, and for flatness that was measured at other sigmas.
    """
    if not folders:
        raise ValueError("no run was given; the folders of finished runs were expected.")
    differing = differing_settings(folders)
    first: dict[tuple[str, ...], Path] = {}
    for i, folder in enumerate(folders):
        other = first.setdefault(tuple(values[i] for values in differing.values()), folder)
        if other != folder or folders.count(folder) > 1:
            raise ValueError(
                f"{other} and {folder} have the same settings and the same seed; "
                "different runs were expected."
            )
    numbers = [errors_of(folder) for folder in folders]
    for folder, row in zip(folders, numbers, strict=True):
        if (folder / "flatness" / "final.json").exists():
            row |= flatness_of(folder, sigmas)
    names = list(dict.fromkeys(name for row in numbers for name in row))
    return [
        {
            "run": str(folder),
            **{name: values[i] for name, values in differing.items()},
            **{name: numbers[i].get(name) for name in names},
        }
        for i, folder in enumerate(folders)
    ]


def over_seeds(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of ``run_table`` that differ in the seed only, as one: n, means, standard errors.

    The standard error of a number is in ``se_<number>``, None of a single run; means are over the
    runs in which it was measured.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    settings = [name for name, value in rows[0].items() if isinstance(value, str)]
    numbers = [n for n in rows[0] if n not in settings and not n.startswith("standard_error_")]
    shared = [name for name in settings if name not in ("run", "seed")]
    for row in rows:
        groups.setdefault(tuple(row[name] for name in shared), []).append(row)
    table = []
    for chosen, members in groups.items():
        entry: dict[str, Any] = {**dict(zip(shared, chosen, strict=True)), "n": len(members)}
        for name in numbers:
            values = [member[name] for member in members if member[name] is not None]
            entry[name] = statistics.mean(values) if values else None
            entry[f"se_{name}"] = standard_error(values)
        table.append(entry)
    return table


def in_markdown(table: Sequence[dict[str, Any]], settings: Sequence[str] = ()) -> str:
    """The rows of ``over_seeds``, with ± standard errors; errors and local energies in percent.

    Only these ``settings`` are shown (none: all in which the runs differ). Raises ``ValueError``
    for one in which they do not.
    """
    texts = [name for name, value in table[0].items() if isinstance(value, str)]
    for name in settings:
        if name not in texts:
            raise ValueError(f"settings has {name!r}; some of {texts} were expected.")
    numbers = [name for name in table[0] if f"se_{name}" in table[0]]
    titles = [*(settings or texts), "n", *(_title(name) for name in numbers)]
    lines = [titles, ["---"] * len(titles)]
    for row in table:
        cells = [row[name] for name in (settings or texts)] + [str(row["n"])]
        lines.append(cells + [_number(name, row) for name in numbers])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _title(name: str) -> str:
    return f"{name} %" if name.startswith(PERCENT) else name


def _number(name: str, row: dict[str, Any]) -> str:
    value, error = row[name], row[f"se_{name}"]
    if value is None:
        return ""
    scale = 100 if name.startswith(PERCENT) else 1
    digits = 0 if name == "hessian_trace" else 1
    spread = "" if error is None else f" ± {scale * error:.{digits}f}"
    return f"{scale * value:.{digits}f}{spread}"
