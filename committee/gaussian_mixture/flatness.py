"""Flatness of linear classifiers: the training error under noise on unit-length weights.

This noise is additive and isotropic. The noise of ``committee.local_energy`` is relative to each
weight.

Noise σz/√N on w/‖w‖ (z standard normal) adds a Gaussian of width σ‖x‖/√N to the margin of a
pattern. In units of ‖x‖/√N ≈ √Δ, the margin is κ = y √N (w·x + √N b)/(‖w‖‖x‖). So, exactly,

    E_σ = (1/P) Σ_μ Q(κ_μ/σ).

For large σ, E_σ ≈ ½ − κ̄/(σ√(2π)). The error of a classifier made from balanced data decreases
with κ̄ and depends on nothing else (:func:`error_from_mean_margin`). So **for large σ, the order
by flatness is the order by generalisation**. The flattest direction, Hebb's, is Bayes-optimal.

But Hebb's rule does *not* have the highest local entropy at every distance. If it makes training
errors and a minimiser of the hinge loss makes none, there are fewer solutions near Hebb's rule
(``franz_parisi.py``). Flatness ranks classifiers of equal training error, or at large distances.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from committee.gaussian_mixture.estimators import LinearClassifier
from committee.gaussian_mixture.state import ReplicaSymmetricState
from message_passing.tools.validation import check_labels, check_patterns


def normalised_margins(
    classifier: LinearClassifier | ArrayLike, patterns: ArrayLike, labels: ArrayLike
) -> NDArray[np.float64]:
    """κ = y √N (w·x + √N b)/(‖w‖‖x‖), shape (P,): the margin in units of ‖w‖‖x‖/√N.

    Takes a classifier, or weights (N,) without bias.
    """
    if not isinstance(classifier, LinearClassifier):
        classifier = LinearClassifier(np.asarray(classifier, dtype=float).reshape(-1), 0.0, "")
    weights, bias = classifier.weights, classifier.bias
    if not (np.all(np.isfinite(weights)) and np.any(weights)):
        raise ValueError("weights are zero or not finite; a direction was expected.")
    x = check_patterns(patterns, len(weights))
    y = check_labels(labels, len(x))
    N = x.shape[1]
    preactivations = (x @ weights + np.sqrt(N) * bias) / np.linalg.norm(weights)
    return y * preactivations * np.sqrt(N) / np.linalg.norm(x, axis=1)


def error_under_noise(
    classifier: LinearClassifier | ArrayLike,
    patterns: ArrayLike,
    labels: ArrayLike,
    sigmas: ArrayLike,
) -> NDArray[np.float64]:
    """E_σ = (1/P) Σ Q(κ_μ/σ) for each σ ≥ 0, exactly; at σ = 0 the training error."""
    margins = normalised_margins(classifier, patterns, labels)
    sigma = np.atleast_1d(np.asarray(sigmas, dtype=float))
    if np.any(~(sigma >= 0)):
        raise ValueError(f"sigmas contains {sigma[~(sigma >= 0)][0]}; numbers ≥ 0 were expected.")
    return np.array([np.mean(ndtr(-margins / s)) if s > 0 else np.mean(margins < 0) for s in sigma])


def error_under_noise_theory(
    state: ReplicaSymmetricState, sigmas: ArrayLike
) -> NDArray[np.float64]:
    """Replica-symmetric E_σ = E[Q(v/(σ√(Δq)))] of a typical minimiser, for each σ ≥ 0."""
    errors = []
    for sigma in np.atleast_1d(np.asarray(sigmas, dtype=float)):
        if sigma == 0:
            errors.append(state.training_error)
            continue
        margins = state.margins(sigma * state.width * np.arange(-6.0, 6.5, 1.0))
        errors.append(margins.mean(ndtr(-margins.v / (sigma * state.width))))
    return np.array(errors)


def mean_margin_theory(state: ReplicaSymmetricState) -> float:
    """Replica-symmetric mean normalised margin κ̄ = E[v]/√(Δq)."""
    margins = state.margins()
    return margins.mean(margins.v) / state.width
