"""Statistics of independent chains: jackknife errors, drift, independent states."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr  # scipy.stats takes half a second to import

#: The burn-in is doubled until half of it is worth this number of independent states (R̂ < 1.12).
FEWEST_INDEPENDENT = 4.0
#: Probability that settled chains fail at least one of the tests on the way to a point.
FALSE_ALARMS = 1e-3


def largest_deviation(tests: int) -> float:
    """Limit, in standard errors, for the largest deviation among this number of tests."""
    return float(-ndtri(FALSE_ALARMS / tests))


def with_and_without(blocks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over all blocks, followed by the means that leave out one block each."""
    return np.concatenate([[blocks.mean()], (blocks.sum() - blocks) / (len(blocks) - 1)])


def drift(halves: NDArray[np.float64]) -> float:
    """Change between two halves (chains, 2), in standard errors over the chains."""
    change = halves[:, 1] - halves[:, 0]
    return deviation(change.mean(), change.std(ddof=1) / np.sqrt(len(change)), len(change))


def deviation(difference: float, error: float, blocks: int) -> float:
    """|difference| in standard errors, where the error was estimated from a few blocks.

    Student's t is converted into the equally improbable deviation of a Gaussian.
    """
    if error == 0:
        return 0.0
    return float(-ndtri(stdtr(blocks - 1, -abs(difference) / error)))


def independent_states(moments: NDArray[np.float64]) -> float:
    """Effective sample size of half a chain: Var x / Var(mean of x over half a chain).

    ``moments`` (chains, 2, 2) are the means of x and x² over each half of each chain. The result
    is also 1/(R̂² − 1) of the split chains.
    """
    means = moments[:, :, 0]
    total = moments[:, :, 1].mean() - means.mean() ** 2
    between = means.var(ddof=1)
    return float(total / between) if between > 0 else np.inf


def jackknife(values: NDArray[np.float64]) -> tuple[float, float]:
    """Bias-corrected estimate and standard error, from :func:`with_and_without` of blocks."""
    full, without = values[0], values[1:]
    n = len(without)
    estimate = n * full - (n - 1) * without.mean()
    return float(estimate), float(np.sqrt((n - 1) * np.mean((without - without.mean()) ** 2)))
