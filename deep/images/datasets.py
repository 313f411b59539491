"""Image data sets: CIFAR, Tiny ImageNet (official archives), image folders, a synthetic one.

An archive is decoded once. Its uint8 arrays are cached under the hash of its content.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deep.images.archives import read_cifar, read_image_folder, read_tiny_imagenet
from deep.images.augmentation import Preprocessing
from deep.images.policies import Policy, load_policy
from message_passing.tools.downloads import PublishedFile, cache_folder, find_files
from message_passing.tools.files import content_hash, read_npz, write_atomically
from message_passing.tools.validation import check

Reader = Callable[[Path], dict[str, np.ndarray]]

TORONTO = "https://www.cs.toronto.edu/~kriz/"
OFFICIAL: dict[str, tuple[Reader, PublishedFile]] = {
    name: (read, PublishedFile(site + file, file, sha256))
    for name, read, site, file, sha256 in (
        ("cifar10", read_cifar, TORONTO, "cifar-10-python.tar.gz",
         "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"),
        ("cifar100", read_cifar, TORONTO, "cifar-100-python.tar.gz",
         "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"),
        ("tinyimagenet", read_tiny_imagenet, "http://cs231n.stanford.edu/",
         "tiny-imagenet-200.zip",
         "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821"),
    )
}  # fmt: skip


@dataclass(frozen=True, repr=False)
class ImageData:
    """Images (P, C, H, W) in uint8 and labels (P,) of the training and the test set."""

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]

    def __repr__(self) -> str:
        size = "×".join(map(str, self.train_images.shape[1:]))
        return (
            f"<{self.name}: {len(self.train_labels)} training and {len(self.test_labels)} test "
            f"images {size}, {len(self.classes)} classes>"
        )

    def to(self, device: torch.device | str) -> ImageData:
        """The same data, resident on a device."""
        names = ("train_images", "train_labels", "test_images", "test_labels")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def held_out(self, validation: int) -> ImageData:
        """The data with ``validation`` training images instead of the test images.

        The choice is always the same. Raises ``ValueError`` if no training image is left.
        """
        if validation == 0:
            return self
        total = len(self.train_labels)
        fits = isinstance(validation, int) and 0 < validation < total
        check("validation_images", validation, fits, f"a number below {total}")
        order = torch.randperm(total, generator=torch.Generator().manual_seed(0))
        order = order.to(self.train_labels.device)
        kept, out = order[validation:].sort().values, order[:validation].sort().values
        images, labels = self.train_images, self.train_labels
        return replace(
            self, train_images=images[kept], train_labels=labels[kept],
            test_images=images[out], test_labels=labels[out],
        )  # fmt: skip

    def preprocessing(
        self,
        padding: int = 4,
        flip: bool = True,
        size: int = 0,
        policy: str | Policy = "",
        cutout: int = 0,
    ) -> Preprocessing:
        """Augmentation, and normalisation with the mean and variance of the training images.

        Mean and variance are measured before any resizing. ``policy`` is a policy, an argument of
        ``load_policy``, or empty. ``Preprocessing`` explains the rest. Raises ``ValueError`` for a
        policy that cannot be loaded.
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


def load_images(dataset: str, directory: str | Path | None = None) -> ImageData:
    """Images of a data set by name, or of an archive by its path.

    Parameters
    ----------
    dataset : str
        "cifar10", "cifar100", "tinyimagenet", "synthetic", or the path of a folder, a zip or a tar
        file with ``train/<class>/*`` and ``test/<class>/*``.
    directory : path, optional
        Folder of the official archives. Default: ``$WIDE_FLAT_MINIMA_DATA``, then the cache, then
        a download.

    Raises
    ------
    ValueError
        The data set is unknown, the directory does not exist (nothing is written then), or a file
        is corrupt, truncated, or not what its name says.
    DataUnavailableError
        The directory lacks the archive, or the download fails.
    OSError
        The cache cannot be written; ``$WIDE_FLAT_MINIMA_CACHE`` moves it.
    """
    if directory is not None:
        check("directory", str(directory), Path(directory).is_dir(), "an existing folder")
    if dataset == "synthetic":
        return synthetic_images()
    if dataset in OFFICIAL:
        read, file = OFFICIAL[dataset]
        return _decoded_once(dataset, find_files([file], directory) / file.name, read)
    path = Path(dataset)
    expected = f"one of {[*OFFICIAL, 'synthetic']} or the path of an image-folder archive"
    check("dataset", dataset, path.exists(), expected)
    name = path.name.split(".")[0]
    if path.is_dir():
        return _as_data(name, read_image_folder(path))
    return _decoded_once(name, path, read_image_folder)


def synthetic_images(
    train: int = 2000, test: int = 1000, classes: int = 10, size: int = 32, seed: int = 0
) -> ImageData:
    """Synthetic colour images from a seed: one pattern per class, shifted, dimmed, with noise."""
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

    content = dict(zip(("train_images", "train_labels"), draw(train), strict=True))
    content |= dict(zip(("test_images", "test_labels"), draw(test), strict=True))
    return _as_data("synthetic", content | {"classes": [f"pattern {c}" for c in range(classes)]})


def _decoded_once(name: str, archive: Path, read: Reader) -> ImageData:
    """The result of ``read`` for an archive, cached under the hash of its content."""
    cache = cache_folder() / f"images-{content_hash(archive, read.__name__)[:20]}.npz"
    if not cache.exists():
        # The file is opened before the archive is read, so an unwritable cache fails at once.
        write_atomically(cache, lambda file: np.savez(file, **read(archive)))  # type: ignore[arg-type]
    return _as_data(name, read_npz(cache))


def _as_data(name: str, content: Mapping[str, Any]) -> ImageData:
    return ImageData(
        name,
        torch.from_numpy(content["train_images"]),
        torch.from_numpy(content["train_labels"].astype(np.int64)),
        torch.from_numpy(content["test_images"]),
        torch.from_numpy(content["test_labels"].astype(np.int64)),
        tuple(str(c) for c in content["classes"]),
    )
