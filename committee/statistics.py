"""Do the algorithms differ, and do flatness and test error go together? With error bars.

Everything starts from the runs, ``ExperimentResults.to_frame()``: one row per trained machine.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from committee.results import ExperimentResults

if TYPE_CHECKING:
    import pandas as pd

RESAMPLED_PAIRS = 5_000_000  # in memory at once
EXACT_ENGINE = "mc"
DEVIATION_DISTANCES = (0.05, 0.15, 0.3)


def quantities(runs: pd.DataFrame) -> list[str]:
    """The columns that measure a machine: test error, local energies, local entropies."""
    flatness = ("local_energy_", "local_entropy_")
    return ["test_error", *(name for name in map(str, runs) if name.startswith(flatness))]


def compare_algorithms(runs: pd.DataFrame) -> pd.DataFrame:
    """Two-sided Mann-Whitney test of each pair of algorithms, for each quantity.

    Columns: quantity, first, second, n_first, n_second; difference of the means (first minus
    second) with its standard error; p_value; p_holm, which is corrected for the number of pairs
    (Holm) within the quantity. Restart i starts from the same weights with each algorithm. The
    test does not use that, which makes it conservative if anything.
    """
    import pandas as pd

    rows = []
    for quantity in quantities(runs):
        samples = {
            name: group[quantity].dropna().to_numpy()
            for name, group in runs.groupby("algorithm", sort=False)
        }
        pairs: list[dict[str, Any]] = []
        for (first, a), (second, b) in itertools.combinations(samples.items(), 2):
            about = {"quantity": quantity, "first": first, "second": second}
            about |= {"n_first": len(a), "n_second": len(b)}
            difference, error, p_value = np.nan, np.nan, np.nan
            if min(len(a), len(b)) >= 2:
                difference = float(a.mean() - b.mean())
                error = float(np.hypot(stats.sem(a), stats.sem(b)))
                ties = np.ptp(np.concatenate([a, b])) == 0  # and nothing else
                p_value = 1.0 if ties else float(stats.mannwhitneyu(a, b).pvalue)
            about |= {"difference": difference, "difference_standard_error": error}
            pairs.append({**about, "p_value": p_value})
        corrected = holm([pair["p_value"] for pair in pairs])
        rows += [{**pair, "p_holm": p} for pair, p in zip(pairs, corrected, strict=True)]
    return pd.DataFrame(rows)


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """P-values corrected for their number by Holm's step-down method; NaN stays NaN."""
    p = np.asarray(p_values, dtype=np.float64)
    corrected = np.full_like(p, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known])]
    factors = len(order) - np.arange(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return corrected


def correlate(
    runs: pd.DataFrame, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Pearson and Spearman correlations of all pairs of quantities over the runs.

    ``scope`` is "all runs", or "within algorithms": after the mean of each algorithm is
    subtracted from its runs. The confidence limits ``low`` and ``high`` are from the bootstrap
    (BCa, runs resampled). Runs that lack one of the two quantities are left out; ``n`` is the
    number of the others. Fewer than five, or a constant quantity, give NaN.
    """
    import pandas as pd

    rows = []
    for names in itertools.combinations(quantities(runs), 2):
        known = runs[["algorithm", *names]].dropna()
        both = known[[*names]]
        centred = both - both.groupby(known["algorithm"]).transform("mean")
        for scope, table in {"all runs": both, "within algorithms": centred}.items():
            x, y = table.to_numpy().T
            for kind in ("pearson", "spearman"):
                interval = correlation_with_interval(kind, x, y, resamples, confidence, seed)
                measured = dict(zip(("correlation", "low", "high"), interval, strict=True))
                about = {"first": names[0], "second": names[1], "scope": scope, "kind": kind}
                rows.append({**about, "n": len(x), **measured})
    return pd.DataFrame(rows)


def correlation_with_interval(
    kind: str,
    x: NDArray,
    y: NDArray,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, float]:
    """ "pearson", "spearman" or "kendall" (τ_b) correlation of x, y (n,), and its limits.

    The limits are from the bootstrap (BCa, pairs resampled). Fewer than five pairs, or a constant
    quantity, give NaN. Raises ``ValueError`` for an unknown kind.
    """
    if kind not in CORRELATIONS:
        raise ValueError(f"kind is {kind!r}; one of {[*CORRELATIONS]} was expected.")
    if len(x) < 5 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan, np.nan, np.nan
    statistic = CORRELATIONS[kind]
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        # A resample may hold one run only; scipy leaves it out of nothing, so report NaN then.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        interval = stats.bootstrap(
            (x, y),
            statistic,
            paired=True,
            vectorized=True,
            batch=max(1, RESAMPLED_PAIRS // len(x) ** 2),
            n_resamples=resamples,
            confidence_level=confidence,
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return float(statistic(x, y)), float(interval.low), float(interval.high)


def _pearson(x: NDArray, y: NDArray, axis: int = -1) -> NDArray:
    x = x - x.mean(axis=axis, keepdims=True)
    y = y - y.mean(axis=axis, keepdims=True)
    return (x * y).sum(axis=axis) / np.sqrt((x**2).sum(axis=axis) * (y**2).sum(axis=axis))


def _spearman(x: NDArray, y: NDArray, axis: int = -1) -> NDArray:
    return _pearson(stats.rankdata(x, axis=axis), stats.rankdata(y, axis=axis), axis=axis)


def _kendall(x: NDArray, y: NDArray, axis: int = -1) -> NDArray:
    x, y = np.moveaxis(x, axis, -1), np.moveaxis(y, axis, -1)
    a = np.sign(x[..., :, None] - x[..., None, :])
    b = np.sign(y[..., :, None] - y[..., None, :])
    pairs = (-2, -1)
    return (a * b).sum(axis=pairs) / np.sqrt((a**2).sum(axis=pairs) * (b**2).sum(axis=pairs))


CORRELATIONS: dict[str, Any] = {"pearson": _pearson, "spearman": _spearman, "kendall": _kendall}


def deviations(results: ExperimentResults) -> pd.DataFrame:
    """Relative deviation of each engine's Φ_LE from Monte Carlo's, one row per distance.

    Columns: algorithm, engine, distance; ``n``, the runs that have both values; ``deviation``,
    ΣΦ/ΣΦ_mc − 1 over these runs; ``deviation_standard_error``, what another draw of n runs would
    change (the scatter of Φ − (1 + deviation) Φ_mc; NaN for n = 1); ``mc_error``, what Monte
    Carlo's error bars alone contribute. The table is empty without curves of Monte Carlo.
    """
    import pandas as pd

    rows = []
    distances = np.array(DEVIATION_DISTANCES)
    others = [engine for engine in results.engines if engine != EXACT_ENGINE]
    for algorithm in results.algorithms.values() if EXACT_ENGINE in results.engines else ():
        exact = algorithm.local_entropy(EXACT_ENGINE, distances)
        errors = algorithm.local_entropy(EXACT_ENGINE, distances, error=True)
        for engine in others:
            estimate = algorithm.local_entropy(engine, distances)
            for column, distance in enumerate(DEVIATION_DISTANCES):
                known = np.isfinite(exact[:, column]) & np.isfinite(estimate[:, column])
                about = {"algorithm": algorithm.name, "engine": engine, "distance": distance}
                values = (table[known, column] for table in (estimate, exact, errors))
                rows.append({**about, **_deviation(*values)})
    return pd.DataFrame(rows)


def _deviation(
    estimate: NDArray[np.float64], exact: NDArray[np.float64], errors: NDArray[np.float64]
) -> dict[str, Any]:
    n, total = len(exact), abs(exact.sum())
    ratio = estimate.sum() / exact.sum() if total else np.nan
    scatter = np.std(estimate - ratio * exact, ddof=1) if n > 1 and total else np.nan
    return {
        "n": n,
        "deviation": ratio - 1,
        "deviation_standard_error": np.sqrt(n) * scatter / total if total else np.nan,
        "mc_error": ratio * np.sqrt(np.sum(errors**2)) / total if total else np.nan,
    }
