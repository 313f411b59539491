"""What a machine learns: a set of training and test patterns with labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from message_passing.tools.validation import check_labels, check_patterns


@dataclass(frozen=True)
class PatternSet:
    """Training and test patterns, one per row, with labels ±1.

    Attributes
    ----------
    train_patterns : (P, N) float64
        Inputs in {±1}; real inputs are allowed.
    train_labels : (P,) float64
        Labels in {±1}.
    test_patterns, test_labels : (T, N), (T,) float64
    name : str
        Short name, such as ``"fashion-mnist"``.
    description : str
        One sentence for titles and records: source, seed, sizes.
    """

    train_patterns: NDArray[np.float64]
    train_labels: NDArray[np.float64]
    test_patterns: NDArray[np.float64]
    test_labels: NDArray[np.float64]
    name: str
    description: str

    def __post_init__(self) -> None:
        train = check_patterns(self.train_patterns, name="train_patterns")
        test = check_patterns(self.test_patterns, inputs=train.shape[1], name="test_patterns")
        checked = {
            "train_patterns": train,
            "train_labels": check_labels(self.train_labels, len(train), "train_labels"),
            "test_patterns": test,
            "test_labels": check_labels(self.test_labels, len(test), "test_labels"),
        }
        for field, array in checked.items():
            object.__setattr__(self, field, array)

    @property
    def constant_test_error(self) -> float:
        """Test error of the better constant answer: the line that a machine has to beat."""
        positive = float(np.mean(self.test_labels > 0))
        return min(positive, 1.0 - positive)
