"""Do the algorithms differ, and do flatness and test error go together? With error bars.

Everything starts from a table of runs (``run_table``): one row per trained machine, one column
per measured quantity.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from committee.results import ExperimentResults

SIGMAS = (0.5, 1.0)
DISTANCES = (0.1, 0.3)
RESAMPLED_PAIRS = 5_000_000  # in memory at once


@dataclass(frozen=True)
class RunTable:
    """One row per trained machine.

    Attributes
    ----------
    algorithm : (R,) str
    restart : (R,) int
    quantities : dict of (R,) arrays
        "test error", "local energy at 0.5", "local entropy (mc) at 0.1", …; NaN where a run
        has none (a local entropy that did not converge).
    """

    algorithm: NDArray[np.str_]
    restart: NDArray[np.int64]
    quantities: dict[str, NDArray[np.float64]]


def run_table(results: ExperimentResults) -> RunTable:
    """Measured quantities of all runs."""
    variants = list(results.variants.values())
    quantities = {"test error": np.concatenate([v.test_error for v in variants])}
    for sigma in SIGMAS:
        quantities[f"local energy at {sigma:g}"] = np.concatenate(
            [v.profile.at(sigma) for v in variants]
        )
    for engine in results.engines:
        values = np.concatenate([v.local_entropy(engine, np.array(DISTANCES)) for v in variants])
        for column, distance in enumerate(DISTANCES):
            quantities[f"local entropy ({engine}) at {distance:g}"] = values[:, column]
    return RunTable(
        algorithm=np.concatenate([[v.name] * len(v.restarts) for v in variants]),
        restart=np.concatenate([v.restarts for v in variants]),
        quantities=quantities,
    )


def compare_algorithms(table: RunTable) -> list[dict[str, Any]]:
    """Two-sided Mann-Whitney test of each pair of algorithms, for each quantity.

    Columns: quantity, first, second, n_first, n_second, difference of the means (first minus
    second) with its standard error, p_value, and p_holm, which is corrected for the number of
    pairs (Holm) within the quantity. Restart i starts from the same weights with each algorithm;
    the test does not use that, which makes it conservative if anything.
    """
    rows = []
    for quantity, values in table.quantities.items():
        known = np.isfinite(values)
        samples = {
            name: values[known & (table.algorithm == name)]
            for name in dict.fromkeys(table.algorithm.tolist())
        }
        pairs = [
            _compare(quantity, (first, samples[first]), (second, samples[second]))
            for first, second in itertools.combinations(samples, 2)
        ]
        corrected = holm([pair["p_value"] for pair in pairs])
        rows += [{**pair, "p_holm": p} for pair, p in zip(pairs, corrected, strict=True)]
    return rows


def _compare(
    quantity: str, first: tuple[str, NDArray], second: tuple[str, NDArray]
) -> dict[str, Any]:
    a, b = first[1], second[1]
    enough = min(len(a), len(b)) >= 2
    if not enough:
        p_value = np.nan
    elif np.ptp(np.concatenate([a, b])) == 0:
        p_value = 1.0  # nothing but ties
    else:
        p_value = float(stats.mannwhitneyu(a, b).pvalue)
    return {
        "quantity": quantity,
        "first": first[0],
        "second": second[0],
        "n_first": len(a),
        "n_second": len(b),
        "difference": float(a.mean() - b.mean()) if enough else np.nan,
        "standard_error": float(np.hypot(stats.sem(a), stats.sem(b))) if enough else np.nan,
        "p_value": p_value,
    }


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
    table: RunTable, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> list[dict[str, Any]]:
    """Pearson and Spearman correlations of all pairs of quantities over the runs.

    ``scope`` is "all runs", or "within algorithms": after the mean of each algorithm is
    subtracted from its runs. Confidence limits ``low``, ``high`` are from the bootstrap (BCa,
    runs resampled). Runs that lack one of the two quantities are left out; ``n`` says how many
    remain. Fewer than five, or a constant quantity, give NaN.
    """
    rows = []
    for x_name, y_name in itertools.combinations(table.quantities, 2):
        x, y = table.quantities[x_name], table.quantities[y_name]
        both = np.isfinite(x) & np.isfinite(y)
        x, y, groups = x[both], y[both], table.algorithm[both]
        centred = _subtract_means(x, groups), _subtract_means(y, groups)
        for scope, (a, b) in {"all runs": (x, y), "within algorithms": centred}.items():
            for kind in ("pearson", "spearman"):
                value, low, high = correlation_with_interval(
                    kind, a, b, resamples, confidence, seed
                )
                rows.append(
                    {
                        "first": x_name,
                        "second": y_name,
                        "scope": scope,
                        "kind": kind,
                        "n": len(a),
                        "correlation": value,
                        "low": low,
                        "high": high,
                    }
                )
    return rows


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


def _subtract_means(values: NDArray, groups: NDArray) -> NDArray:
    centred = values.copy()
    for group in np.unique(groups):
        centred[groups == group] -= values[groups == group].mean()
    return centred
