"""What a run costs on this device, from a few timed steps of its own network."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deep.config import TrainingConfig
from deep.images.datasets import synthetic_images
from deep.images.minibatches import ImageBatches, evaluate
from deep.models import build_model
from deep.place import Place
from deep.training_run import RECALIBRATION_IMAGES, TrainingRun

# Of activations. On a CPU only as many images of a minibatch as fit are computed, and their time
# is scaled up (a minibatch of PyramidNet-272 takes some 11 GiB).
BYTES_ON_A_CPU = 2 * 2**30
SECONDS, REPEATS = 1.0, 3  # a timing takes at least so long, and so many calls


@dataclass(frozen=True)
class DataShape:
    """Numbers of images, side in pixels and classes of a data set."""

    train: int
    test: int
    side: int
    classes: int


SHAPES = {
    "cifar10": DataShape(50_000, 10_000, 32, 10),
    "cifar100": DataShape(50_000, 10_000, 32, 100),
    "tinyimagenet": DataShape(100_000, 10_000, 64, 200),
}


@dataclass(frozen=True)
class Speed:
    """Seconds per image of a gradient step and of an evaluation."""

    gradient: float
    evaluation: float
    batch_norm: bool


def measure_speed(config: TrainingConfig, shape: DataShape, place: Place) -> Speed:
    """Time steps of plain SGD (or RMSprop), with the augmentation, on made-up images.

    A policy is replaced by AutoAugment's, which costs the same and needs no file.
    """
    size = config.batch_size
    if not place.gpu:
        size = min(size, max(2, BYTES_ON_A_CPU // bytes_per_image(config, shape)))
    images = synthetic_images(size, size, shape.classes, shape.side).to(place.device)
    plain = replace(
        config, algorithm="sgd", batch_size=size,
        policy="autoaugment-cifar10" if config.policy else "",
    )  # fmt: skip
    run = TrainingRun(plain, images, place)
    test = ImageBatches(images, run.images, "test", size=size)

    def evaluation() -> None:
        evaluate(run.models[0], test, place.autocast())

    return Speed(
        _seconds(lambda: run.step(0), place) / size,
        _seconds(evaluation, place) / size,
        run.has_batch_norm,
    )


def bytes_per_image(config: TrainingConfig, shape: DataShape) -> int:
    """What a forward pass keeps of an image for the gradient, in float32."""
    model = build_model(config.model, shape.classes, **config.model_options)
    kept = {p.untyped_storage().data_ptr(): 0 for p in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept.setdefault(storage.data_ptr(), storage.nbytes())
        return tensor

    side = config.image_size or shape.side
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(torch.zeros(2, 3, side, side))
    return sum(kept.values()) // len(output)


def gradients(config: TrainingConfig, shape: DataShape) -> int:
    """Minibatch gradients of a whole run, those of all replicas together."""
    replicas = config.replicas if config.replicated else 1
    return config.steps(math.ceil(shape.train / config.batch_size)) * replicas


def hours(config: TrainingConfig, shape: DataShape, speed: Speed) -> float:
    """A whole run: its gradients, and the evaluation for every row of the log.

    What the entropic algorithms add to a gradient (a few percent) is not counted.
    """
    per_pass = math.ceil(shape.train / config.batch_size)
    rows = math.ceil(config.steps(per_pass) / per_pass)
    evaluated = shape.test
    if speed.batch_norm and config.algorithm != "sgd":
        evaluated += RECALIBRATION_IMAGES
    trained = gradients(config, shape) * shape.train / per_pass
    return (trained * speed.gradient + rows * evaluated * speed.evaluation) / 3600


def _seconds(function: Callable[[], object], place: Place) -> float:
    """Median time of a call, after one to warm up."""

    def timed() -> float:
        start = time.perf_counter()
        function()
        if place.gpu:
            torch.cuda.synchronize(place.device)
        return time.perf_counter() - start

    timed()
    times: list[float] = []
    while sum(times) < SECONDS or len(times) < REPEATS:
        times.append(timed())
    return statistics.median(times)
