"""Errors of many perturbed copies of a network at once, up to an allowed number.

The parameters of the copies are stacked, and one call of ``torch.func.vmap`` evaluates all copies.
Inputs come in blocks, hardest first. A copy with too many errors is not evaluated any further. The
result is exact.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import update_bn

#: Number of inputs of the first block. Each next block is twice as large, up to the largest.
FIRST_BLOCK, LARGEST_BLOCK = 64, 256
#: Number of calls before inputs are first sorted. They are sorted again each time it has doubled.
FIRST_SORT = 8

#: Maps outputs (n, B, …) and targets (B,) to booleans (n, B).
Wrong = Callable[[Tensor, Tensor], Tensor]
#: Maps outputs and targets to the loss of each input (B,).
Loss = Callable[[Tensor, Tensor], Tensor]


class PerturbedNetworks:
    """Copies of a network with parameters w + s∘x, for offsets x (D,).

    Parameters
    ----------
    model
        A model in evaluation mode. No other code may use it.
    scales
        Maps names of parameters to s, in a shape that broadcasts to the parameter's. Elements with
        s = 0 are not perturbed and not counted in D.
    inputs, targets : (P, …), (P, …)
        Tensors on the model's device.
    wrong
        Tells which outputs are errors.
    at_once : int
        Number of copies that are evaluated together.
    recalibrate : bool
        Measure BatchNorm's statistics again for each copy, over all inputs, one copy at a time.
    early_exit : bool
        False: evaluate every copy on all inputs, in the given order (for benchmarks).
    """

    def __init__(
        self,
        model: nn.Module,
        scales: dict[str, Tensor],
        inputs: Tensor,
        targets: Tensor,
        wrong: Wrong,
        at_once: int = 16,
        recalibrate: bool = False,
        early_exit: bool = True,
    ) -> None:
        parameters = dict(model.named_parameters())
        self.model, self.inputs, self.targets, self.wrong = model, inputs, targets, wrong
        self.at_once, self.recalibrate, self.early_exit = at_once, recalibrate, early_exit
        self.shapes = {name: parameters[name].shape for name in scales}
        flat = [parameters[name].detach().reshape(-1) for name in scales]
        self.reference = torch.cat(flat)
        self.scale = torch.cat(
            [s.expand(parameters[name].shape).reshape(-1) for name, s in scales.items()]
        )
        moved = torch.nonzero(self.scale).squeeze(1)
        self.size = len(moved)
        self.moved = None if self.size == len(self.scale) else moved
        self.errors_seen = torch.zeros(len(inputs), device=inputs.device)
        self.times_seen = torch.zeros(len(inputs), device=inputs.device)
        self.calls, self.next_sort = 0, FIRST_SORT
        self.together = at_once > 1 and not recalibrate and self._vectorises()

    @torch.no_grad()
    def errors(self, offsets: NDArray[np.floating], most: int) -> NDArray[np.int64]:
        """Errors (n,) of the copies with offsets (n, D). Above ``most`` they are lower bounds."""
        copies = self._parameters(offsets)
        alive = torch.arange(len(offsets), device=self.inputs.device)
        errors = torch.zeros(len(offsets), dtype=torch.int64, device=self.inputs.device)
        if self.recalibrate:
            for i in range(len(offsets)):
                errors[i] = self._errors_recalibrated(copies[i])
            return errors.cpu().numpy()
        for block in self._blocks():
            wrong = self._wrong(copies, block)
            errors[alive] += wrong.sum(1)
            self.errors_seen[block] += wrong.sum(0)
            self.times_seen[block] += len(wrong)
            if self.early_exit:
                good = errors[alive] <= most
                if not good.all():
                    alive, copies = alive[good], copies[good]
                if not len(alive):
                    break
        self._sort()
        return errors.cpu().numpy()

    def blocks(self, most: int) -> NDArray[np.int64]:
        """Group (D,) of each parameter: the first index in its tensor (filter), modulo ``most``."""
        rows = [
            torch.arange(shape[0] if shape else 1).repeat_interleave(shape[1:].numel())
            for shape in self.shapes.values()
        ]
        group = torch.cat(rows) % most
        return (group if self.moved is None else group[self.moved.cpu()]).numpy()

    def _blocks(self) -> Iterator[slice]:
        first, length = 0, FIRST_BLOCK if self.early_exit else LARGEST_BLOCK
        while first < len(self.inputs):
            yield slice(first, first + length)
            first, length = first + length, min(2 * length, LARGEST_BLOCK)

    def _parameters(self, offsets: NDArray[np.floating]) -> Tensor:
        """Flat parameters (n, ·) of the copies."""
        x = torch.from_numpy(offsets).to(self.reference)
        if self.moved is None:
            return torch.addcmul(self.reference, x, self.scale)
        copies = self.reference.repeat(len(x), 1)
        copies[:, self.moved] += x * self.scale[self.moved]
        return copies

    def _named(self, flat: Tensor) -> dict[str, Tensor]:
        pieces = flat.split([shape.numel() for shape in self.shapes.values()], dim=-1)
        return {
            name: piece.reshape(*flat.shape[:-1], *shape)
            for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }

    def _outputs(self, flat: Tensor, block: slice) -> Tensor:
        """Outputs (B, …) of one copy."""
        return functional_call(self.model, self._named(flat), (self.inputs[block],))

    def _wrong(self, copies: Tensor, block: slice) -> Tensor:
        if self.together and len(copies) > 1:
            outputs = vmap(lambda flat: self._outputs(flat, block))(copies)
        else:
            outputs = torch.stack([self._outputs(flat, block) for flat in copies])
        return self.wrong(outputs, self.targets[block])

    def _vectorises(self) -> bool:
        """Whether vmap can evaluate this model. Warns if it cannot."""
        copies = self.reference.repeat(2, 1)
        try:
            with torch.no_grad():
                vmap(lambda flat: self._outputs(flat, slice(0, 2)))(copies)
        except RuntimeError as error:
            warnings.warn(
                f"torch.func.vmap cannot evaluate {type(self.model).__name__} "
                f"({str(error).splitlines()[0]}); copies are evaluated one by one.",
                stacklevel=2,
            )
            return False
        return True

    def _errors_recalibrated(self, flat: Tensor) -> int:
        fresh = copy.deepcopy(self.model)
        with torch.no_grad():
            for name, value in self._named(flat).items():
                fresh.get_parameter(name).copy_(value)
        blocks = self.inputs.split(LARGEST_BLOCK)
        update_bn(blocks, fresh)
        outputs = torch.cat([fresh(block) for block in blocks])
        return int(self.wrong(outputs[None], self.targets).sum())

    def _sort(self) -> None:
        """Sort the inputs by their error rate so far, highest first."""
        self.calls += 1
        if not self.early_exit or self.calls < self.next_sort:
            return
        self.next_sort = 2 * self.calls
        # A pseudo-count of half an error in one evaluation ranks inputs with few evaluations.
        rate = (self.errors_seen + 0.5) / (self.times_seen + 1)
        order = torch.argsort(rate, descending=True, stable=True)
        for name in ("inputs", "targets", "errors_seen", "times_seen"):
            setattr(self, name, getattr(self, name)[order])


def what_is_wrong(
    outputs: Tensor, targets: Tensor, loss_threshold: float | None, loss: Loss | None
) -> Wrong:
    """Choose the definition of an error from the model's own outputs (P, …) and targets (P, …).

    Raises ``ValueError`` if they define no errors.
    """
    whole = not targets.is_floating_point() and targets.ndim == 1
    if loss_threshold is not None:
        return _loss_above(loss_threshold, loss or (_cross_entropy if whole else _squared_error))
    if loss is not None:
        raise ValueError("loss is given without loss_threshold; both or neither was expected.")
    if outputs.ndim == 2 and outputs.shape[1] > 1 and whole:
        if not 0 <= int(targets.min()) <= int(targets.max()) < outputs.shape[1]:
            raise ValueError(
                f"targets are from {targets.min()} to {targets.max()}; classes from 0 to "
                f"{outputs.shape[1] - 1} were expected."
            )
        return lambda outputs, targets: outputs.argmax(-1) != targets
    one = outputs.numel() == len(outputs) and targets.numel() == len(targets)
    if one and set(targets.unique().tolist()) in ({0, 1}, {-1, 1}, {1}, {0}, {-1}):
        # A zero counts as +1, as in the whole package.
        return lambda outputs, targets: (
            (outputs.reshape(*outputs.shape[:2]) >= 0) != (targets.reshape(-1) > 0)
        )
    raise ValueError(
        f"outputs have the shape {tuple(outputs.shape)} and targets the shape "
        f"{tuple(targets.shape)} and the type {targets.dtype}: errors cannot be counted. Classes "
        "(P,) for outputs (P, C), or targets in {0, 1} or ±1 for outputs (P,), or a "
        "loss_threshold were expected."
    )


def _loss_above(threshold: float, loss: Loss) -> Wrong:
    def wrong(outputs: Tensor, targets: Tensor) -> Tensor:
        losses = torch.stack([loss(output, targets) for output in outputs])
        if losses.shape != (len(outputs), len(targets)):
            raise ValueError(
                f"loss returned the shape {tuple(losses.shape[1:])}; ({len(targets)},), one number "
                "for each input, was expected."
            )
        return ~(losses <= threshold)

    return wrong


def _cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(outputs, targets, reduction="none")


def _squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.reshape(targets.shape) - targets).square().reshape(len(targets), -1).sum(1)
