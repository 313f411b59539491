"""Minibatches as a function of the seed and the step, and evaluation over a data set.

There is no random state: (seed, replica, step) determines the minibatch of a replica, its
augmentation and the random numbers within the network. So a resumed run, or a run in several
processes, sees exactly the same data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deep.images.augmentation import Preprocessing
from deep.images.datasets import ImageData
from deep.model_state import modes_kept
from message_passing.tools.validation import check_one_of

Data = Tensor | Iterable[Any]  # inputs, or a loader of (inputs, targets)

ORDER, AUGMENTATION, NETWORK, START, LANGEVIN = range(5)  # purposes of random streams


def stream_seed(seed: int, *path: int) -> int:
    """A separate seed for every purpose, replica and step."""
    return int(np.random.SeedSequence([seed, *path]).generate_state(1, np.uint64)[0])


class Minibatches:
    """The training minibatches of one replica. Every pass has all images in a new order."""

    def __init__(
        self, data: ImageData, prepare: Preprocessing, size: int, seed: int, replica: int = 0
    ) -> None:
        self.data, self.prepare, self.size = data, prepare, size
        self.seed, self.replica = seed, replica
        self.images = len(data.train_labels)
        if self.images == 0:
            raise ValueError("data has no training images; a minibatch was expected.")
        self.per_pass = -(-self.images // size)
        self._pass = -1
        self._order = torch.empty(0)
        self._generator = torch.Generator(data.train_images.device)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Prepared images and labels of a step. Seeds torch for the draws of the network."""
        one_pass, place = divmod(step, self.per_pass)
        if one_pass != self._pass:
            generator = torch.Generator().manual_seed(self._seed(ORDER, one_pass))
            order = torch.randperm(self.images, generator=generator)
            self._order = order.to(self.data.train_images.device)
            self._pass = one_pass
        chosen = self._order[place * self.size : (place + 1) * self.size]
        self._generator.manual_seed(self._seed(AUGMENTATION, step))
        images = self.prepare.train(self.data.train_images[chosen], self._generator)
        torch.manual_seed(self._seed(NETWORK, step))
        return images, self.data.train_labels[chosen]

    def _seed(self, purpose: int, time: int) -> int:
        return stream_seed(self.seed, purpose, self.replica, time)


class ImageBatches:
    """A loader of (images, labels) that gives the same batches at every iteration.

    ``split`` is "train" or "test", ``images`` the number of images (default: all). ``augment``
    draws the same augmentation at every iteration. The order is shuffled once, so that batches
    hold all classes.
    """

    def __init__(
        self,
        data: ImageData,
        prepare: Preprocessing,
        split: str = "train",
        augment: bool = False,
        size: int = 500,
        images: int | None = None,
        seed: int = 0,
    ) -> None:
        check_one_of("split", split, ("train", "test"))
        self.images: Tensor = getattr(data, f"{split}_images")
        self.labels: Tensor = getattr(data, f"{split}_labels")
        self.prepare, self.augment, self.size, self.seed = prepare, augment, size, seed
        generator = torch.Generator().manual_seed(stream_seed(seed, ORDER))
        order = torch.randperm(len(self.labels), generator=generator)[:images]
        self.order = order.to(self.labels.device)

    def __len__(self) -> int:
        return -(-len(self.order) // self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator(self.images.device)
        for index, chosen in enumerate(self.order.split(self.size)):
            images = self.images[chosen]
            generator.manual_seed(stream_seed(self.seed, AUGMENTATION, index))
            if self.augment:
                yield self.prepare.train(images, generator), self.labels[chosen]
            else:
                yield self.prepare.evaluate(images), self.labels[chosen]


def as_loader(inputs: Data, targets: Tensor | None, size: int = 250) -> Iterable[Any]:
    """A loader of (inputs, targets): the given loader, or the tensors in batches of ``size``.

    Raises ``ValueError`` for a tensor without targets, a loader with targets, and lengths that
    differ.
    """
    if not isinstance(inputs, Tensor):
        if targets is not None:
            raise ValueError("targets are given beside a loader; a loader alone was expected.")
        return inputs
    if not isinstance(targets, Tensor):
        raise ValueError(f"targets is {type(targets).__name__}; a tensor (P, …) was expected.")
    if not inputs.ndim or not targets.ndim or not 0 < len(inputs) == len(targets):
        raise ValueError(
            f"inputs and targets have the shapes {tuple(inputs.shape)} and "
            f"{tuple(targets.shape)}; the same length, at least 1, was expected."
        )
    return list(zip(inputs.split(size), targets.split(size), strict=True))


def as_tensors(inputs: Data, targets: Tensor | None) -> tuple[Tensor, Tensor]:
    """All inputs and targets as one tensor each; see ``as_loader``."""
    batches = list(as_loader(inputs, targets))
    if not batches:
        raise ValueError("loader yielded no batch; at least one was expected.")
    first, second = (torch.cat(part) for part in zip(*batches, strict=True))
    return first, second


@torch.no_grad()
def evaluate(
    model: nn.Module, batches: Iterable[Any], autocast: AbstractContextManager[Any] | None = None
) -> tuple[float, float]:
    """Mean cross-entropy and error rate in evaluation mode. The mode is restored.

    Raises ``ValueError`` if there are no batches.
    """
    totals: Tensor | None = None
    count = 0
    with modes_kept(model):
        model.eval()
        for images, labels in batches:
            with autocast or nullcontext():
                output = model(images)
            output = output.float()
            loss = nn.functional.cross_entropy(output, labels, reduction="sum")
            wrong = (output.argmax(1) != labels).sum()
            both = torch.stack([loss.double(), wrong.double()])
            totals = both if totals is None else totals + both
            count += len(labels)
    if totals is None or count == 0:
        raise ValueError("batches yielded no batch; at least one (images, labels) was expected.")
    loss_sum, wrong_sum = totals.tolist()
    return loss_sum / count, wrong_sum / count
