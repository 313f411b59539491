"""Control variates: observables of an instance with known values at N → ∞.

Φ_LE of an instance scatters around the theory (by 0.2/√N at α = 0.5), far more than its sampling
error. Observables f with known limits f_∞ explain most of this scatter,

    ⟨v⟩, ⟨v²⟩, ψ = ⟨log Φ(v/√Δ)⟩,  each (1/N) Σ_μ,
    T = (Δ/N) ‖Π Σ_μ g(v_μ) σ_μ x_μ/√N‖²,   g(v) = ∂ log Φ(v/√Δ)/∂v,   Π ⟂ w̃,

the first two orders of log Z in the overlaps between patterns; Π projects orthogonal to w̃. With a
teacher, R is added. The last control is the volume of all solutions: φ at Δ = 1000 around the
maximum-margin solution. It explains most of the scatter near capacity. A linear regression on
f − f_∞ removes the scatter and keeps the limit N → ∞.

With the averages of ``franz_parisi.py``, the reference's q and R, and b = (⟨gz⟩, ⟨gv⟩, ⟨gu*⟩),

    T_∞ = Δ [α⟨g²⟩ + α² (bᵀ Q⁻¹ b − ⟨gv⟩²)],
    Q = ((R²/q, √q, R/√q), (√q, 1, R), (R/√q, R, 1));

Without a teacher, b and Q are cut to the first two rows and columns.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from committee.perceptron.franz_parisi import franz_parisi
from committee.perceptron.gardner import force
from committee.perceptron.instances import Instance
from committee.perceptron.references import Reference
from message_passing.local_entropy import local_entropy_curve

#: Δ on the way to a Gaussian so wide that it sees nearly all solutions.
WIDE = np.geomspace(0.1, 1e3, 7)

#: Names of the observables f, in the order of ``observed`` and ``expected``.
NAMES = ("stability", "square", "log_probability", "alignment", "teacher_overlap")


def observed(instance: Instance, weights: NDArray, variance: float) -> NDArray[np.float64]:
    """f of an instance for the reference ``weights`` (N,); R is 0 without a teacher."""
    N, root = len(weights), np.sqrt(variance)
    v = instance.stabilities(weights)
    g = force(-v / root) / root
    direction = weights / np.linalg.norm(weights)
    pull = (g * instance.labels) @ instance.patterns / np.sqrt(N)
    pull = pull - (pull @ direction) * direction
    R = 0.0 if instance.teacher is None else direction @ instance.teacher / np.sqrt(N)
    sums = [np.sum(v), np.sum(v * v), np.sum(log_ndtr(v / root)), variance * (pull @ pull)]
    return np.append(np.array(sums) / N, R)


def expected(reference: Reference, variance: float) -> NDArray[np.float64]:
    """f_∞, the limits for N → ∞."""
    alpha, root = reference.alpha, np.sqrt(variance)
    z, v, weight = reference.with_labels(float(root))
    g = force(-v / root) / root
    length, R = np.sqrt(reference.q), reference.R
    along = reference.teacher_field(float(root))
    b = np.array([weight @ (g * z), weight @ (g * v), along @ g])
    turn = R / length
    Q = np.array([[turn**2, length, turn], [length, 1.0, R], [turn, R, 1.0]])
    if not reference.teacher:
        b, Q = b[:2], Q[:2, :2]
    aligned = alpha * (weight @ g**2) + alpha**2 * (b @ np.linalg.solve(Q, b) - b[1] ** 2)
    sums = [weight @ v, weight @ v**2, weight @ log_ndtr(v / root)]
    return np.array([*(alpha * np.array(sums)), variance * aligned, R])


def observed_volume(instance: Instance) -> float:
    """φ of an instance at the last Δ of ``WIDE``, by ep. NaN without solutions or convergence."""
    try:
        # The maximum-margin solution draws no random number.
        weights = instance.reference("max-margin", np.random.default_rng(0))
    except ArithmeticError:
        return float("nan")
    if np.any(instance.stabilities(weights) <= 0):
        return float("nan")
    curve = local_entropy_curve(weights[None], instance.patterns, instance.labels, variances=WIDE)
    return float(curve.free_entropy[-1]) if curve.converged[-1] else float("nan")


@lru_cache
def expected_volume(alpha: float, teacher: bool) -> float:
    """The limit of ``observed_volume`` for N → ∞."""
    curve = franz_parisi(alpha, WIDE, "max-margin", teacher=teacher)
    return float(curve.free_entropy[-1])
