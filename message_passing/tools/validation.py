"""Checks of arrays from users. An error names the argument, its value and the expectation."""

from __future__ import annotations

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


def check_least(settings: object, **least: int) -> None:
    """Raise ``ValueError`` for an attribute below its least value.

    None is allowed: it stands for the default of a setting.
    """
    for name, bound in least.items():
        value = getattr(settings, name)
        if value is not None and value < bound:
            raise ValueError(f"{name} is {value}; an integer ≥ {bound} was expected.")


def _check_finite(array: NDArray[np.float64], name: str) -> None:
    bad = ~np.isfinite(array)
    if np.any(bad):
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{name} contains {array[where]} at index {where}; finite numbers were expected."
        )
