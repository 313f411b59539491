"""Checks of options. Each error names the option, its value and the expected one."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints


def check_numbers(
    settings: Any,
    positive: Sequence[str] = (),
    non_negative: Sequence[str] = (),
    below_one: Sequence[str] = (),
    fractions: Sequence[str] = (),
) -> None:
    """Raise ``ValueError`` if a number in ``settings`` is out of its range. None is allowed."""
    for names, text, good in (
        (positive, "a positive number", lambda x: x > 0),
        (non_negative, "a non-negative number", lambda x: x >= 0),
        (below_one, "a number in [0, 1)", lambda x: 0 <= x < 1),
        (fractions, "a number from 0 to 1", lambda x: 0 <= x <= 1),
    ):
        for name in names:
            value = getattr(settings, name)
            if value is not None:
                check(name, value, math.isfinite(value) and good(value), text)


def check_words(settings: Any) -> None:
    """Raise ``ValueError`` if a ``Literal`` field of a dataclass holds another word."""
    hints = get_type_hints(type(settings))
    for name in (field.name for field in fields(settings)):
        if get_origin(hints[name]) is Literal:
            check_one_of(name, getattr(settings, name), get_args(hints[name]))


def check_one_of(name: str, value: str, expected: Collection[str]) -> None:
    """Raise ``ValueError`` if ``value`` is none of the expected words."""
    check(name, value, value in expected, " or ".join(map(repr, expected)))


def check_seeds(seeds: Sequence[int]) -> None:
    """Raise ``ValueError`` if ``seeds`` is empty or repeats a seed."""
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds is {seeds}; at least one was expected, each once.")


def check(name: str, value: Any, good: bool, expected: str) -> None:
    """Raise ``ValueError`` unless ``good``."""
    if not good:
        raise ValueError(f"{name} is {value!r}; {expected} was expected.")
