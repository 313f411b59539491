"""How far expectation and belief propagation are from Monte Carlo, algorithm by algorithm."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from committee.results import ExperimentResults, VariantResults

REFERENCE = "mc"
DISTANCES = (0.05, 0.15, 0.3)


def deviations(results: ExperimentResults) -> list[dict[str, Any]]:
    """Relative deviation of each engine's Φ_LE from Monte Carlo's, one row per distance.

    Columns: algorithm, engine, distance, ``n``, the runs that have both values;
    ``deviation``, ΣΦ/ΣΦ_mc − 1 over these runs; ``standard_error``, what another draw of n runs
    would change (the scatter of Φ − (1 + deviation) Φ_mc; NaN for n = 1); ``mc_error``, what
    Monte Carlo's error bars alone contribute. The list is empty without curves of Monte Carlo.
    """
    if REFERENCE not in results.engines:
        return []
    distances = np.array(DISTANCES)
    rows = []
    for variant in results.variants.values():
        exact = variant.local_entropy(REFERENCE, distances)
        errors = _standard_errors(variant, exact, distances)
        for engine in results.engines:
            if engine == REFERENCE:
                continue
            estimate = variant.local_entropy(engine, distances)
            for column, distance in enumerate(DISTANCES):
                known = np.isfinite(exact[:, column]) & np.isfinite(estimate[:, column])
                found = _compare(
                    estimate[known, column], exact[known, column], errors[known, column]
                )
                rows.append(
                    {"algorithm": variant.name, "engine": engine, "distance": distance, **found}
                )
    return rows


def _compare(
    estimate: NDArray[np.float64], exact: NDArray[np.float64], errors: NDArray[np.float64]
) -> dict[str, Any]:
    n, total = len(exact), abs(exact.sum())
    if total == 0:
        return {"n": n, "deviation": np.nan, "standard_error": np.nan, "mc_error": np.nan}
    ratio = estimate.sum() / exact.sum()
    scatter = np.std(estimate - ratio * exact, ddof=1) if n > 1 else np.nan
    return {
        "n": n,
        "deviation": float(ratio - 1),
        "standard_error": float(np.sqrt(n) * scatter / total),
        "mc_error": float(ratio * np.sqrt(np.sum(errors**2)) / total),
    }


def _standard_errors(
    variant: VariantResults, known: NDArray[np.float64], distances: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Of Monte Carlo, where it is ``known`` (finite)."""
    errors = np.full_like(known, np.nan)
    for row, restart in enumerate(variant.restarts):
        inside = np.isfinite(known[row])
        if np.any(inside):
            curve = variant.curves[REFERENCE][int(restart)]
            errors[row, inside] = curve.standard_error_at(distances[inside])
    return errors
