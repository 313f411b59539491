"""Correlations of flatness and error over networks, with error bars, also within groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from committee.correlations import correlation_with_interval

# The groups of each hyper-parameter: row numbers, agreement of each pair, mask of counted pairs.
Groups = dict[str, list[tuple[NDArray, NDArray, NDArray]]]
P_VALUES = {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}


def correlation_report(
    table: pd.DataFrame,
    measures: Sequence[str],
    errors: Sequence[str],
    hyper_parameters: Sequence[str] = (),
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Correlations of each measure with each error over the networks of a table.

    Parameters
    ----------
    table : DataFrame
        One row per network. A NaN excludes the network from the correlations of that column.
    measures, errors : columns
        For example local energies, and test errors.
    hyper_parameters : columns
        Training settings, for the granulated coefficients. None by default.

    Returns
    -------
    Rows with the columns measure, error, kind, n, correlation, p_value, low, high. Kinds:
    "pearson", "spearman" and "kendall" (τ_b) have two-sided p-values and bootstrap limits (BCa).
    They are NaN for fewer than five networks and for a constant quantity. With hyper-parameters,
    "granulated kendall" (Ψ of [J19], see ``granulated_kendall``) has bootstrap limits
    (percentiles, resampled networks), followed by its parts "kendall along <hyper-parameter>".

    Raises ``ValueError`` for no measure, no error, or a column that is missing or not numeric.
    """
    for name, columns in (("measures", measures), ("errors", errors)):
        if not columns:
            raise ValueError(f"{name} is empty; some of the columns {[*table]} were expected.")
    for name in (*measures, *errors, *hyper_parameters):
        if name not in table:
            raise ValueError(f"there is no column {name!r}; one of {[*table]} was expected.")
    for name in (*measures, *errors):
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise ValueError(f"column {name!r} is not of numbers, as a measure or error is.")
    rows = []
    for measure in measures:
        for error in errors:
            known = table[np.isfinite(table[measure]) & np.isfinite(table[error])]
            x, y = (known[name].to_numpy(np.float64) for name in (measure, error))
            about = {"measure": measure, "error": error, "kind": "", "n": len(x)}
            for kind, test in P_VALUES.items():
                value, low, high = correlation_with_interval(
                    kind, x, y, resamples, confidence, seed
                )
                p_value = float(test(x, y).pvalue) if np.isfinite(value) else np.nan
                limits = {"p_value": p_value, "low": low, "high": high}
                rows.append(about | {"kind": kind, "correlation": value, **limits})
            if hyper_parameters:
                (value, low, high), parts = granulated_kendall(
                    x, y, known[[*hyper_parameters]], resamples, confidence, seed
                )
                limits = {"correlation": value, "low": low, "high": high}
                rows.append(about | {"kind": "granulated kendall", **limits})
                for name, value in parts.items():
                    rows.append(about | {"kind": f"kendall along {name}", "correlation": value})
    return pd.DataFrame(rows)


def granulated_kendall(
    measure: NDArray,
    error: NDArray,
    hyper_parameters: pd.DataFrame,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[tuple[float, float, float], dict[str, float]]:
    """The granulated Kendall coefficient Ψ of [J19] with its limits, and its parts ψ_i.

    ``ψ_i`` is the mean of Kendall's coefficient over groups of networks that differ only in
    hyper-parameter i. ``Ψ`` is the mean of the ψ_i. The coefficient of a group is the mean of
    ``sgn(μ_a − μ_b) sgn(g_a − g_b)`` over its pairs. A tie gives zero. If several networks share
    all hyper-parameters (seeds), only pairs that differ in i count.

    Parameters
    ----------
    measure, error : (n,)
        μ and g of each network.
    hyper_parameters : DataFrame
        One row per network, one column per hyper-parameter.

    A hyper-parameter without a pair has ψ = NaN and is left out of Ψ. The limits are quantiles over
    resampled networks. They are NaN for fewer than five networks.
    """
    n = len(hyper_parameters)
    groups = _groups(np.asarray(measure), np.asarray(error), hyper_parameters)
    mean, parts = _granulated(groups, np.ones((1, n)))
    limits = np.array([np.nan, np.nan])
    if n >= 5:
        counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), resamples)
        means = _granulated(groups, counts)[0]
        if np.isfinite(means).any():
            limits = np.nanquantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    value, low, high = (float(number) for number in (mean[0], *limits))
    return (value, low, high), {name: float(values[0]) for name, values in parts.items()}


def _groups(mu: NDArray, g: NDArray, hyper_parameters: pd.DataFrame) -> Groups:
    """For each hyper-parameter, the groups of networks that differ only in it."""
    agreement = np.sign(mu[:, None] - mu) * np.sign(g[:, None] - g)
    codes = hyper_parameters.apply(lambda column: pd.factorize(column)[0])
    groups: Groups = {str(axis): [] for axis in codes}
    for axis in codes:
        others = codes.drop(columns=axis)
        group = others.groupby([*others]).ngroup().to_numpy() if [*others] else np.zeros(len(mu))
        value = codes[axis].to_numpy()
        for one in np.unique(group):
            inside = np.flatnonzero(group == one)
            counts = 1.0 * (value[inside][:, None] != value[inside])
            if counts.any():
                own = agreement[np.ix_(inside, inside)] * counts
                groups[str(axis)].append((inside, own, counts))
    return groups


def _granulated(groups: Groups, counts: NDArray) -> tuple[NDArray, dict[str, NDArray]]:
    """Ψ and the ψ_i of samples. ``counts`` (samples, n) says how often each holds a network."""
    parts = {}
    for axis, own in groups.items():
        total, known = np.zeros(len(counts)), np.zeros(len(counts))
        for inside, agreement, pairs in own:
            n = counts[:, inside].astype(np.float64)
            all_pairs, agreeing = (((n @ matrix) * n).sum(1) for matrix in (pairs, agreement))
            some = all_pairs > 0
            total[some] += agreeing[some] / all_pairs[some]
            known += some
        parts[axis] = np.divide(total, known, out=np.full_like(total, np.nan), where=known > 0)
    mean = np.ma.masked_invalid([*parts.values()]).mean(axis=0)
    return np.ma.filled(mean, np.nan), parts
