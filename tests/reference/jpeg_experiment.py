"""What compression as JPEG costs in test error: the images compressed a second time.

    python -m tests.reference.jpeg_experiment CIFAR10-JPEG.tar.xz OUT.csv

Images that come from an archive of JPEGs carry the noise of one compression. Here they are
compressed again, on a grid of blocks that is shifted by half a block (so that the first
compression is not simply found again), at several qualities, training and test images alike, and
SmallConvNet is trained on them by SGD with the published settings, stretched to a few passes. If
errors grew in proportion to the variance of the noise, a second compression at the archive's own
quality would add what the first one has added; other qualities show whether they do.

One row for each quality and seed: RMS change of a pixel by the second compression (in units of
the pixels' standard deviation), test error in percent. Quality 0 means: as they are.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import torch
import tyro
from PIL import Image

from deep import load_images, recipe, train
from deep.images.datasets import ImageData
from message_passing.tools.files import write_csv

HALF_A_BLOCK = 4


@dataclass(frozen=True)
class Options:
    """Train on images that are compressed a second time."""

    archive: Annotated[Path, tyro.conf.Positional]
    """An image-folder archive of CIFAR-10."""
    out: Annotated[Path, tyro.conf.Positional]
    """Table to write."""
    passes: float = 10
    """Passes over the training data in each run."""
    qualities: tuple[int, ...] = (0, 75, 30)
    """Qualities of the second compression; 0: none."""
    seeds: tuple[int, ...] = (0, 1)
    """Seeds, one run each for every quality."""


def compressed(images: torch.Tensor, quality: int) -> torch.Tensor:
    """Images (P, 3, H, W) after JPEG at a quality, on a grid of blocks shifted by half a block."""
    shift = (HALF_A_BLOCK, HALF_A_BLOCK)
    pixels = torch.roll(images, shift, (2, 3)).permute(0, 2, 3, 1).numpy()
    again = np.empty_like(pixels)
    for i, image in enumerate(pixels):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
        again[i] = np.asarray(Image.open(buffer))
    back = torch.from_numpy(again).permute(0, 3, 1, 2)
    return torch.roll(back, (-HALF_A_BLOCK, -HALF_A_BLOCK), (2, 3)).contiguous()


def compressed_data(data: ImageData, quality: int) -> ImageData:
    """Both splits; as they are for quality 0."""
    if quality == 0:
        return data
    return replace(
        data,
        train_images=compressed(data.train_images, quality),
        test_images=compressed(data.test_images, quality),
    )


def main(options: Options) -> None:
    """Train one network for each quality and seed; write the table."""
    data = load_images(str(options.archive))
    spread = data.train_images.double().std()
    rows = []
    for quality in options.qualities:
        images = compressed_data(data, quality)
        change = images.train_images.double() - data.train_images.double()
        for seed in options.seeds:
            config = recipe("cifar10", "smallconvnet", "sgd", seed).stretched(options.passes)
            config = replace(config, snapshots=())
            with TemporaryDirectory() as folder:
                run = train(config, folder, data=images, precision="bf16", progress=False)
                assert run is not None and run.result is not None
                errors = {f"{s}_error": run.result[f"{s}_error"] for s in ("train", "test")}
            rows.append(
                {
                    "quality": quality,
                    "seed": seed,
                    "rms_change": float(change.square().mean().sqrt() / spread),
                    "passes": options.passes,
                    **errors,
                }
            )
            print(rows[-1], flush=True)
            write_csv(options.out, rows)


if __name__ == "__main__":
    main(tyro.cli(Options))
