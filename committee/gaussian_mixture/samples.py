"""Two Gaussian clouds of opposite label, around ±v*/√N ([M20], [BMNZ20])."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class MixtureSample(NamedTuple):
    """Patterns (P, N), labels (P,) in {±1}, and the centre v* (N,), ‖v*‖² = N."""

    patterns: NDArray[np.float64]
    labels: NDArray[np.float64]
    centre: NDArray[np.float64]


def sample(
    N: int,
    alpha: float,
    delta: float,
    rho: float = 0.5,
    seed: int | np.random.SeedSequence | np.random.Generator = 0,
) -> MixtureSample:
    """Draw P = round(αN) patterns of the Gaussian mixture.

    ``x = y v*/√N + √Δ z`` with z standard normal, v* uniform on the sphere ‖v*‖² = N, and
    round(ρP) labels y = +1, in random order.

    Parameters
    ----------
    N : inputs per pattern.
    alpha : patterns per input, P/N.
    delta : variance Δ of each cloud, per input.
    rho : fraction of labels +1.
    seed : a seed, a ``SeedSequence`` or a ``Generator``.

    Raises
    ------
    ValueError
        N < 2, fewer than two patterns, Δ ≤ 0, ρ outside (0, 1).
    """
    check_parameters(alpha, delta, rho)
    P = round(alpha * N)
    if N < 2 or P < 2:
        raise ValueError(f"N = {N}, alpha = {alpha:g} give P = {P}; N, P ≥ 2 were expected.")

    rng = np.random.default_rng(seed)
    centre = rng.standard_normal(N)
    centre *= np.sqrt(N) / np.linalg.norm(centre)
    labels = np.where(np.arange(P) < round(rho * P), 1.0, -1.0)
    rng.shuffle(labels)
    patterns = np.sqrt(delta) * rng.standard_normal((P, N))
    patterns += labels[:, None] * (centre / np.sqrt(N))
    return MixtureSample(patterns, labels, centre)


def check_parameters(alpha: float, delta: float, rho: float = 0.5) -> None:
    """Raise ``ValueError`` unless α > 0, Δ > 0 and 0 < ρ < 1, all finite."""
    for name, value in (("alpha", alpha), ("delta", delta)):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} is {value}; a finite number > 0 was expected.")
    if not 0 < rho < 1:
        raise ValueError(f"rho is {rho}; a fraction of labels +1 in (0, 1) was expected.")
