"""Statistics of independent chains: jackknife errors, drift, independent states."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student_t

#: Half a burn-in is worth at least so many independent states (R̂ below 1.12), or it is doubled.
FEWEST_INDEPENDENT = 4.0
#: Probability that chains which have settled fail one of all the tests on the way to a point.
FALSE_ALARMS = 1e-3


def largest_deviation(tests: int) -> float:
    """The deviation, in standard errors, that the largest of so many tests may have."""
    return float(norm.isf(FALSE_ALARMS / tests))


def with_and_without(blocks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over all blocks, followed by the means over all blocks but one, for each."""
    return np.concatenate([[blocks.mean()], (blocks.sum() - blocks) / (len(blocks) - 1)])


def drift(halves: NDArray[np.float64]) -> float:
    """Change between two halves (chains, 2), in standard errors over the chains."""
    change = halves[:, 1] - halves[:, 0]
    return deviation(change.mean(), change.std(ddof=1) / np.sqrt(len(change)), len(change))


def deviation(difference: float, error: float, blocks: int) -> float:
    """|difference| in standard errors that were estimated from a few blocks.

    Student's t is turned into the deviation of a Gaussian that is as improbable.
    """
    if error == 0:
        return 0.0
    return float(-norm.ppf(student_t.sf(abs(difference) / error, blocks - 1)))


def independent_states(moments: NDArray[np.float64]) -> float:
    """What half a chain is worth, in independent states, from the means of x and x² of each.

    Var x / Var(mean of half a chain), both from all halves of all chains (chains, 2, 2):
    ESS of a half, and 1/(R̂² − 1) of the split chains.
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
