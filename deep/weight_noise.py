"""Local energy of a network: the increase of its error under multiplicative weight noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from committee.flatness import LocalEnergyProfile
from deep.images.minibatches import Data, as_loader, evaluate, stream_seed
from deep.measurements import BatchNormMode, Scope
from deep.model_state import modes_kept, values_kept
from message_passing.tools.validation import check, check_one_of, check_sigmas

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

DEFAULT_SIGMAS = np.linspace(0.0, 0.5, 11)


@dataclass(frozen=True, repr=False)
class NetworkLocalEnergyProfile(LocalEnergyProfile):
    """A ``LocalEnergyProfile`` of a network, with the options of the measurement.

    Attributes
    ----------
    scope
        The perturbed parameters.
    bn
        Treatment of BatchNorm's running statistics.
    images
        Description of the images on which errors were counted.
    """

    scope: Scope
    bn: BatchNormMode
    images: str = "the loader's images"

    def __repr__(self) -> str:
        last, error = 100 * self.local_energy[-1], 100 * self.standard_error[-1]
        return (
            f"<local energy δE({self.sigma[-1]:g}) = {last:.2f} ± {error:.2f} %, error without "
            f"noise {100 * float(self.reference_error):.2f} %, {self.samples} noise vectors, "
            f"{self.images}>"
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per σ: sigma, local_energy and its standard error, reference_error."""
        frame = super().to_frame().drop(columns="machine")
        return frame.assign(reference_error=float(self.reference_error))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Plot δE(σ) in percent, with a band of one standard error."""
        from deep.figures import plot_local_energy

        return plot_local_energy({"": self}, ax)


@torch.no_grad()
def local_energy(
    model: nn.Module,
    inputs: Data,
    targets: Tensor | None = None,
    *,
    sigmas: ArrayLike = DEFAULT_SIGMAS,
    samples: int = 10,
    scope: Scope = "all",
    bn: BatchNormMode = "keep",
    seed: int = 0,
) -> NetworkLocalEnergyProfile:
    """Local energy of [P21] eq. 4: ``δE(σ) = ⟨E(w∘(1 + σz))⟩_z − E(w)``, z standard Gaussian.

    The network is perturbed in place, evaluated in evaluation mode on all inputs, and restored
    exactly. The noise vectors z are the same for all σ.

    Parameters
    ----------
    model
        Any classifier.
    inputs, targets : (P, …), (P,)
        Tensors on the model's device, or a loader of (inputs, targets) in place of both. It must
        yield the same batches in each iteration, as ``ImageBatches`` does even with augmentation.
    sigmas : (S,)
        Noise intensities σ ≥ 0, strictly increasing.
    samples : int
        Number of noise vectors z, at least 2.
    scope
        ``"all"``: perturb every parameter. ``"weights"``: only parameters with two or more indices,
        which excludes biases and BatchNorm's parameters.
    bn
        ``"keep"``: BatchNorm's running statistics stay. ``"recalibrate"``: measure them again over
        the loader for every perturbed network and for the unperturbed reference.
    seed
        Seed of the noise.

    Raises ``ValueError`` for unordered or negative sigmas, fewer than two samples, unknown
    options, and data that are neither two tensors of equal length nor a loader with a batch.
    """
    loader = as_loader(inputs, targets)
    grid = check_sigmas(sigmas)
    check("samples", samples, samples >= 2, "at least 2")
    check_one_of("bn", bn, ("keep", "recalibrate"))
    check_one_of("scope", scope, ("all", "weights"))
    parameters: list[Tensor] = [p for p in model.parameters() if scope == "all" or p.ndim >= 2]
    if not parameters:
        raise ValueError(f"model has no parameters in scope {scope!r}.")
    increase = np.zeros((samples, len(grid)))  # error minus reference error

    with modes_kept(model), values_kept([*model.parameters(), *model.buffers()]):
        if bn == "recalibrate":
            update_bn(loader, model)
        _, reference = evaluate(model, loader)
        originals = [p.detach().clone() for p in parameters]
        for sample in range(samples):
            for s, sigma in enumerate(grid):
                if sigma == 0:
                    continue
                generator = torch.Generator(parameters[0].device)
                generator.manual_seed(stream_seed(seed, sample))
                for p, original in zip(parameters, originals, strict=True):
                    # randn of the shape, not randn_like: the same noise in every memory format.
                    z = torch.randn(p.shape, generator=generator, device=p.device, dtype=p.dtype)
                    p.copy_(z.mul_(sigma).add_(1)).mul_(original)
                if bn == "recalibrate":
                    update_bn(loader, model)
                increase[sample, s] = evaluate(model, loader)[1] - reference

    return NetworkLocalEnergyProfile(
        sigma=grid,
        local_energy=increase.mean(axis=0),
        standard_error=increase.std(axis=0, ddof=1) / np.sqrt(samples),
        reference_error=np.asarray(reference),
        samples=samples,
        scope=scope,
        bn=bn,
    )
