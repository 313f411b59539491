"""Cost of JPEG compression in test error: the images are compressed a second time.

    python -m tests.reference.jpeg_experiment CIFAR10-JPEG.tar.xz OUT.csv

Images from an archive of JPEGs carry the noise of one compression. This program compresses the
training and test images again at several qualities. It shifts the grid of blocks by half a block;
otherwise the second compression would reproduce the first. SGD then trains SmallConvNet with the
published settings, stretched to a few passes. If errors grow in proportion to the variance of the
noise, a second compression at the archive's own quality adds as much as the first one. The other
qualities test this assumption.

The table has one row per quality and seed: RMS change of a pixel by the second compression, in
units of the pixels' standard deviation, and errors in percent. Quality 0 changes nothing.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import tyro
from PIL import Image

from deep import load_images, recipe, train
from deep.images.datasets import ImageData
from message_passing.tools.files import write_table

HALF_A_BLOCK = 4


@dataclass(frozen=True)
class Options:
    """Train on images that were compressed a second time."""

    archive: Annotated[Path, tyro.conf.Positional]
    """An image-folder archive of CIFAR-10."""
    out: Annotated[Path, tyro.conf.Positional]
    """CSV file to write."""
    passes: float = 10
    """Passes over the training data in each run."""
    qualities: tuple[int, ...] = (0, 75, 30)
    """JPEG qualities of the second compression. 0 leaves the images unchanged."""
    seeds: tuple[int, ...] = (0, 1)
    """Seeds of the runs. Each quality has one run per seed."""


def compressed(images: torch.Tensor, quality: int) -> torch.Tensor:
    """Images (P, 3, H, W) after JPEG compression on a grid shifted by half a block."""
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
    """Compress both splits. Quality 0 leaves them unchanged."""
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
            write_table(options.out, pd.DataFrame(rows))


if __name__ == "__main__":
    main(tyro.cli(Options))
