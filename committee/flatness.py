"""Flatness of a minimum by its local energy ([P21] eq. 4): training error under weight noise.

    δE(σ) = ⟨E(w∘(1 + σz))⟩_z − E(w),   z_ki i.i.d. standard Gaussian,

It is the mean training error of the machine with multiplicative noise on its weights, minus its
error without noise. Low is flat. For the committee the average over z is known in closed form:
given a pattern, the K pre-activations are independent Gaussians with mean ``w_k·x`` and standard
deviation ``σ ‖w_k∘x‖``. So each hidden unit is right with a known probability, and the number of
right units is Poisson-binomial.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from committee.machine import error_rate, predict_from_preactivations
from message_passing.output_node import Majority
from message_passing.tools.validation import (
    check_labels,
    check_patterns,
    check_sigmas,
    check_weights,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

DEFAULT_SIGMAS = np.linspace(0.0, 1.5, 31)
SAMPLES_AT_ONCE = 64


@dataclass(frozen=True, repr=False)
class LocalEnergyProfile:
    """Local energy of one machine or several, as a function of the noise intensity.

    Attributes
    ----------
    sigma : (S,)
        Noise intensities, relative to each weight.
    local_energy : (..., S)
        δE(σ), a difference of error rates.
    standard_error : (..., S)
        Standard error of ``local_energy`` over the samples of z. It is zero for an exact average.
        All σ share their samples, so neighbouring values have correlated errors.
    reference_error : (...)
        E(w), the error rate without noise.
    samples : int
        Number of noise vectors z, or 0 for an exact average over z.
    """

    sigma: NDArray[np.float64]
    local_energy: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    reference_error: NDArray[np.float64]
    samples: int

    def at(self, sigma: ArrayLike) -> NDArray[np.float64]:
        """δE at other noise intensities, by linear interpolation.

        Parameters
        ----------
        sigma : array of any shape, or a number

        Returns
        -------
        array (..., shape of ``sigma``)

        Raises ``ValueError`` outside the computed range of σ.
        """
        wanted = np.asarray(sigma, dtype=np.float64)
        first, last = self.sigma[0], self.sigma[-1]
        if not np.all((wanted >= first) & (wanted <= last)):
            raise ValueError(
                f"sigma is {wanted}; numbers in [{first:g}, {last:g}], where the profile was "
                "computed, were expected."
            )
        energy = self.local_energy
        return np.apply_along_axis(lambda e: np.interp(wanted, self.sigma, e), -1, energy)

    def to_frame(self) -> pd.DataFrame:
        """One row per machine and σ: machine, sigma, local_energy and its standard error."""
        import pandas as pd

        machines = self.reference_error.size
        return pd.DataFrame(
            {
                "machine": np.repeat(np.arange(machines), len(self.sigma)),
                "sigma": np.tile(self.sigma, machines),
                "local_energy": self.local_energy.ravel(),
                "local_energy_standard_error": self.standard_error.ravel(),
            }
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """δE against σ."""
        from committee.figures import plot_local_energy

        return plot_local_energy(self, ax)

    def __repr__(self) -> str:
        how = f"{self.samples} samples" if self.samples else "exact"
        return (
            f"{type(self).__name__}({self.reference_error.size} machines, {len(self.sigma)} σ "
            f"from {self.sigma[0]:g} to {self.sigma[-1]:g}, {how})"
        )


def local_energy(
    weights: ArrayLike,
    patterns: ArrayLike,
    labels: ArrayLike,
    sigmas: ArrayLike = DEFAULT_SIGMAS,
    samples: int | None = None,
    seed: int = 0,
) -> LocalEnergyProfile:
    """Local energy δE(σ) of machines under multiplicative weight noise ([P21] eq. 4).

    Parameters
    ----------
    weights : (..., K, N)
        One machine or several. The norm of the rows does not matter.
    patterns, labels : (P, N), (P,)
    sigmas : (S,)
        Noise intensities ≥ 0, increasing.
    samples : int, optional
        Number of noise vectors per machine, the same vectors for all σ, as in the paper. By
        default the average over the noise is exact.
    seed : int
        Seed of the noise vectors. Each machine has its own vectors.

    Raises
    ------
    ValueError
        Even K, shapes that do not fit, labels other than ±1, NaN, negative or unordered
        sigmas, fewer than two samples.
    """
    weights = check_weights(weights)
    patterns = check_patterns(patterns, weights.shape[-1])
    labels = check_labels(labels, len(patterns))
    sigmas = check_sigmas(sigmas)
    if samples is not None and samples < 2:
        raise ValueError(f"samples is {samples}; at least 2, or None (exact), was expected.")

    # Rescale rows, so that squares neither overflow nor vanish. Powers of two do not round.
    exponents = np.frexp(np.abs(weights).max(axis=-1, keepdims=True))[1]
    machines = np.ldexp(weights, -exponents).reshape(-1, *weights.shape[-2:])
    errors = np.zeros((2, len(machines), len(sigmas)))  # mean, standard error
    for i, child in enumerate(np.random.SeedSequence(seed).spawn(len(machines))):
        if samples is None:
            errors[0, i] = exact_noisy_errors(machines[i], patterns, labels, sigmas)
        else:
            rng = np.random.default_rng(child)
            drawn = sampled_noisy_errors(machines[i], patterns, labels, sigmas, samples, rng)
            errors[:, i] = drawn.mean(axis=0), drawn.std(axis=0, ddof=1) / np.sqrt(samples)
    reference = np.asarray(error_rate(machines, patterns, labels)).reshape(weights.shape[:-2])
    mean, standard_error = errors.reshape(2, *weights.shape[:-2], len(sigmas))
    return LocalEnergyProfile(
        sigma=sigmas,
        local_energy=mean - reference[..., None] + 0.0,  # 0.0 instead of -0.0
        standard_error=standard_error,
        reference_error=reference,
        samples=samples or 0,
    )


def exact_noisy_errors(
    weights: NDArray[np.float64],
    patterns: NDArray[np.float64],
    labels: NDArray[np.float64],
    sigmas: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Mean error rate (S,) of a machine (K, N) under noise, with the exact average over z.

    Given the pattern, ``u_k ~ N(w_k·x, σ² ‖w_k∘x‖²)``, as in the output node of message passing.
    """
    preactivations, unit_variance = weights @ patterns.T, weights**2 @ patterns.T**2
    node = Majority()
    log_right = [
        node.moments(preactivations, s**2 * unit_variance, labels).log_evidence for s in sigmas
    ]
    return -np.expm1(log_right).mean(axis=-1)


def sampled_noisy_errors(
    weights: NDArray[np.float64],
    patterns: NDArray[np.float64],
    labels: NDArray[np.float64],
    sigmas: NDArray[np.float64],
    samples: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Error rates (samples, S) of w∘(1+σz), with the same z for all σ.

    The pre-activations are ``w_k·x + σ (w_k∘z_k)·x``, so one product serves all σ.
    """
    K, N = weights.shape
    preactivations = weights @ patterns.T
    # Single precision changes the shifts by a relative 1e-7, which no error rate shows.
    inputs = np.ascontiguousarray(patterns.T, dtype=np.float32)
    small = weights.astype(np.float32)
    errors = np.empty((samples, len(sigmas)))
    for first in range(0, samples, SAMPLES_AT_ONCE):
        count = min(SAMPLES_AT_ONCE, samples - first)
        noise = small * rng.standard_normal((count, K, N), dtype=np.float32)
        shifts = (noise.reshape(-1, N) @ inputs).reshape(count, K, -1)
        for s, sigma in enumerate(sigmas):
            predictions = predict_from_preactivations(preactivations + sigma * shifts)
            errors[first : first + count, s] = np.mean(predictions != labels, axis=-1)
    return errors
