"""Slow, obvious twin of committee.correlations: each resample concatenates tables of draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats


def limits(runs: pd.DataFrame, kind: str, resamples: int, rng: np.random.Generator):  # type: ignore[no-untyped-def]
    """95 % limits of the correlation of columns x and y. Whole draws are resampled."""

    def z(table: pd.DataFrame) -> float:
        values = [np.asarray(table[name]) for name in ("x", "y")]
        if kind == "spearman":
            values = [stats.rankdata(own) for own in values]
        return float(np.arctanh(np.corrcoef(*values)[0, 1]))

    draws = runs["draw"].unique()
    found = []
    for _ in range(resamples):
        chosen = rng.choice(draws, size=len(draws))
        sample = pd.concat([runs[runs["draw"] == draw] for draw in chosen])
        found.append(z(sample))
    error = np.std(found) * np.sqrt(len(draws) / (len(draws) - 1))
    half = stats.t(len(draws) - 1).ppf(0.975) * error
    return np.tanh(z(runs) - half), np.tanh(z(runs) + half)
