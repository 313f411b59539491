"""Gaussian mixtures, where Bayes-optimal classifiers live in wide flat minima ([BMNZ20], [M20]).

Linear classifiers of two Gaussian clouds: samples, exact errors, estimators, flatness, and for
each estimator its replica-symmetric theory. Symbols: α = P/N patterns per input, Δ (``delta``)
variance of the clouds, ρ (``rho``) fraction of labels +1, λ (``ridge``), R (``overlap``).
"""

from committee.gaussian_mixture.bayes import (
    bayes_error,
    bayes_overlap,
    best_bias,
    error_from_mean_margin,
    hebb_error_under_noise,
    oracle_error,
    overlap_error,
)
from committee.gaussian_mixture.estimators import LinearClassifier, fit, hebb
from committee.gaussian_mixture.flatness import (
    error_under_noise,
    error_under_noise_theory,
    mean_margin_theory,
    normalised_margins,
)
from committee.gaussian_mixture.franz_parisi import FranzParisiCurve, franz_parisi
from committee.gaussian_mixture.maximum_flatness import (
    max_flat_classifier,
    max_flat_loss,
    max_flat_loss_theory,
    max_flat_theory,
)
from committee.gaussian_mixture.replica_symmetric import replica_symmetric
from committee.gaussian_mixture.samples import MixtureSample, sample
from committee.gaussian_mixture.separability import separability_threshold
from committee.gaussian_mixture.state import ConvergenceWarning, ReplicaSymmetricState

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
    "error_under_noise",
    "error_under_noise_theory",
    "fit",
    "franz_parisi",
    "hebb",
    "hebb_error_under_noise",
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
]
