"""Does flatness predict test error? Statements over draws, with intervals.

On each draw, a family is one point (x, test error): its means over machines without training
errors. The flatness x is the logarithm of δE(1) or of −Φ_LE(0.3). Ranges of families:

    typical to trained      typical solutions and the algorithms of the paper
    among trained           the algorithms of the paper, their controls and dropout
    towards the flattest    weight noise and entropy ascent, and the flattest of the paper

A draw gives one Spearman correlation for each range. It gives one turning point, the minimum of a
parabola fitted to all families, unless this minimum lies outside the families. Intervals are
Student's t, over draws. Each condition (size, classes, balanced) is evaluated on its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from scipy.stats import t as student_t

from committee.algorithms import CONTROLS, PUBLISHED
from committee.solution_space.experiment import CONDITION, TYPICAL

if TYPE_CHECKING:
    import pandas as pd

MEASURES = {"local_energy_1": 1.0, "local_entropy": -1.0}
#: Smaller values of δE and −Φ_LE cannot be resolved.
FLATTEST = 1e-7
LEVEL = 0.95
TURN = "turning point (log10)"


def family_means(machines: pd.DataFrame) -> pd.DataFrame:
    """One row per condition, draw and family: means over the n machines without training errors.

    Columns ``log_local_energy_1`` and ``log_local_entropy`` hold log10 of δE(1) and of −Φ_LE.
    """
    solved = machines[machines["train_error"] == 0]
    groups = solved.groupby([*CONDITION, "draw", "family"], sort=False)
    means = groups[["test_error", *MEASURES]].mean()
    for name, sign in MEASURES.items():
        means[f"log_{name}"] = np.log10(np.maximum(sign * means[name], FLATTEST))
    means["n"] = groups.size()
    return means.reset_index()


def statements(machines: pd.DataFrame) -> pd.DataFrame:
    """One row per condition, measure and quantity: mean over draws, interval, number of draws."""
    import pandas as pd

    rows = []
    for condition, means in family_means(machines).groupby([*CONDITION], sort=False):
        for measure in MEASURES:
            x = f"log_{measure}"
            found: dict[str, list[float]] = {
                f"correlation, {name}": [
                    spearmanr(points[x], points["test_error"]).statistic
                    for _, points in means[chosen].groupby("draw")
                    if len(points) > 2
                ]
                for name, chosen in _ranges(means, x).items()
            }
            found[TURN] = [
                _turning_point(points[x], points["test_error"])
                for _, points in means.groupby("draw")
            ]
            rows += [
                (*condition, measure, quantity, *_interval(np.array(values)))
                for quantity, values in found.items()
            ]
    columns = [*CONDITION, "measure", "quantity", "mean", "low", "high", "draws"]
    table = pd.DataFrame(rows, columns=columns)
    correlations = table["quantity"].str.startswith("correlation")
    table.loc[correlations, ["low", "high"]] = table.loc[correlations, ["low", "high"]].clip(-1, 1)
    return table


def _ranges(means: pd.DataFrame, x: str) -> dict[str, pd.Series]:
    family = means["family"]
    published = family.isin(PUBLISHED)
    flat = family.str.startswith(("weight-noise", "entropy-ascent"))
    flattest = means[x].where(published).groupby(means["draw"]).transform("min")
    return {
        "typical to trained": published | (family == TYPICAL),
        "among trained": published | family.isin(CONTROLS) | family.str.startswith("dropout"),
        "towards the flattest": flat | (published & (means[x] == flattest)),
    }


def _turning_point(x: pd.Series, error: pd.Series) -> float:
    """Minimum of a parabola fitted to error(x); NaN if it does not lie among the points."""
    if len(x) < 4:
        return float("nan")
    curvature, slope, _ = np.polyfit(x, error, 2)
    turn = -slope / (2 * curvature)
    return float(turn) if curvature > 0 and x.min() < turn < x.max() else float("nan")


def _interval(values: NDArray[np.float64]) -> tuple[float, float, float, int]:
    """Mean, Student's t interval and number of the finite values."""
    values = values[np.isfinite(values)]
    n = len(values)
    if n == 0:
        return float("nan"), float("nan"), float("nan"), 0
    mean = float(values.mean())
    if n == 1:
        return mean, float("nan"), float("nan"), 1
    half = float(student_t.ppf(0.5 + LEVEL / 2, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half, n
