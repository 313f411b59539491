"""Tables of runs, as pandas DataFrames: means with standard errors, and Markdown.

The standard error of a column ``x`` of means is the column ``x_standard_error``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

ERROR = "_standard_error"


def means(
    table: pd.DataFrame, by: str | Sequence[str], columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """One row per group, in the order of appearance: n, and the mean and error of each column.

    Parameters
    ----------
    table : DataFrame
        One row per independent run.
    by : column or columns
        Columns that are equal within a group.
    columns : names, optional
        Columns to average, by default all numeric ones.

    The standard error of the mean is √(Σ(x − x̄)²/(n − 1)/n), NaN for n = 1. NaN entries are left
    out. If a column ``x`` has NaN entries, the column ``x_n`` counts the others.
    """
    by = [by] if isinstance(by, str) else list(by)
    numeric = table.select_dtypes("number").columns
    columns = [c for c in numeric if c not in by] if columns is None else list(columns)
    groups = table.groupby(by, sort=False, dropna=False)
    result = groups.size().rename("n").to_frame()
    for column in columns:
        values = groups[column]
        result[column] = values.mean()
        result[column + ERROR] = values.sem()
        if not values.count().equals(groups.size()):
            result[f"{column}_n"] = values.count()
    return result.reset_index()


def with_error(value: float, error: float, digits: int | None = None, scale: float = 1.0) -> str:
    """``value ± error`` times ``scale``. By default the error has two significant digits.

    The text is "–" for an unknown value (NaN), and the value alone for an error of NaN or 0.
    """
    value, error = scale * value, scale * error
    if not np.isfinite(value):
        return "–"
    known = bool(np.isfinite(error) and error > 0)
    if digits is None:
        size = error if known else abs(value) / 100
        digits = max(0, 1 - int(np.floor(np.log10(size)))) if size > 0 else 0
    return f"{value:.{digits}f} ± {error:.{digits}f}" if known else f"{value:.{digits}f}"


def to_markdown(
    table: pd.DataFrame,
    scales: Mapping[str, float] | None = None,
    digits: Mapping[str, int] | None = None,
) -> str:
    """A table in Markdown. A column with a standard error is printed as value ± error.

    ``scales`` multiplies columns (100 for percent), ``digits`` sets their decimals.
    """
    scales, digits = scales or {}, digits or {}
    shown = table[[c for c in table.columns if not c.endswith(ERROR)]].astype(object)
    for column in shown.columns:
        scale, places = scales.get(column, 1.0), digits.get(column)
        if column + ERROR in table:
            pairs = zip(table[column], table[column + ERROR], strict=True)
            shown[column] = [with_error(x, e, places, scale) for x, e in pairs]
        elif column in scales or column in digits:
            shown[column] = [with_error(x, np.nan, places, scale) for x in table[column]]
        elif table[column].dtype.kind == "f":
            shown[column] = ["–" if np.isnan(x) else f"{x:.4g}" for x in table[column]]
    return str(shown.to_markdown(index=False, disable_numparse=True))
