"""All measures of flatness of a network in one report, for the whole and for each layer."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor, nn

from deep.hessian import HessianSpectrum, HessianTrace, hessian_spectrum, hessian_trace
from deep.images.minibatches import Data, as_tensors
from deep.local_entropy import NetworkLocalEntropyCurve, local_entropy_curve
from deep.weight_noise import NetworkLocalEnergyProfile, local_energy
from message_passing.ladder import LadderSettings
from message_passing.tools.tables import with_error
from message_passing.tools.validation import check, check_sigmas

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

SIGMAS = (0.05, 0.1, 0.2, 0.3, 0.5)


@dataclass(frozen=True)
class Measures:
    """Flatness in some parameters of a network. The others are fixed.

    Attributes
    ----------
    local_entropy : Φ_LE(d), with standard errors and ``converged``.
    local_energy : δE(σ).
    spectrum : largest eigenvalues of the Hessian of the mean cross-entropy.
    trace : trace of the same Hessian.
    """

    local_entropy: NetworkLocalEntropyCurve
    local_energy: NetworkLocalEnergyProfile
    spectrum: HessianSpectrum
    trace: HessianTrace

    @property
    def converged(self) -> bool:
        """Whether the entropy curve and the eigenvalues converged."""
        return bool(self.local_entropy.converged.all()) and self.spectrum.converged


@dataclass(frozen=True, repr=False)
class FlatnessReport:
    """Result of :func:`flatness`.

    Attributes
    ----------
    network : Measures
        Flatness in all parameters.
    layers : name → Measures
        Flatness in the parameters of one layer.
    """

    network: Measures
    layers: dict[str, Measures]

    def __repr__(self) -> str:
        curve, profile = self.network.local_entropy, self.network.local_energy
        log_z = curve.parameters * np.array([curve.local_entropy, curve.standard_error])
        missed = [name for name, m in self._parts() if not m.converged]
        return (
            f"FlatnessReport({curve.parameters} parameters in {len(self.layers)} layers, "
            f"{curve.training_errors} errors on {curve.patterns} inputs, "
            f"D Φ_LE({curve.distance[-1]:.2g}) = {with_error(*log_z[:, -1])}, "
            f"δE({profile.sigma[-1]:g}) = "
            f"{with_error(profile.local_energy[-1], profile.standard_error[-1])}, "
            f"largest eigenvalue {self.network.spectrum.eigenvalues[0]:.3g}, trace "
            f"{with_error(self.network.trace.trace, self.network.trace.standard_error)}, "
            f"not converged: {', '.join(missed) or 'none'})"
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per number: part, measure, at (d, σ or index), value, its error, converged.

        The part is "network" or the name of a layer. Entropies are per parameter.
        """
        import pandas as pd

        frames = []
        for part, m in self._parts():
            curve, profile, spectrum = m.local_entropy, m.local_energy, m.spectrum
            found = np.isfinite(spectrum.eigenvalues)
            index = np.arange(len(found))
            for measure, *columns in (
                ("local_entropy", curve.distance, curve.local_entropy, curve.standard_error,
                 curve.converged),
                ("local_energy", profile.sigma, profile.local_energy, profile.standard_error, True),
                ("hessian_eigenvalue", index, spectrum.eigenvalues, spectrum.residuals, found),
                ("hessian_trace", [0], m.trace.trace, m.trace.standard_error, True),
            ):  # fmt: skip
                names = ("at", "value", "value_standard_error", "converged")
                frame = pd.DataFrame(dict(zip(names, columns, strict=True)))
                frames.append(frame.assign(part=part, measure=measure))
        table = pd.concat(frames, ignore_index=True)
        return table[["part", "measure", "at", "value", "value_standard_error", "converged"]]

    def plot(self) -> list[Axes]:
        """Plot three panels: Φ_LE(d), δE(σ), and the largest eigenvalue of each part."""
        from matplotlib.figure import Figure

        from deep.figures import plot_local_energy

        axes = list(Figure(figsize=(14, 4), layout="constrained").subplots(1, 3))
        for name, m in self._parts():
            m.local_entropy.plot(axes[0], label=name)
        axes[0].legend(fontsize="small")
        plot_local_energy({name: m.local_energy for name, m in self._parts()}, axes[1])
        names, values = zip(
            *[(name, m.spectrum.eigenvalues[0]) for name, m in self._parts()], strict=True
        )
        axes[2].bar(names, values)
        axes[2].set_ylabel("largest eigenvalue of the Hessian")
        axes[2].tick_params(axis="x", rotation=45)
        return axes

    def _parts(self) -> list[tuple[str, Measures]]:
        return [("network", self.network), *self.layers.items()]


