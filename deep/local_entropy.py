"""Local entropy of any network: the fraction of neighbours with at most a number of errors.

Z(Δ) = P[errors(w + √Δ s∘z) ≤ allowed errors], with z white in the D perturbed parameters and s the
root mean square of the weights of a layer or filter, so Δ is relative. With φ = log Z / D and
r = ⟨‖z‖²⟩ / D over the neighbours within this number of errors, d = rΔ/2 and

    Φ_LE(d) = φ + ½ (r − 1 − log r) ≤ 0,

as in :mod:`message_passing.local_entropy`. For a committee of signs this is eq. 3 of [P21].
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from deep.images.minibatches import Data, as_tensors
from deep.measurements import BatchNormMode, Scope
from deep.perturbed_networks import Loss, PerturbedNetworks, what_is_wrong
from message_passing.elliptical_slices import EllipticalSlices
from message_passing.ladder import LadderSettings, climb
from message_passing.local_entropy import LocalEntropyCurve, check_ladder, legendre_transform
from message_passing.problem import LadderResult
from message_passing.tools.files import content_hash
from message_passing.tools.run_folder import RunFolder
from message_passing.tools.validation import check, check_one_of

if TYPE_CHECKING:
    import pandas as pd

#: Default ladder, in units of the Δ at which half of the draws are allowed (log Z = −0.7).
DEFAULT_LADDER = np.geomspace(0.125, 32.0, 9)
#: Number of draws per test in the search for that Δ.
PILOT_DRAWS = 64
#: With ``distances``, Δ is corrected until d has at most this relative error.
CLOSE_ENOUGH = 0.05
MOST_ROUNDS = 4

#: Number of groups of filters. The groups move one after the other.
BLOCKS = 4

Scale = Literal["layer", "filter"] | float


@dataclass(frozen=True, repr=False)
class NetworkLocalEntropyCurve(LocalEntropyCurve):
    """A ``LocalEntropyCurve`` of a network. Entropies are per perturbed parameter.

    ``patterns`` is the number of inputs, ``training_errors`` the number of the model's own errors.

    Attributes
    ----------
    allowed_errors : int
        Maximum number of errors of a neighbour.
    parameters : int
        D. log Z is D times ``free_entropy``.
    scale, scope, bn
        Options of the measurement.
    """

    allowed_errors: int
    parameters: int
    scale: Scale
    scope: Scope
    bn: BatchNormMode

    def to_frame(self) -> pd.DataFrame:
        """One row per point, with the options as columns."""
        own = ("allowed_errors", "parameters", "scale", "scope", "bn")
        return super().to_frame().assign(**{name: getattr(self, name) for name in own})


def local_entropy_curve(
    model: nn.Module,
    inputs: Data,
    targets: Tensor | None = None,
    *,
    scale: Scale = "layer",
    variances: ArrayLike | None = None,
    distances: ArrayLike | None = None,
    errors: int | None = None,
    loss_threshold: float | None = None,
    loss: Loss | None = None,
    scope: Scope = "all",
    bn: BatchNormMode = "keep",
    sampler: LadderSettings | None = None,
    chains_at_once: int = 16,
    seed: int = 0,
    progress: bool = True,
    out: str | Path | None = None,
) -> NetworkLocalEntropyCurve:
    """Local entropy Φ_LE(d) of a network, by elliptical slices on a ladder in Δ.

    Z(Δ) = P[errors(w + √Δ s∘z) ≤ ``errors``], φ = log Z / D, r = ⟨‖z‖²⟩ / D, d = rΔ/2,
    Φ_LE(d) = φ + ½ (r − 1 − log r), with D the number of perturbed parameters.
    :class:`message_passing.ladder.LadderSettings` explains the standard errors and ``converged``.
    The statistical error does not grow with D. A copy of the model runs in evaluation mode.

    Parameters
    ----------
    model
        A classifier, or any model with a ``loss_threshold``. It must be deterministic in
        evaluation mode.
    inputs, targets : (P, …), (P, …)
        Tensors on the model's device, or a loader in place of both. The largest output classifies
        outputs (P, C) with C ≥ 2 and integer targets. The sign classifies outputs (P,) or (P, 1)
        with targets in {0, 1} or ±1.
    scale : "layer", "filter" or number
        s. "layer": the root mean square of each parameter tensor, so that the curve is invariant
        under rescaling of the layers of a ReLU network. "filter": the same for each filter (first
        index) of tensors with two or more indices. A number: the same for all parameters.
        Parameters with s = 0 are not perturbed and not counted in D.
    variances : (M,), optional
        Increasing Δ > 0. Default: nine, from an eighth to 32 times the Δ at which half of the
        neighbours are allowed (log Z = −0.7).
    distances : (M,), optional
        Increasing d > 0 of the points of the curve, in place of ``variances``. The ladder is
        repeated with corrected Δ until all d are within 5 %. A tangent covers the rest.
    errors : int, optional
        Number of allowed errors. Default: the model's own. More errors reach larger distances.
        Compare models at the same number.
    loss_threshold : float, optional
        An input is an error if its loss exceeds this. Its class is then ignored.
    loss : callable, optional
        Maps outputs and targets to the loss of each input (P,). Default: cross-entropy for integer
        targets, else the squared error summed over outputs.
    scope
        "all" parameters, or "weights": parameters with two or more indices.
    bn
        "keep": BatchNorm's running statistics stay. "recalibrate": measure them again over the
        inputs for each neighbour and for the model itself. This is slow, without early exit.
    sampler : LadderSettings, optional
        Draws, chains, steps. Default: 4000 draws, 16 chains of 80 steps.
    chains_at_once : int
        Number of neighbours that are evaluated together. It bounds the memory.
    seed : int
        The same seed gives the same result.
    progress : bool
        Show a bar with one step per point.
    out : path, optional
        A folder for the state after each rung. An interrupted call resumes from there.

    Raises
    ------
    ValueError
        Before any work: no inputs, different lengths or devices, outputs that are no classes
        without a ``loss_threshold``, outputs that are not finite or differ between two evaluations,
        ``errors`` below the model's own, unknown options, a folder with other settings. Later:
        no neighbour makes few enough errors, however small Δ is.

    Sources: [P21] eq. 3; Murray, Adams, MacKay (AISTATS 2010) for elliptical slice sampling.
    """
    if variances is not None and distances is not None:
        raise ValueError("variances and distances are both given; one of them was expected.")
    wanted = None if distances is None else check_ladder(distances, "distances")
    ladder = None if variances is None else check_ladder(variances, "variances")
    check_one_of("bn", bn, ("keep", "recalibrate"))
    check("chains_at_once", chains_at_once, chains_at_once >= 1, "at least 1")
    check("seed", seed, seed >= 0, "at least 0")
    settings = LadderSettings(draws=4000) if sampler is None else sampler
    scales = perturbation_scales(model, scale, scope)
    inputs, targets = as_tensors(inputs, targets)
    devices = {p.device for p in model.parameters()} | {inputs.device, targets.device}
    if len(devices) > 1:
        raise ValueError(
            f"model, inputs and targets are on the devices {sorted(map(str, devices))}; one was "
            "expected."
        )
    model = copy.deepcopy(model).eval()
    wrong = what_is_wrong(_outputs(model, inputs), targets, loss_threshold, loss)
    networks = PerturbedNetworks(
        model, scales, inputs, targets, wrong, chains_at_once, recalibrate=bn == "recalibrate"
    )
    double = networks.reference.dtype == torch.float64
    number = np.float64 if double else np.float32
    own = int(networks.errors(np.zeros((1, networks.size), number), len(inputs))[0])
    most = own if errors is None else errors
    if own == len(inputs):
        raise ValueError(f"model makes errors on all {own} inputs; fewer were expected.")
    reachable = f"a number from {own}, the model's own errors, to {len(inputs) - 1}"
    check("errors", most, own <= most < len(inputs), reachable)
    folder = None if out is None else RunFolder(Path(out))
    if folder is not None:
        options = {
            "network": content_hash(networks.reference.cpu().numpy(), networks.scale.cpu().numpy()),
            "data": content_hash(inputs.cpu().numpy(), targets.cpu().numpy()),
            "ladder": None if ladder is None else ladder.tolist(),
            "distances": None if wanted is None else wanted.tolist(),
            "errors": most, "loss_threshold": loss_threshold, "bn": bn, "seed": seed,
            "loss": getattr(loss, "__qualname__", None if loss is None else repr(loss)),
            **asdict(settings),
        }  # fmt: skip
        folder.store_config("Local entropy of a network", options)

    slices = EllipticalSlices(
        lambda offsets: networks.errors(offsets, most) <= most,
        networks.size,
        chains_at_once,
        number,
        networks.blocks(BLOCKS),
    )
    if ladder is None:
        ladder = _default_ladder(slices, seed) if wanted is None else 2.0 * wanted
    found = _climb(slices, settings, seed, ladder, wanted, progress, folder)
    curve = legendre_transform(found, "slices", own, len(inputs), wanted, stacklevel=3)
    return NetworkLocalEntropyCurve(
        **vars(curve), allowed_errors=most, parameters=networks.size, scale=scale, scope=scope,
        bn=bn,
    )  # fmt: skip


def perturbation_scales(model: nn.Module, scale: Scale, scope: Scope = "all") -> dict[str, Tensor]:
    """The scale s of each parameter, in a shape that broadcasts to the parameter's.

    Raises ``ValueError`` for unknown options, and if no parameter would be perturbed.
    """
    check_one_of("scope", scope, ("all", "weights"))
    known = scale in ("layer", "filter") or (isinstance(scale, int | float) and scale > 0)
    check("scale", scale, known, "'layer', 'filter' or a number > 0")
    scales = {}
    for name, parameter in model.named_parameters():
        p = parameter.detach()
        if scope == "weights" and p.ndim < 2:
            continue
        if isinstance(scale, int | float):
            scales[name] = torch.full_like(p, scale)
        else:
            within = tuple(range(1 if scale == "filter" and p.ndim > 1 else 0, p.ndim))
            scales[name] = (
                p.double().square().mean(within, keepdim=True).sqrt().to(p) if p.ndim else p.abs()
            )
    if not any(s.any() for s in scales.values()):
        raise ValueError(
            f"model has no parameter that differs from zero in scope {scope!r}; one was expected."
        )
    return scales


def _climb(
    slices: EllipticalSlices,
    settings: LadderSettings,
    seed: int,
    ladder: NDArray[np.float64],
    wanted: NDArray[np.float64] | None,
    progress: bool,
    folder: RunFolder | None,
) -> LadderResult:
    for round_ in range(MOST_ROUNDS):
        save = None if folder is None else folder.path / f"ladder_{round_}.npz"
        found = climb(slices, settings, seed, ladder, "local entropy", progress, save)
        if wanted is None:
            break
        miss = 0.5 * found.displacement * ladder / wanted
        if np.all(np.abs(miss - 1.0) < CLOSE_ENOUGH):
            break
        ladder = np.maximum.accumulate(ladder / miss) * (1 + 1e-12 * np.arange(len(ladder)))
    return found


def _default_ladder(slices: EllipticalSlices, seed: int) -> NDArray[np.float64]:
    """Nine Δ around the Δ at which half of the draws are allowed."""
    rng = np.random.default_rng([seed, 1])

    def fraction(variance: float) -> float:
        sample = slices.draw(np.array([variance]), PILOT_DRAWS, [rng])
        return float(sample.counted(0).mean())

    variance = 0.01
    up = fraction(variance) > 0.5
    step = 4.0 if up else 0.25
    while 1e-14 < variance < 1e6 and (fraction(variance) > 0.5) == up:
        variance *= step
    return variance / step**0.5 * DEFAULT_LADDER


@torch.no_grad()
def _outputs(model: nn.Module, inputs: Tensor) -> Tensor:
    """Outputs on all inputs. Checks that they are finite, and equal in two evaluations."""
    first, second = (torch.cat([model(x) for x in inputs.split(256)]) for _ in range(2))
    if not isinstance(first, Tensor) or len(first) != len(inputs):
        raise ValueError("outputs are not one row for each input; a tensor (P, …) was expected.")
    if not (torch.isfinite(first).all() and torch.isfinite(second).all()):
        raise ValueError("outputs hold numbers that are not finite; finite ones were expected.")
    if not torch.allclose(first, second, rtol=1e-3, atol=1e-3 * float(first.abs().max())):
        raise ValueError(
            "outputs differ between two evaluations in evaluation mode; a deterministic model was "
            "expected."
        )
    return first
