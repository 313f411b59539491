"""Comparisons of algorithms. The draw of the training patterns is the unit of error.

The input is the table of runs, ``ExperimentResults.to_frame()``, with one row per trained machine.
The restarts of a draw share its patterns, so they are not independent. Their mean is one value.
Errors, intervals and tests are over the values of the draws. If all runs belong to one draw, the
unit is the restart, and the errors hold for this draw alone. The column ``unit`` of each table
says so. Collapsed runs are counted and left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from committee.algorithms import PLANNED, PUBLISHED
from committee.results import ExperimentResults

if TYPE_CHECKING:
    import pandas as pd

EXACT_ENGINE = "mc"
DEVIATION_DISTANCES = (0.05, 0.15, 0.3)
CONFIDENCE = 0.95
DISAGREEMENT = 2.0  # in standard errors of each difference


def quantities(runs: pd.DataFrame) -> list[str]:
    """The columns that measure a machine: test error, local energies, local entropies."""
    flatness = ("local_energy_", "local_entropy_")
    return ["test_error", *(name for name in map(str, runs) if name.startswith(flatness))]


def flatness_measures(runs: pd.DataFrame) -> list[str]:
    """The columns of δE(1) and of each engine's Φ_LE(0.3) that exist."""
    found = quantities(runs)
    entropies = [q for q in found if q.startswith("local_entropy_") and q.endswith("_0.3")]
    return [q for q in found if q == "local_energy_1"] + entropies


def unit_of(runs: pd.DataFrame) -> str:
    """The unit of error: "draw", or "restart" if all runs belong to one draw."""
    return "draw" if runs["draw"].nunique() > 1 else "restart"


def without_collapsed(runs: pd.DataFrame) -> pd.DataFrame:
    """The same rows, with NaN for the measurements on collapsed machines."""
    names = ["train_error", *quantities(runs)]
    return runs.assign(**{name: runs[name].mask(runs["collapsed"]) for name in names})


def constant_test_error(results: ExperimentResults) -> float:
    """Test error of the constant answer, averaged over the draws."""
    return float(np.mean([own.constant_test_error for own in results.patterns.values()]))


def planned_pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """The comparisons that were fixed before any result, as (algorithm, reference).

    These are ``committee.algorithms.PLANNED``: each entropic algorithm with its controls and with
    sgd-slow. If none of them is possible, each algorithm is compared with the first one. In
    Figure 6 the first one is training without dropout.
    """
    names = [*names]
    planned = [pair for pair in PLANNED if {*pair} <= {*names}]
    return planned or [(name, names[0]) for name in names[1:]]


