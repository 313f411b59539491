"""A user's own network from files: weights and patterns in ``.npz`` or ``.npy``."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from message_passing.tools.validation import check_labels, check_patterns, check_weights

#: Names of the patterns and labels in a file, in the order of search.
PATTERN_KEYS = (("train_patterns", "train_labels"), ("patterns", "labels"))


@dataclass(frozen=True)
class Network:
    """R machines and the training patterns they share.

    Attributes
    ----------
    weights : (R, K, N)
    patterns : (P, N)
    labels : (P,)
    """

    weights: NDArray[np.float64]
    patterns: NDArray[np.float64]
    labels: NDArray[np.float64]

    @property
    def size(self) -> str:
        """One line for titles and terminals."""
        machines, K, N = self.weights.shape
        return f"{machines} machine{'s' * (machines > 1)}, K={K}, N={N}, P={len(self.labels)}"


def load_network(weights: str | Path, patterns: str | Path | None = None) -> Network:
    """Read weights and patterns, and check that they fit.

    Parameters
    ----------
    weights : path
        ``.npz`` with an array ``weights`` (or with one array only), or ``.npy``. The shape is
        (K, N), or (R, K, N) for R machines on the same patterns. K is odd. The output of hidden
        unit k is the sign of ``weights[k] @ x``. There are no biases: use an input that is
        always 1.
    patterns : path, optional
        ``.npz`` with ``patterns`` (P, N) and ``labels`` (P,) in ±1, or ``train_patterns`` and
        ``train_labels``. Default: the file of the weights.

    Raises
    ------
    ValueError
        A file that is missing or unreadable, missing keys, shapes that do not fit, even K,
        labels other than ±1, NaN. The message names the file.
    """
    weights_path, patterns_path = Path(weights), Path(patterns or weights)
    array = _the_weights(_read(weights_path), weights_path)
    with _named(weights_path):
        array = check_weights(array)
        if array.ndim == 2:
            array = array[None]
        if array.ndim != 3 or not len(array):
            raise ValueError(f"weights has shape {array.shape}; (K, N) or (R, K, N) was expected.")
    X, y = _the_patterns(_read(patterns_path), patterns_path, given=patterns is not None)
    with _named(patterns_path):
        X = check_patterns(X, inputs=array.shape[2])
        y = check_labels(y, len(X))
    return Network(array, X, y)


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """Named arrays of a file; the only array of a ``.npy`` file has no name."""
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return {"": found}
        with found:
            return dict(found)
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; a .npz or .npy file was expected.") from None
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read as a .npz or .npy file of numbers ({error})."
        ) from error


def _the_weights(arrays: dict[str, NDArray[Any]], path: Path) -> NDArray[Any]:
    if "weights" in arrays:
        return arrays["weights"]
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    raise ValueError(
        f"{path} has the arrays {_names(arrays)}; one called weights, or one only, was expected."
    )


def _the_patterns(
    arrays: dict[str, NDArray[Any]], path: Path, given: bool
) -> tuple[NDArray[Any], NDArray[Any]]:
    for names in PATTERN_KEYS:
        if all(name in arrays for name in names):
            return arrays[names[0]], arrays[names[1]]
    hint = "" if given else " Give the file of the patterns with --patterns."
    raise ValueError(
        f"{path} has the arrays {_names(arrays)}; patterns and labels, or train_patterns and "
        f"train_labels, were expected.{hint}"
    )


def _names(arrays: dict[str, NDArray[Any]]) -> str:
    return "[" + ", ".join(name or "(unnamed)" for name in arrays) + "]"


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Prefix errors about the content of a file with its name."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
