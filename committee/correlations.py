"""Correlations of flatness with test error, with intervals, within each algorithm and over all."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from committee.statistics import flatness_measures, unit_of, without_collapsed

if TYPE_CHECKING:
    import pandas as pd

ALL = "all algorithms"
SMALLEST_GROUP = 3
RESAMPLED_PAIRS = 5_000_000  # limit on the pairs in memory


def correlate(
    runs: pd.DataFrame, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Pearson and Spearman correlations of the test error with δE(1) and with each Φ_LE(0.3).

    Parameters
    ----------
    runs : DataFrame
        ``ExperimentResults.to_frame()``. Collapsed runs, and runs that lack one of the two
        quantities, are left out.
    resamples, confidence, seed
        Settings of the bootstrap (see ``bootstrap_interval``).

    Returns
    -------
    DataFrame
        ``scope`` is one algorithm or "all algorithms". ``values`` is "as measured" or
        "standardised". Standardised values have zero mean and unit standard deviation over the
        restarts of the same algorithm and draw; they leave out groups of fewer than three runs or
        of equal values. ``first`` and ``second`` are the quantities, ``kind`` is the coefficient,
        ``low`` and ``high`` are its limits over draws (or over restarts, see ``unit``). ``n``
        counts runs, ``draws`` draws. ``first_share`` and ``second_share`` are this algorithm's
        shares of the sum of squares about the group means. If values were centred but not divided
        by the standard deviation, an algorithm with a share near 1 would alone decide their
        correlation. Fewer than five runs, or a constant quantity, give NaN.
    """
    import pandas as pd

    known, unit, rows = without_collapsed(runs), unit_of(runs), []
    for measure in flatness_measures(runs):
        pair = ["test_error", measure]
        table = known[["algorithm", "draw", "restart", *pair]].dropna()
        groups = table.groupby(["algorithm", "draw"])[pair]
        centred = table[pair] - groups.transform("mean")
        scatter = groups.transform("std")
        enough = (groups.transform("count") >= SMALLEST_GROUP) & (scatter > 0)
        standardised = centred.where(enough) / scatter.where(enough)
        squares = (centred**2).groupby(table["algorithm"]).sum()
        shares = (squares / squares.sum()).rename(columns=dict.fromkeys(pair[1:], "flatness"))
        for scope in (ALL, *runs["algorithm"].unique()):
            inside = (table["algorithm"] == scope) | (scope == ALL)
            about: dict[str, Any] = {"scope": scope, "first": pair[0], "second": pair[1]}
            for values, both in {"as measured": table[pair], "standardised": standardised}.items():
                x, y = (chosen := both[inside].dropna()).to_numpy().T
                units = table.loc[chosen.index, unit].to_numpy()
                counts = {"n": len(x), "draws": table.loc[chosen.index, "draw"].nunique()}
                for kind in ("pearson", "spearman"):
                    interval = bootstrap_interval(kind, x, y, units, resamples, confidence, seed)
                    measured = dict(zip(("correlation", "low", "high"), interval, strict=True))
                    about |= {"values": values, "kind": kind, "unit": unit, **counts}
                    rows.append({**about, **measured, **_shares(shares, scope)})
    return pd.DataFrame(rows)


def _shares(shares: pd.DataFrame, scope: str) -> dict[str, float]:
    if scope == ALL:
        return {"first_share": 1.0, "second_share": 1.0}
    found = shares.reindex([scope]).iloc[0]
    return {"first_share": found["test_error"], "second_share": found["flatness"]}


def bootstrap_interval(
    kind: str,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    units: NDArray[Any],
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, float]:
    """ "pearson" or "spearman" correlation of x, y (n,), and its limits over independent units.

    A resample draws U of the U units with replacement, each with all its runs: the hierarchical
    bootstrap of Davison and Hinkley (1997), sec. 3.8. (Resampling the runs within a unit as well
    would count their scatter twice. For nested Gaussians with 10 draws and 5 restarts, such 95 %
    intervals cover the truth in up to 99.7 % of cases.) The limits are
    ``tanh(z ± t s √(U/(U − 1)))``. Here z is artanh of the correlation, s is the standard deviation
    of z over the resamples, and t is Student's quantile for U − 1 degrees of freedom. Percentiles
    are too narrow for few units. Fewer than five runs, or a constant quantity, give NaN. A single
    unit gives NaN limits.
    """
    if len(x) < 5 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan, np.nan, np.nan
    value = float(weighted_correlation(kind, np.ones((1, len(x))), x, y)[0])
    names, codes = np.unique(units, return_inverse=True)
    if (U := len(names)) == 1:
        return value, np.nan, np.nan
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(U, np.full(U, 1 / U), size=resamples)[:, codes].astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample of equal runs gives NaN
        z = np.arctanh(np.clip(weighted_correlation(kind, counts, x, y), -1 + 1e-9, 1 - 1e-9))
    quantile = stats.t.ppf((1 + confidence) / 2, U - 1)
    half = quantile * np.nanstd(z) * np.sqrt(U / (U - 1))
    centre = np.arctanh(np.clip(value, -1 + 1e-9, 1 - 1e-9))
    return value, float(np.tanh(centre - half)), float(np.tanh(centre + half))


def weighted_correlation(
    kind: str, counts: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Correlations (B,) of B samples in which run i appears ``counts[b, i]`` times."""
    if kind == "spearman":
        x, y = _ranks(counts, x), _ranks(counts, y)
    size = counts.sum(axis=1, keepdims=True)
    x = x - (counts * x).sum(axis=1, keepdims=True) / size
    y = y - (counts * y).sum(axis=1, keepdims=True) / size
    weighted = counts * x
    squares = (weighted * x).sum(axis=1) * (counts * y * y).sum(axis=1)
    return (weighted * y).sum(axis=1) / np.sqrt(squares)


def _ranks(counts: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks (B, n) up to a constant. Ties get their mean rank."""
    order = np.argsort(x)
    values, first = np.unique(x[order], return_index=True)
    tied = np.add.reduceat(counts[:, order], first, axis=1)
    return (np.cumsum(tied, axis=1) - tied / 2)[:, np.searchsorted(values, x)]


def correlation_with_interval(
    kind: str,
    x: NDArray,
    y: NDArray,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, float]:
    """ "pearson", "spearman" or "kendall" (τ_b) correlation of x, y (n,), and its limits.

    The limits come from a BCa bootstrap over pairs. Fewer than five pairs, or a constant quantity,
    give NaN. Raises ``ValueError`` for an unknown kind.
    """
    if kind not in CORRELATIONS:
        raise ValueError(f"kind is {kind!r}; one of {[*CORRELATIONS]} was expected.")
    if len(x) < 5 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan, np.nan, np.nan
    statistic = CORRELATIONS[kind]
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        # Degenerate resamples (copies of one run) give a NaN interval.
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
