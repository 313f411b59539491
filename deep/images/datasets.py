"""Image data sets: CIFAR, Tiny ImageNet (official archives), image folders, a synthetic one.

Decoded once into uint8 arrays that are kept in a cache folder: ``$WIDE_FLAT_MINIMA_CACHE`` or
the user's cache. The official archives are looked for in the folder that is given, in
``$WIDE_FLAT_MINIMA_DATA`` and in the cache, then downloaded and checked (SHA-256).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from deep.images.archives import read_cifar, read_image_folder, read_tiny_imagenet
from deep.images.augmentation import Preprocessing
from deep.images.downloads import cache_folder, find_file
from deep.images.policies import Policy, load_policy
from message_passing.tools.files import write_atomically

READERS = {"cifar10": read_cifar, "cifar100": read_cifar, "tinyimagenet": read_tiny_imagenet}


@dataclass(frozen=True)
class ImageData:
    """Images (P, C, H, W) in uint8 and labels (P,), for training and for the test."""

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]

    def to(self, device: torch.device | str) -> ImageData:
        """The same data, resident on a device."""
        names = ("train_images", "train_labels", "test_images", "test_labels")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def first(self, train: int, test: int) -> ImageData:
        """Only the first images of each split."""
        return replace(
            self,
            train_images=self.train_images[:train],
            train_labels=self.train_labels[:train],
            test_images=self.test_images[:test],
            test_labels=self.test_labels[:test],
        )

    def preprocessing(
        self,
        padding: int = 4,
        flip: bool = True,
        size: int = 0,
        policy: str | Policy = "",
        cutout: int = 0,
    ) -> Preprocessing:
        """Augmentation, and normalisation with the mean and variance of the training images.

        These are measured before any resizing. ``policy`` is a policy, what ``load_policy``
        takes, or empty; for the rest see ``Preprocessing``. Raises ``ValueError`` for a policy
        that cannot be loaded.
        """
        pixels = torch.arange(256, dtype=torch.float64) / 255
        mean, std = [], []
        for channel in range(self.train_images.shape[1]):
            counts = torch.bincount(self.train_images[:, channel].reshape(-1), minlength=256)
            weight = counts.cpu().double() / counts.sum().cpu()
            mean.append((weight * pixels).sum())
            std.append((weight * (pixels - mean[-1]) ** 2).sum().sqrt())
        device = self.train_images.device
        if isinstance(policy, str) and policy:
            policy = load_policy(policy)
        return Preprocessing(
            torch.stack(mean).float().to(device),
            torch.stack(std).float().to(device),
            padding,
            flip,
            size,
            policy.on(device) if isinstance(policy, Policy) else None,
            cutout,
        )


def load_images(dataset: str, folder: str | Path | None = None) -> ImageData:
    """``"cifar10"``, ``"cifar100"``, ``"tinyimagenet"``, ``"synthetic"``, or a path.

    The path is that of an image-folder archive, a folder or tar file with ``train/<class>/*``
    and ``test/<class>/*``. ``folder`` is where the official archives are.

    Raises ``ValueError`` for an unknown name and for a file that is not what it should be.
    """
    if dataset == "synthetic":
        return synthetic_images()
    if dataset in READERS:
        archive = find_file(dataset, folder)
        return _cached(dataset, archive, lambda: READERS[dataset](archive))
    path = Path(dataset)
    if not path.exists():
        raise ValueError(
            f"dataset is {dataset!r}; one of {[*READERS, 'synthetic']} or the path of an "
            "image-folder archive was expected."
        )
    name = path.name.split(".")[0]
    if path.is_dir():
        return _as_data(name, read_image_folder(path))
    return _cached(name, path, lambda: read_image_folder(path))


def synthetic_images(
    train: int = 2000, test: int = 1000, classes: int = 10, size: int = 32, seed: int = 0
) -> ImageData:
    """Colour images made from a seed: a smooth pattern per class, moved, dimmed and noisy.

    For tests and demonstrations where no real images are at hand.
    """
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(classes, 3, 6, 6))
    smooth = torch.nn.functional.interpolate(
        torch.from_numpy(coarse), size=(size + 8, size + 8), mode="bicubic"
    ).numpy()

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(classes, size=count)
        images = np.empty((count, 3, size, size))
        for image, label in zip(images, labels, strict=True):
            row, column = rng.integers(9, size=2)
            image[:] = smooth[label, :, row : row + size, column : column + size]
        images *= rng.uniform(0.1, 0.6, size=(count, 1, 1, 1))
        images += rng.normal(size=images.shape)
        return np.clip(127.5 + 45 * images, 0, 255).astype(np.uint8), labels

    train_images, train_labels = draw(train)
    test_images, test_labels = draw(test)
    content = {
        "train_images": train_images,
        "train_labels": train_labels,
        "test_images": test_images,
        "test_labels": test_labels,
        "classes": np.array([f"pattern {c}" for c in range(classes)]),
    }
    return _as_data("synthetic", content)


def _cached(name: str, source: Path, read: Callable[[], dict[str, np.ndarray]]) -> ImageData:
    """What ``read`` gives, decoded once per content of ``source``."""
    digest = hashlib.sha256()
    with source.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    cache = cache_folder() / f"images-{digest.hexdigest()[:20]}.npz"
    if cache.exists():
        try:
            with np.load(cache, allow_pickle=False) as stored:
                return _as_data(name, dict(stored))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise ValueError(f"the cache {cache} cannot be read ({error}); delete it.") from error
    content = read()
    write_atomically(cache, lambda file: np.savez(file, **content))  # type: ignore[arg-type]
    return _as_data(name, content)


def _as_data(name: str, content: dict[str, Any]) -> ImageData:
    return ImageData(
        name,
        torch.from_numpy(content["train_images"]),
        torch.from_numpy(content["train_labels"].astype(np.int64)),
        torch.from_numpy(content["test_images"]),
        torch.from_numpy(content["test_labels"].astype(np.int64)),
        tuple(str(c) for c in content["classes"]),
    )
