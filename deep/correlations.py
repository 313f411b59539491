"""Do flatness and error go together over a set of networks? With error bars, and within groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from committee.correlations import correlation_with_interval

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
    "granulated kendall" (Ψ of [J19], see ``granulated_kendall``) and its parts "kendall along
    <hyper-parameter>", which have neither.

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
                mean, parts = granulated_kendall(x, y, known[[*hyper_parameters]])
                coefficients = {f"kendall along {name}": value for name, value in parts.items()}
                for kind, value in {"granulated kendall": mean, **coefficients}.items():
                    rows.append(about | {"kind": kind, "correlation": value})
    return pd.DataFrame(rows)


def granulated_kendall(
    measure: NDArray, error: NDArray, hyper_parameters: pd.DataFrame
) -> tuple[float, dict[str, float]]:
    """The granulated Kendall coefficient Ψ of [J19], and its parts ψ_i.

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

    A hyper-parameter along which there is no pair has ψ = NaN and is left out of Ψ.
    """
    mu, g = np.asarray(measure, dtype=np.float64), np.asarray(error, dtype=np.float64)
    agreement = np.sign(mu[:, None] - mu) * np.sign(g[:, None] - g)
    codes = hyper_parameters.apply(lambda column: pd.factorize(column)[0])
    parts = {}
    for axis in codes:
        others, value = codes.drop(columns=axis), codes[axis].to_numpy()
        group = others.groupby([*others]).ngroup().to_numpy() if [*others] else 0 * value
        pairs = (group[:, None] == group) & (value[:, None] != value)
        counts = np.bincount(group, pairs.sum(1))
        sums = np.bincount(group, (agreement * pairs).sum(1))[counts > 0]
        parts[str(axis)] = float(np.mean(sums / counts[counts > 0])) if len(sums) else np.nan
    known = [value for value in parts.values() if np.isfinite(value)]
    return (float(np.mean(known)) if known else np.nan), parts
