"""Machines trained on Fashion-MNIST as in Figure 1, made once for all slow tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import committee
from committee.training import train_restart
from message_passing import PatternGeometry

#: Algorithm and restart at seed 0. The last two end with one training error, the others with none.
TRAINED = (
    ("sgd-fast", 0),
    ("sgd-slow", 0),
    ("rsgd-fast", 0),
    ("rsgd-slow", 0),
    ("esgd", 2),
    ("sgd-slow", 1),
    ("esgd", 0),
)


@pytest.fixture(scope="session")
def trained_machine(fashion_mnist_directory: Path) -> Callable:
    """Function of algorithm and restart. It returns weights, pattern geometry and labels."""
    patterns = committee.load_patterns(
        "fashion-mnist", size=500, seed=0, directory=fashion_mnist_directory
    )
    geometry = PatternGeometry(patterns.train_patterns)

    @cache
    def machine(algorithm: str, restart: int) -> tuple:
        seed = np.random.SeedSequence(0).spawn(restart + 1)[restart]
        trained = train_restart(patterns, committee.ALGORITHMS[algorithm], 9, seed)
        return trained.weights, geometry, patterns.train_labels

    return machine
