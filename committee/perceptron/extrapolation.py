"""Deviations of instances from the theory, at each N and at N → ∞.

For each family, distance and engine, and with the controls f of ``controls.py``,

    Φ_LE(instance) − Φ_LE(theory) = a + b/N + c·(f − f_∞) + noise of variance ∝ 1/N,

is fitted by least squares. The difference that remains at N → ∞ is a ± its standard error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from committee.perceptron.controls import NAMES

if TYPE_CHECKING:
    import pandas as pd

KEYS = ["labels", "name", "fraction"]
CONTROLS = ["volume", *NAMES]


class Fit(NamedTuple):
    """a, its standard error, and the deviation of each instance minus c·(f − f_∞)."""

    limit: float
    standard_error: float
    controlled: NDArray[np.float64]


def extrapolate(
    deviations: NDArray[np.float64], sizes: NDArray[np.float64], controls: NDArray[np.float64]
) -> Fit:
    """Fit deviations (M,) of instances of sizes N (M,) with controls f − f_∞ (M, F).

    With fewer than two instances per parameter, controls are dropped, the last ones first. Fewer
    than four instances, or a single size, give NaN.
    """
    spread = controls.std(axis=0) > 1e-12
    controls = controls[:, spread]
    controls = controls[:, : max(0, len(deviations) // 2 - 2)]
    trend = [np.ones(len(sizes)), 1.0 / sizes]
    if len(set(sizes)) < 2 or len(sizes) < 4:
        return Fit(np.nan, np.nan, deviations)
    scale = controls.std(axis=0)
    design = np.column_stack([*trend, controls / scale])
    root = np.sqrt(sizes)
    weighted = design * root[:, None]
    found, _, rank, _ = np.linalg.lstsq(weighted, deviations * root, rcond=None)
    left = (deviations - design @ found) * root
    noise = float(left @ left) / max(len(sizes) - rank, 1)
    covariance = np.linalg.pinv(weighted.T @ weighted) * noise
    controlled = deviations - design[:, 2:] @ found[2:]
    return Fit(float(found[0]), float(np.sqrt(covariance[0, 0])), controlled)


def with_theory(results: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Instances with ``local_entropy_theory``, ``deviation`` and the controls f − f_∞."""
    theory = results["theory"]
    points = theory[theory["kind"] == "point"]
    points = points[[*KEYS, "kappa", "variance", "local_entropy", *CONTROLS]]
    table = results["instances"].merge(points, on=[*KEYS, "variance"], suffixes=("", "_theory"))
    table["deviation"] = table["local_entropy"] - table["local_entropy_theory"]
    for name in CONTROLS:
        table[name] = table[name] - table[f"{name}_theory"]
    return table


def summarise(results: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per family, distance, engine and N, where N is "infinity" or a size.

    ``deviation`` from the theory is a of the fit, or the mean over instances of one size minus the
    controls' part. For "mc" it is a sum of two estimates: the deviation of "ep", which has more
    instances, and the difference between "mc" and "ep" on the instances of "mc".
    ``plain_deviation`` uses the engine's own instances, without controls. Instances whose volume
    is NaN are left out.
    """
    import pandas as pd

    table = with_theory(results)
    table = table[table["converged"] & table["volume"].notna()]
    rows: list[dict[str, object]] = []
    for keys, family in table.groupby([*KEYS, "variance"], sort=False):
        first = family.iloc[0]
        common = {
            **dict(zip(KEYS, keys, strict=False)),
            "kappa": first["kappa"],
            "distance": first["distance"],
            "theory": first["local_entropy_theory"],
        }
        ep: dict[str, tuple[float, float]] = {}
        for engine in ("ep", "bp", "mc"):  # "mc" uses the result of "ep"
            group = family[family["engine"] == engine]
            if group.empty:
                continue
            plain = _estimates(group["deviation"], group["N"], np.zeros((len(group), 0)))
            if engine == "mc":
                both = group.merge(
                    family[family["engine"] == "ep"], on=["N", "instance"], suffixes=("", "_ep")
                )
                gap = both["deviation"] - both["deviation_ep"]
                gaps = _estimates(gap, both["N"], np.zeros((len(both), 0)))
                found = {N: _sum(ep[N], gaps[N]) for N in gaps.keys() & ep.keys()}
            else:
                found = _estimates(group["deviation"], group["N"], group[CONTROLS].to_numpy())
                ep = found if engine == "ep" else ep
            counts = group["N"].value_counts()
            for N in sorted(found, key=lambda size: (size != "infinity", size.zfill(9))):
                rows.append(
                    {
                        **common,
                        "engine": engine,
                        "N": N,
                        "instances": len(group) if N == "infinity" else int(counts[int(N)]),
                        "deviation": found[N][0],
                        "deviation_standard_error": found[N][1],
                        "plain_deviation": plain[N][0],
                        "plain_deviation_standard_error": plain[N][1],
                    }
                )
    return pd.DataFrame(rows)


def _estimates(
    deviations: pd.Series, sizes: pd.Series, controls: NDArray[np.float64]
) -> dict[str, tuple[float, float]]:
    """Value and standard error at N → ∞ and at each N with at least two instances."""
    fit = extrapolate(deviations.to_numpy(), sizes.to_numpy(dtype=float), controls)
    found = {"infinity": (fit.limit, fit.standard_error)}
    for N in sorted(set(sizes)):
        part = fit.controlled[sizes.to_numpy() == N]
        if len(part) > 1:
            found[str(N)] = float(part.mean()), float(part.std(ddof=1) / np.sqrt(len(part)))
    return found


def _sum(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return one[0] + other[0], float(np.hypot(one[1], other[1]))


def root_mean_square(summary: pd.DataFrame, engine: str) -> tuple[float, float, int]:
    """RMS deviation at N → ∞, RMS of the standard errors, and number of points."""
    limits = summary[(summary["N"] == "infinity") & (summary["engine"] == engine)].dropna()
    return (
        float(np.sqrt(np.mean(limits["deviation"] ** 2))),
        float(np.sqrt(np.mean(limits["deviation_standard_error"] ** 2))),
        len(limits),
    )
