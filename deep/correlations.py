"""Do flatness and error go together over a set of networks? With error bars, and within groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from committee.statistics import correlation_with_interval

P_VALUES = {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}


def correlation_report(
    measures: Mapping[str, ArrayLike],
    errors: Mapping[str, ArrayLike],
    hyper_parameters: Mapping[str, Sequence[Hashable]] | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Correlations of each measure with each error over networks.

    Parameters
    ----------
    measures, errors : name → (n,)
        E.g. local energies; test errors. A network that lacks one of a pair of quantities (NaN)
        is left out of their correlation.
    hyper_parameters : name → (n,)
        What the networks were trained with; gives the granulated coefficients.

    Returns
    -------
    Rows with the columns measure, error, kind, n, correlation, p_value, low, high. Kinds:
    "pearson", "spearman", "kendall" (τ_b), with two-sided p-values and bootstrap limits (BCa) —
    NaN for fewer than five networks and for a constant quantity; with hyper-parameters,
    "granulated kendall" (Ψ of [J19], see ``granulated_kendall``) and its parts "kendall along
    <hyper-parameter>", which have neither.

    Raises ``ValueError`` for quantities of different lengths and for none at all.
    """
    if not measures or not errors:
        raise ValueError("measures or errors is empty; at least one of each was expected.")
    hyper_parameters = hyper_parameters or {}
    columns: dict[str, Any] = {**measures, **errors, **hyper_parameters}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns have the lengths {lengths}; equal ones were expected.")
    rows = []
    for measure, x in measures.items():
        for error, y in errors.items():
            a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
            known = np.isfinite(a) & np.isfinite(b)
            trained_with = {
                name: [value for value, k in zip(values, known, strict=True) if k]
                for name, values in hyper_parameters.items()
            }
            bootstrap = (resamples, confidence, seed)
            for row in _correlations(a[known], b[known], trained_with, bootstrap):
                rows.append({"measure": measure, "error": error, **row})
    return rows


def _correlations(
    x: NDArray,
    y: NDArray,
    hyper_parameters: Mapping[str, Sequence[Hashable]],
    bootstrap: tuple[int, float, int],
) -> list[dict[str, Any]]:
    rows = []
    for kind, test in P_VALUES.items():
        value, low, high = correlation_with_interval(kind, x, y, *bootstrap)
        p_value = float(test(x, y).pvalue) if np.isfinite(value) else np.nan
        rows.append(_row(kind, x, value, p_value, low, high))
    if hyper_parameters:
        mean, parts = granulated_kendall(x, y, hyper_parameters)
        rows.append(_row("granulated kendall", x, mean))
        rows += [_row(f"kendall along {name}", x, value) for name, value in parts.items()]
    return rows


def _row(
    kind: str,
    x: NDArray,
    value: float,
    p_value: float = np.nan,
    low: float = np.nan,
    high: float = np.nan,
) -> dict[str, Any]:
    return {
        "kind": kind, "n": len(x), "correlation": value, "p_value": p_value, "low": low,
        "high": high,
    }  # fmt: skip


def granulated_kendall(
    measure: ArrayLike, error: ArrayLike, hyper_parameters: Mapping[str, Sequence[Hashable]]
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
    hyper_parameters : name → (n,)

    A hyper-parameter along which there is no pair has ψ = NaN and is left out of Ψ.
    """
    mu, g = np.asarray(measure, dtype=np.float64), np.asarray(error, dtype=np.float64)
    agreement = np.sign(mu[:, None] - mu) * np.sign(g[:, None] - g)
    parts = {}
    for axis, values in hyper_parameters.items():
        groups: dict[tuple[Hashable, ...], list[int]] = defaultdict(list)
        others = [column for name, column in hyper_parameters.items() if name != axis]
        for i, key in enumerate(zip(*others, strict=True) if others else [()] * len(mu)):
            groups[key].append(i)
        coefficients = [
            np.mean(pairs)
            for group in groups.values()
            if (pairs := [agreement[i, j] for i in group for j in group if values[i] != values[j]])
        ]
        parts[axis] = float(np.mean(coefficients)) if coefficients else np.nan
    known = [value for value in parts.values() if np.isfinite(value)]
    return (float(np.mean(known)) if known else np.nan), parts
