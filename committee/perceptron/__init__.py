"""The spherical perceptron: replica theory, exact for N → ∞, compared with instances.

Symbols: α = P/N patterns per input; κ (``kappa``), margin of solutions of norm √N; q, overlap of
two solutions; R, overlap of a solution with a teacher; Δ, d, Φ_LE as in ``message_passing``.
"""

from committee.perceptron.franz_parisi import franz_parisi
from committee.perceptron.gardner import (
    bayes_error,
    gardner_volume,
    generalisation_error,
    gibbs_error,
    hebb_error,
    maximum_margin,
    maximum_margin_error,
    maximum_margin_overlap,
    teacher_overlaps,
    typical_overlap,
)
from committee.perceptron.instances import Instance
from committee.perceptron.references import Reference, make_reference

__all__ = [
    "Instance",
    "Reference",
    "bayes_error",
    "franz_parisi",
    "gardner_volume",
    "generalisation_error",
    "gibbs_error",
    "hebb_error",
    "make_reference",
    "maximum_margin",
    "maximum_margin_error",
    "maximum_margin_overlap",
    "teacher_overlaps",
    "typical_overlap",
]
