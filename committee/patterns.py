"""Training and test patterns with labels: your own arrays, or a data set by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from message_passing.tools.downloads import DataUnavailableError
from message_passing.tools.validation import check_labels, check_patterns

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

DATASETS = ("auto", "fashion-mnist", "hidden-manifold", "random", "teacher")
PAIR = ("Dress", "Coat")


@dataclass(frozen=True, repr=False)
class PatternSet:
    """Training and test patterns, one per row, with labels ±1.

    Attributes
    ----------
    train_patterns : (P, N) float64
        Inputs in {±1}. Real inputs are allowed.
    train_labels : (P,) float64
        Labels in {±1}.
    test_patterns, test_labels : (T, N), (T,) float64
        T = 0 means no test patterns. Test errors are NaN then.
    name : str
        Short name, such as ``"fashion-mnist"``.
    description : str
        One sentence for titles and records: source, seed, sizes.
    zero_one : bool
        Accept inputs that are all 0 or 1. Otherwise they raise ``ValueError``, because they are
        often ±1 patterns in another coding.
    """

    train_patterns: NDArray[np.float64]
    train_labels: NDArray[np.float64]
    test_patterns: NDArray[np.float64]
    test_labels: NDArray[np.float64]
    name: str
    description: str
    zero_one: bool = False

    def __post_init__(self) -> None:
        train = check_patterns(self.train_patterns, name="train_patterns")
        test = np.asarray(self.test_patterns, np.float64)
        if len(self.test_labels) or test.shape != (0, train.shape[1]):
            test = check_patterns(test, inputs=train.shape[1], name="test_patterns")
        for name, array in (("train_patterns", train), ("test_patterns", test)):
            if not self.zero_one and np.any(array == 0) and np.all((array == 0) | (array == 1)):
                raise ValueError(
                    f"{name} contains 0 and 1 only; -1 and +1 were expected. Pass 2 * X - 1, or "
                    "zero_one=True to learn the patterns as they are."
                )
        checked = {
            "train_patterns": train,
            "train_labels": check_labels(self.train_labels, len(train), "train_labels"),
            "test_patterns": test,
            "test_labels": check_labels(self.test_labels, len(test), "test_labels"),
        }
        for field, array in checked.items():
            object.__setattr__(self, field, array)

    @classmethod
    def from_arrays(
        cls,
        X: ArrayLike,
        y: ArrayLike,
        X_test: ArrayLike | None = None,
        y_test: ArrayLike | None = None,
        *,
        name: str = "own data",
        zero_one: bool = False,
    ) -> PatternSet:
        """Patterns and labels from your own arrays.

        Parameters
        ----------
        X, y : (P, N), (P,)
            Training patterns, ±1 or real, and labels ±1.
        X_test, y_test : (T, N), (T,), optional
            Test patterns and labels. Without them test errors are NaN.
        name : str
        zero_one : bool
            Allow patterns that consist of 0 and 1.

        Raises ``ValueError`` for shapes that do not fit, labels other than ±1, NaN, patterns of
        0 and 1 without ``zero_one``, and one of ``X_test`` and ``y_test`` without the other.
        """
        if (X_test is None) != (y_test is None):
            missing, given = ("X_test", "y_test") if X_test is None else ("y_test", "X_test")
            raise ValueError(f"{missing} is None, but {given} is given; both were expected.")
        train = check_patterns(X, name="train_patterns")
        P, N = train.shape
        test = np.empty((0, N)) if X_test is None else check_patterns(X_test, N, "test_patterns")
        test_labels = np.empty(0) if y_test is None else np.asarray(y_test, np.float64)
        text = f"{name}: {P} training patterns of {N} inputs, {len(test)} test patterns"
        return cls(train, np.asarray(y, np.float64), test, test_labels, name, text, zero_one)

    @property
    def constant_test_error(self) -> float:
        """Test error of the better constant answer, which a machine has to beat."""
        if not len(self.test_labels):
            return float("nan")
        positive = float(np.mean(self.test_labels > 0))
        return min(positive, 1.0 - positive)

    def to_frame(self) -> pd.DataFrame:
        """One row per pattern: split, label, and the inputs 0 to N − 1."""
        import pandas as pd

        inputs = np.concatenate([self.train_patterns, self.test_patterns])
        table = pd.DataFrame(inputs, columns=range(inputs.shape[1]))
        table.insert(0, "label", np.concatenate([self.train_labels, self.test_labels]))
        sizes = [len(self.train_labels), len(self.test_labels)]
        table.insert(0, "split", np.repeat(["train", "test"], sizes))
        return table

    def plot(self, ax: Axes | None = None) -> Axes:
        """The first training patterns, as images if N is a square number."""
        from committee.figures import plot_patterns

        return plot_patterns(self, ax)

    def __repr__(self) -> str:
        P, N = self.train_patterns.shape
        return f"PatternSet({self.name!r}, P={P}, N={N}, {len(self.test_labels)} test patterns)"


def load_patterns(
    name: str = "auto",
    size: int = 500,
    seed: int = 0,
    directory: str | Path | None = None,
    balanced: bool = False,
    classes: tuple[str, str] = PAIR,
) -> PatternSet:
    """Training and test patterns of a data set.

    Parameters
    ----------
    name : str
        "fashion-mnist": two classes, binarised ([P21] App. B.1). "hidden-manifold": made from the
        seed, as correlated as images are. "random": i.i.d. "teacher": i.i.d., labelled by a
        committee machine. "auto": Fashion-MNIST if it is available, else the hidden manifold.
        ``name`` and ``description`` of the result say which.
    size : int
        Number of training patterns P.
    seed : int
        Seed of the draw.
    directory : path, optional
        Folder with the four files of Fashion-MNIST, gzipped or not, directly or in a subfolder
        ``fashion-mnist``. Without it, the folder in the environment variable
        ``WIDE_FLAT_MINIMA_DATA`` and the user's cache are tried, then a download.
    balanced : bool
        Draw the same number of training patterns from each class. The rarer class limits it.
    classes : two names
        Classes of Fashion-MNIST (see ``fashion_mnist.CLASSES``). The first has the label +1.

    Warns
    -----
    UserWarning
        The SHA-256 of the files differs from the published ones. The description also says so.

    Raises
    ------
    ValueError
        An unknown name or class, a size that is not available, a corrupt file.
    DataUnavailableError
        No Fashion-MNIST in ``directory``. Without ``directory``, and not for "auto": no files
        are found and the download fails.
    """
    from committee import synthetic

    if name not in DATASETS:
        raise ValueError(f"name is {name!r}; one of {', '.join(DATASETS)} was expected.")
    if size < 1:
        raise ValueError(f"size is {size}; a positive number of patterns was expected.")
    if balanced and size % 2:
        raise ValueError(f"size is {size}; an even number was expected with balanced=True.")
    if seed < 0:
        raise ValueError(f"seed is {seed}; an integer ≥ 0 was expected.")
    if name in synthetic.MAKERS:
        if directory is not None:
            raise ValueError(f"directory is {str(directory)!r}, but {name!r} reads no files.")
        if tuple(classes) != PAIR:
            raise ValueError(f"classes is {classes!r}, but {name!r} has no images of classes.")
        return synthetic.make_patterns(name, size, seed, balanced)
    try:
        return _fashion_mnist(size, seed, directory, balanced, classes)
    except DataUnavailableError as error:
        if name != "auto" or directory is not None or tuple(classes) != PAIR:
            advice = "Without any download: --data hidden-manifold."
            raise DataUnavailableError(str(error).removesuffix("."), advice) from error
        patterns = synthetic.make_patterns("hidden-manifold", size, seed, balanced)
        reason = f"{patterns.description} (Fashion-MNIST could not be had: {error.problem})"
        return replace(patterns, description=reason)


def _fashion_mnist(
    size: int, seed: int, directory: str | Path | None, balanced: bool, classes: tuple[str, str]
) -> PatternSet:
    from committee.fashion_mnist import reduced_fashion_mnist
    from committee.synthetic import choose

    data = reduced_fashion_mnist(directory, classes)
    available = len(data.train_labels)
    if size > available:
        raise ValueError(
            f"size is {size}; Fashion-MNIST has {available} training patterns of the two classes "
            "after the median filter."
        )
    chosen = choose(data.train_labels, size, balanced, np.random.default_rng(seed))
    description = (
        f"{data.description}; {len(chosen)} of {available} training patterns"
        f"{' (balanced)' if balanced else ''} drawn with seed {seed}, "
        f"{len(data.test_labels)} test patterns"
    )
    patterns, labels = data.train_patterns[chosen], data.train_labels[chosen]
    return replace(data, train_patterns=patterns, train_labels=labels, description=description)