def flatness(
    model: nn.Module,
    inputs: Data,
    targets: Tensor | None = None,
    *,
    variances: ArrayLike | None = None,
    distances: ArrayLike | None = None,
    errors: int | None = None,
    sigmas: ArrayLike = SIGMAS,
    samples: int = 10,
    eigenvalues: int = 3,
    trace_samples: int = 30,
    layers: bool = True,
    sampler: LadderSettings | None = None,
    seed: int = 0,
    progress: bool = True,
) -> FlatnessReport:
    """Local entropy, local energy and Hessian of a classifier, for the whole and for each layer.

    A layer is a module with its own parameters. Its measures keep all other parameters fixed. See
    :func:`deep.local_entropy_curve` (with ``scale="layer"``), :func:`deep.local_energy`,
    :func:`deep.hessian_spectrum` and :func:`deep.hessian_trace` (both of the mean cross-entropy)
    for equations, units and normalisations.

    Parameters
    ----------
    model
        A classifier: outputs (P, C), C ≥ 2. It is not changed.
    inputs, targets : (P, …), (P,)
        Tensors on the model's device, with classes from 0 to C − 1, or a loader in place of both.
    variances, distances, errors, sampler
        Options of the local entropy. Each layer has its own default variances.
    sigmas, samples
        Options of the local energy.
    eigenvalues, trace_samples
        Options of the Hessian.
    layers : bool
        False: measure the whole network only.
    seed : int
        The same seed gives the same result.
    progress : bool
        Show a progress bar for each curve.

    Raises the ``ValueError`` of these functions, before any long work.
    """
    check_sigmas(sigmas)
    check("samples", samples, samples >= 2, "at least 2")
    inputs, targets = as_tensors(inputs, targets)
    if targets.ndim != 1 or targets.is_floating_point():
        raise ValueError(
            f"targets have the shape {tuple(targets.shape)} and the type {targets.dtype}; whole "
            "numbers (P,), the classes, were expected."
        )

    data = inputs, targets

    def measure(part: nn.Module) -> Measures:
        curve = local_entropy_curve(
            part, *data, variances=variances, distances=distances, errors=errors,
            sampler=sampler, seed=seed, progress=progress,
        )  # fmt: skip
        largest = min(eigenvalues, sum(p.numel() for p in part.parameters()) - 1)
        return Measures(
            curve,
            local_energy(part, *data, sigmas=sigmas, samples=samples, seed=seed),
            hessian_spectrum(part, *data, k=largest, seed=seed),
            hessian_trace(part, *data, samples=trace_samples, seed=seed),
        )

    owners = [n for n, module in model.named_modules() if list(module.parameters(recurse=False))]
    parts = {name: only_layer(model, name) for name in owners} if layers else {}
    return FlatnessReport(
        measure(copy.deepcopy(model)), {name: measure(part) for name, part in parts.items()}
    )


def only_layer(model: nn.Module, name: str) -> nn.Module:
    """A copy of the model in which only the layer's parameters remain; the others are buffers."""
    part = copy.deepcopy(model)
    kept = {id(p) for p in part.get_submodule(name).parameters(recurse=False)}
    for module in part.modules():
        for key, p in list(module.named_parameters(recurse=False)):
            if id(p) not in kept:
                delattr(module, key)
                module.register_buffer(key, p.detach(), persistent=False)
    return part
