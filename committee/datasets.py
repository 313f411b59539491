"""Pattern sets by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from committee.fashion_mnist import DataUnavailableError, reduced_fashion_mnist
from committee.patterns import PatternSet
from committee.synthetic import choose, hidden_manifold, random_patterns, teacher_patterns

SYNTHETIC: dict[str, Callable[[int, int, bool], PatternSet]] = {
    "hidden-manifold": hidden_manifold,
    "random": random_patterns,
    "teacher": teacher_patterns,
}
DATASETS = ("auto", "fashion-mnist", *SYNTHETIC)


def load_patterns(
    name: str = "auto",
    size: int = 500,
    seed: int = 0,
    directory: str | Path | None = None,
    balanced: bool = False,
) -> PatternSet:
    """Training and test patterns of a data set.

    Parameters
    ----------
    name : str
        "fashion-mnist": Dress against Coat, binarised ([P21] App. B.1); "hidden-manifold": as
        correlated as images, made from the seed; "random": i.i.d.; "teacher": i.i.d., labelled
        by a committee machine; "auto": Fashion-MNIST where it can be had, else the hidden
        manifold (``name`` and ``description`` of the result say which).
    size : int
        Number of training patterns P.
    seed : int
        Of the draw.
    directory : path, optional
        Folder with the four files of Fashion-MNIST, gzipped or not (or with a subfolder
        ``fashion-mnist`` that holds them). Without it they are looked for in the environment
        variable ``WIDE_FLAT_MINIMA_DATA``, in the user's cache, and are downloaded at last.
    balanced : bool
        Draw the same number of training patterns from each class, as far as they go.

    Raises
    ------
    ValueError
        An unknown name, a size that cannot be had, a corrupt file.
    DataUnavailableError
        No Fashion-MNIST in ``directory``, or (not for "auto") nowhere and no download either.
    """
    if name not in DATASETS:
        raise ValueError(f"name is {name!r}; one of {', '.join(DATASETS)} was expected.")
    if size < 1:
        raise ValueError(f"size is {size}; a positive number of patterns was expected.")
    if balanced and size % 2:
        raise ValueError(f"size is {size}; an even number was expected with balanced=True.")
    if seed < 0:
        raise ValueError(f"seed is {seed}; an integer ≥ 0 was expected.")
    if name in SYNTHETIC:
        if directory is not None:
            raise ValueError(f"directory is {str(directory)!r}, but {name!r} reads no files.")
        return SYNTHETIC[name](size, seed, balanced)
    try:
        return _fashion_mnist(size, seed, directory, balanced)
    except DataUnavailableError as error:
        if name != "auto" or directory is not None:
            raise
        patterns = hidden_manifold(size, seed, balanced)
        reason = f"{patterns.description} (Fashion-MNIST could not be had: {error.problem})"
        return replace(patterns, description=reason)


def _fashion_mnist(
    size: int, seed: int, directory: str | Path | None, balanced: bool
) -> PatternSet:
    train, test = reduced_fashion_mnist(directory)
    if size > len(train.labels):
        raise ValueError(
            f"size is {size}; Fashion-MNIST has {len(train.labels)} training patterns of the "
            "two classes after the median filter."
        )
    chosen = choose(train.labels, size, balanced, np.random.default_rng(seed))
    return PatternSet(
        train.patterns[chosen],
        train.labels[chosen],
        test.patterns,
        test.labels,
        name="fashion-mnist",
        description=(
            f"Fashion-MNIST, Dress (+1) against Coat (−1), binarised; {len(chosen)} of "
            f"{len(train.labels)} training patterns{' (balanced)' if balanced else ''} drawn "
            f"with seed {seed}, {len(test.labels)} test patterns"
        ),
    )
