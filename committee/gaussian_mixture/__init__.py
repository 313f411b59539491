"""Gaussian mixtures, where Bayes-optimal classifiers live in wide flat minima ([BMNZ20], [M20]).

Linear classifiers of two Gaussian clouds: samples, exact errors, estimators, flatness, and for
each estimator its replica-symmetric theory. Symbols: α = P/N patterns per input, Δ (``delta``)
variance of the clouds, ρ (``rho``) fraction of labels +1, λ (``ridge``), R (``overlap``).
"""

from .bayes import (
    bayes_error,
    bayes_overlap,
    best_bias,
    error_from_mean_margin,
    hebb_local_energy,
    hebb_training_error,
    oracle_error,
    overlap_error,
)
from .estimators import LinearClassifier, fit, hebb
from .flatness import local_energy, local_energy_theory, mean_margin_theory, normalised_margins
from .franz_parisi import FranzParisiCurve, franz_parisi
from .maximum_flatness import (
    max_flat_classifier,
    max_flat_loss,
    max_flat_loss_theory,
    max_flat_theory,
)
from .replica_symmetric import replica_symmetric
from .samples import MixtureSample, sample
from .separability import separability_threshold
from .square import square_closed_form
from .state import ConvergenceWarning, ReplicaSymmetricState

__all__ = [
    "ConvergenceWarning",
    "FranzParisiCurve",
    "LinearClassifier",
    "MixtureSample",
    "ReplicaSymmetricState",
    "bayes_error",
    "bayes_overlap",
    "best_bias",
    "error_from_mean_margin",
    "fit",
    "franz_parisi",
    "hebb",
    "hebb_local_energy",
    "hebb_training_error",
    "local_energy",
    "local_energy_theory",
    "max_flat_classifier",
    "max_flat_loss",
    "max_flat_loss_theory",
    "max_flat_theory",
    "mean_margin_theory",
    "normalised_margins",
    "oracle_error",
    "overlap_error",
    "replica_symmetric",
    "sample",
    "separability_threshold",
    "square_closed_form",
]
