"""Do flatness and error go together over a set of networks? With error bars, and within groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from committee.correlations import correlation_with_interval

# For each hyper-parameter groups of networks: places, agreement of pairs, which pairs count.
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
    """Correlations of each measure with each error over the rows of a table, one per network.

    Parameters
    ----------
    table : DataFrame
        A network that lacks one of a pair of quantities (NaN) is left out of their correlation.
    measures, errors : columns
        E.g. local energies; test errors.
    hyper_parameters : columns
        What the networks were trained with; gives the granulated coefficients.

    Returns
    -------
    Rows with the columns measure, error, kind, n, correlation, p_value, low, high. Kinds:
    "pearson", "spearman", "kendall" (τ_b), with two-sided p-values and bootstrap limits (BCa) —
    NaN for fewer than five networks and for a constant quantity; with hyper-parameters,
    "granulated kendall" (Ψ of [J19], see ``granulated_kendall``), with bootstrap limits
    (percentiles, networks resampled), and its parts "kendall along <hyper-parameter>".

    Raises ``ValueError`` for no measure, no error, a column that is not there or not of numbers.
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

    ``ψ_i`` is the mean of Kendall's coefficient over groups of networks that differ in
    hyper-parameter i alone, ``Ψ`` the mean of the ψ_i. The coefficient of a group is the mean of
    ``sgn(μ_a − μ_b) sgn(g_a − g_b)`` over its pairs, ties counting zero. Where several networks
    share all hyper-parameters (seeds), only pairs that differ in i count.

    Parameters
    ----------
    measure, error : (n,)
        μ and g of each network.
    hyper_parameters : DataFrame
        A row for each network, a column for each hyper-parameter.

    A hyper-parameter along which there is no pair has ψ = NaN and is left out of Ψ. The limits are
    quantiles over resampled networks; NaN for fewer than five networks.
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
    """For each hyper-parameter the groups that differ in it alone."""
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
    """Ψ and the ψ_i of samples, which hold a network as often as a row of ``counts`` says."""
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
