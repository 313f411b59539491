"""Largest α at which the two clouds are linearly separable, for N → ∞.

By Gordon's inequality, with probability tending to one, a direction with all margins positive
exists if α < α_c and does not exist if α > α_c, with

    1/α_c = min over c (and b) of (1 + c²) E[(ξ − (c + yb)/√(Δ(1 + c²)))₊²],   ξ ~ N(0, 1),

Here c is the ratio of the weights' components along the centre and orthogonal to it. Without
signal (Δ → ∞), this is Cover's α_c = 2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import ndtr

from committee.gaussian_mixture.quadrature import density
from committee.gaussian_mixture.samples import check_parameters


def separability_threshold(delta: float, rho: float = 0.5, bias: bool = False) -> float:
    """α_c: below it patterns are linearly separable. ``bias`` allows an offset b."""
    check_parameters(1.0, delta, rho)
    scale = np.sqrt(delta)

    def violation(x: NDArray) -> float:
        c = x[0]
        b = x[1] if bias else 0.0
        length = np.sqrt(1.0 + c * c)
        average = 0.0
        for label, fraction in ((1.0, rho), (-1.0, 1.0 - rho)):
            a = (c + label * b) / (scale * length)
            average += fraction * ((1.0 + a * a) * ndtr(-a) - a * density(a))
        return float(np.log(length**2 * average))

    start = np.array([1.0 / scale, 0.0]) if bias else np.array([1.0 / scale])
    options = {"xatol": 1e-9, "fatol": 1e-13}
    least = minimize(violation, start, method="Nelder-Mead", options=options)
    return float(np.exp(-least.fun))
