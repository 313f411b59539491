"""Checks of users' input. An error names the argument, its value and the expectation."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import ArrayLike, NDArray


def check_weights(weights: ArrayLike, name: str = "weights") -> NDArray[np.float64]:
    """First-layer weights (..., K, N) as float64: K odd, finite, no row of zeros.

    Raises ``ValueError`` otherwise.
    """
    array = np.ascontiguousarray(weights, dtype=np.float64)
    if array.ndim < 2:
        raise ValueError(
            f"{name} has shape {array.shape}; (K, N) was expected: hidden units, inputs."
        )
    if array.shape[-2] % 2 == 0:
        raise ValueError(
            f"{name} has K = {array.shape[-2]} hidden units; an odd number was expected, "
            "so that the majority is never a tie."
        )
    _check_finite(array, name)
    if array.size and not np.all(np.any(array != 0, axis=-1)):
        raise ValueError(f"{name} has a row of zeros; every hidden unit needs a direction.")
    return array


def check_patterns(
    patterns: ArrayLike, inputs: int | None = None, name: str = "patterns"
) -> NDArray[np.float64]:
    """Patterns (P, N) as float64: finite, at least one, with ``N == inputs`` if that is given.

    Raises ``ValueError`` otherwise.
    """
    array = np.ascontiguousarray(patterns, dtype=np.float64)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} has shape {array.shape}; (P, N) with P, N ≥ 1 was expected.")
    if inputs is not None and array.shape[1] != inputs:
        raise ValueError(
            f"{name} has N = {array.shape[1]} inputs per pattern; the weights have {inputs}."
        )
    _check_finite(array, name)
    return array


def check_labels(
    labels: ArrayLike, count: int | None = None, name: str = "labels"
) -> NDArray[np.float64]:
    """Labels (P,) as float64, each +1 or −1. Raises ``ValueError`` otherwise."""
    array = np.ascontiguousarray(labels, dtype=np.float64)
    if array.ndim != 1 or (count is not None and len(array) != count):
        expected = "(P,)" if count is None else f"({count},)"
        raise ValueError(f"{name} has shape {array.shape}; {expected} was expected.")
    wrong = array[np.abs(array) != 1]
    if wrong.size:
        raise ValueError(f"{name} contains {wrong[0]:g}; only +1 and -1 are labels.")
    return array


def check_sigmas(sigmas: ArrayLike) -> NDArray[np.float64]:
    """The noise intensities as an array: finite, ≥ 0, increasing. Raises ``ValueError``."""
    array = np.atleast_1d(np.asarray(sigmas, dtype=np.float64))
    if array.ndim != 1 or not len(array) or not np.all(np.isfinite(array)) or array[0] < 0:
        raise ValueError(f"sigmas is {sigmas!r}; a list of numbers ≥ 0 was expected.")
    if np.any(np.diff(array) <= 0):
        raise ValueError(f"sigmas is {sigmas!r}; strictly increasing numbers were expected.")
    return array


def check_least(settings: object, **least: int) -> None:
    """Raise ``ValueError`` for an attribute below its least value.

    None is allowed: it stands for the default of a setting.
    """
    for name, bound in least.items():
        value = getattr(settings, name)
        if value is not None and value < bound:
            raise ValueError(f"{name} is {value}; an integer ≥ {bound} was expected.")


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


def _check_finite(array: NDArray[np.float64], name: str) -> None:
    bad = ~np.isfinite(array)
    if np.any(bad):
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{name} contains {array[where]} at index {where}; finite numbers were expected."
        )