def compare_algorithms(
    runs: pd.DataFrame,
    pairs: Sequence[tuple[str, str]] | None = None,
    measures: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Paired comparisons of algorithms for each quantity, by default the planned ones.

    Restart i of draw j starts from the same weights with each algorithm. A run counts only if both
    runs of its pair (draw, restart) exist. The differences, first minus second, are averaged over
    the restarts of a draw. The n means of the draws are the sample.

    Columns: quantity, first, second, unit; ``n``, the units, and ``runs``, the pairs of runs;
    ``difference`` with its standard error and its limits ``low`` and ``high`` (Student, 95 %);
    ``share``, the difference divided by |mean of the second|; ``effect_size``, the difference
    divided by the standard deviation of the n differences, with its 95 % limits
    ``effect_size_low`` and ``effect_size_high`` (non-central t); ``t``; ``p_value`` of the
    two-sided paired t-test over draws, and ``p_holm``, corrected for the number of pairs within
    the quantity (Holm). The test assumes that the differences of the draws are independent and
    normal. The draws share one test set, so the test is about new training patterns. With one
    draw there is no test: p-values are NaN, and limits are over restarts.
    """
    import pandas as pd

    unit, known = unit_of(runs), without_collapsed(runs).set_index(["draw", "restart"])
    tables = {str(name): table for name, table in known.groupby("algorithm", sort=False)}
    rows = []
    for quantity in quantities(runs) if measures is None else measures:
        family: list[dict[str, Any]] = []
        for first, second in planned_pairs(tables) if pairs is None else pairs:
            values = {"difference": tables[first][quantity], "reference": tables[second][quantity]}
            both = pd.DataFrame(values).dropna()
            both["difference"] -= both["reference"]
            means = both.groupby(level=unit).mean()
            about: dict[str, Any] = {"quantity": quantity, "first": first, "second": second}
            about |= {"unit": unit, "n": len(means), "runs": len(both)}
            family.append(about | _difference(means, tested=unit == "draw"))
        corrected = holm([pair["p_value"] for pair in family])
        rows += [{**pair, "p_holm": p} for pair, p in zip(family, corrected, strict=True)]
    return pd.DataFrame(rows)


def _difference(means: pd.DataFrame, tested: bool) -> dict[str, float]:
    values, reference = means.to_numpy(np.float64).T
    n = len(values)
    mean = np.float64(values.mean() if n else np.nan)
    deviation = np.float64(values.std(ddof=1) if n > 1 else np.nan)
    error = deviation / np.sqrt(max(n, 1))
    half = stats.t.ppf((1 + CONFIDENCE) / 2, max(n - 1, 1)) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        t = mean / error if mean or np.isnan(error) else np.float64(0.0)
        share = mean / abs(reference.mean()) if n else np.nan
        effect_size = mean / deviation
    # √n times the true effect size is the parameter of t's non-central distribution.
    limits = special.nctdtrinc(n - 1, [(1 + CONFIDENCE) / 2, (1 - CONFIDENCE) / 2], t)
    return {
        "difference": mean,
        "difference_standard_error": error,
        "low": mean - half,
        "high": mean + half,
        "share": share,
        "effect_size": effect_size,
        "effect_size_low": limits[0] / np.sqrt(max(n, 1)),
        "effect_size_high": limits[1] / np.sqrt(max(n, 1)),
        "t": t,
        "p_value": 2 * stats.t.sf(abs(t), n - 1) if tested and n > 1 else np.nan,
    }


def disagreements(runs: pd.DataFrame) -> pd.DataFrame:
    """Pairs of algorithms for which δE(1) and Φ_LE(0.3) disagree about the flatter one.

    The pairs are the planned ones and all pairs of published algorithms. Both differences are over
    the same runs and must exceed ``DISAGREEMENT`` standard errors. A flatter machine has a lower δE
    and a higher Φ_LE. There is one row per pair and engine. ``by_local_energy`` and
    ``by_local_entropy`` name the flatter algorithm. The columns of each difference (first minus
    second), its standard error and t have the suffix ``_local_energy`` or ``_local_entropy``.
    """
    import pandas as pd

    names = [*runs["algorithm"].unique()]
    published = itertools.combinations([name for name in names if name in PUBLISHED], 2)
    pairs = [*{frozenset(pair): pair for pair in (*published, *planned_pairs(names))}.values()]
    shown = ["first", "second", "unit", "n", "runs", "difference", "difference_standard_error", "t"]
    found = []
    energy, *entropies = flatness_measures(runs)
    for entropy in entropies:
        known = runs.dropna(subset=[energy, entropy])
        there = {*known["algorithm"]}
        possible = [pair for pair in pairs if {*pair} <= there]
        if not possible:
            continue
        rows = compare_algorithms(known, possible, [energy, entropy])
        parts = [rows.loc[rows["quantity"] == name, shown] for name in (energy, entropy)]
        both = parts[0].merge(parts[1], on=shown[:5], suffixes=("_local_energy", "_local_entropy"))
        t = both[["t_local_energy", "t_local_entropy"]]
        both = both[(t.abs() > DISAGREEMENT).all(axis=1) & (t.prod(axis=1) > 0)].copy()
        first_sharper = both["t_local_energy"] > 0
        both["by_local_energy"] = both["second"].where(first_sharper, both["first"])
        both["by_local_entropy"] = both["first"].where(first_sharper, both["second"])
        found.append(both.assign(engine=entropy.split("_")[2]))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """P-values corrected for their number by Holm's step-down method. NaN stays NaN."""
    p = np.asarray(p_values, dtype=np.float64)
    corrected = np.full_like(p, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known])]
    factors = len(order) - np.arange(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return corrected


def deviations(results: ExperimentResults) -> pd.DataFrame:
    """Relative deviation of each engine's Φ_LE from Monte Carlo, with one row per distance.

    Columns: algorithm, engine, distance, unit; ``n``, the number of runs with both values;
    ``deviation``, ΣΦ/ΣΦ_mc − 1 over these runs; ``deviation_standard_error``, from the scatter of
    Σ(Φ − (1 + deviation) Φ_mc) over the units (NaN for a single unit); ``mc_error``, the
    contribution of Monte Carlo's error bars alone. Collapsed runs are left out. Without curves by
    Monte Carlo the table is empty.
    """
    import pandas as pd

    rows = []
    distances = np.array(DEVIATION_DISTANCES)
    unit = unit_of(pd.concat([own.runs for own in results.algorithms.values()]))
    others = [engine for engine in results.engines if engine != EXACT_ENGINE]
    for algorithm in results.algorithms.values() if EXACT_ENGINE in results.engines else ():
        exact = algorithm.local_entropy(EXACT_ENGINE, distances)
        errors = algorithm.local_entropy(EXACT_ENGINE, distances, error=True)
        kept = ~algorithm.runs["collapsed"].to_numpy(bool)
        units = algorithm.runs[unit].to_numpy()
        for engine in others:
            estimate = algorithm.local_entropy(engine, distances)
            for i, distance in enumerate(DEVIATION_DISTANCES):
                known = np.isfinite(exact[:, i]) & np.isfinite(estimate[:, i]) & kept
                about = {"algorithm": algorithm.name, "engine": engine, "distance": distance}
                values = (x[known] for x in (estimate[:, i], exact[:, i], errors[:, i], units))
                rows.append({**about, "unit": unit, **_deviation(*values)})
    return pd.DataFrame(rows)


def _deviation(
    estimate: NDArray[np.float64],
    exact: NDArray[np.float64],
    errors: NDArray[np.float64],
    units: NDArray[Any],
) -> dict[str, Any]:
    total = abs(exact.sum())
    ratio = estimate.sum() / exact.sum() if total else np.nan
    names, codes = np.unique(units, return_inverse=True)
    residuals = np.bincount(codes, estimate - ratio * exact, minlength=len(names))
    scatter = residuals.std(ddof=1) if len(names) > 1 and total else np.nan
    return {
        "n": len(exact),
        "deviation": ratio - 1,
        "deviation_standard_error": np.sqrt(len(names)) * scatter / total if total else np.nan,
        "mc_error": ratio * np.sqrt(np.sum(errors**2)) / total if total else np.nan,
    }
