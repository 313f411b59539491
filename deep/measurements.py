"""Flatness and curvature of the networks of stored runs. Nothing is measured twice.

The run's folder keeps each measurement with its options and the hash of the network, in
``flatness/<network>.json``, ``hessian/<network>.json`` or ``local_entropy/<network>.json``.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from deep.config import DATASETS, archive_hash
from message_passing.tools.files import content_hash
from message_passing.tools.run_folder import measured_once
from message_passing.tools.validation import check, check_numbers, check_sigmas

if TYPE_CHECKING:
    from deep.device import Device
    from deep.images.datasets import ImageData
    from deep.images.minibatches import ImageBatches
    from deep.run import Run
    from deep.weight_noise import NetworkLocalEnergyProfile

Scope = Literal["all", "weights"]
BatchNormMode = Literal["keep", "recalibrate"]


@dataclass(frozen=True)
class FlatnessOptions:
    """Options of the local energy of a stored network."""

    sigmas: tuple[float, ...] = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
    """Noise intensities σ, relative to each weight."""
    samples: int = 10
    """Number of noise vectors."""
    scope: Scope = "all"
    """Parameters to perturb. weights: without biases and BatchNorm's parameters."""
    bn: BatchNormMode = "keep"
    """Keep BatchNorm's running statistics, or measure them again for each perturbed network."""
    augment: bool = True
    """Crop and flip the images as in training ([P21] App. B.2). The training errors in the table
    and in the legends then refer to such images."""
    images: int | None = None
    """Number of images; None: all of them."""
    seed: int = 0
    """Seed of the noise, the augmentation and the choice of images."""

    def __post_init__(self) -> None:
        check_sigmas(self.sigmas)
        check("samples", self.samples, self.samples >= 2, "at least 2")
        check_numbers(self, positive=("images",))


@dataclass(frozen=True)
class HessianOptions:
    """Options of the Hessian of a stored network, on training images without augmentation."""

    eigenvalues: int = 3
    """Number of eigenvalues, from the largest down."""
    tolerance: float = 1e-2
    """Relative accuracy of the eigenvalues."""
    iterations: int = 100
    """Maximum number of ARPACK's restarts."""
    trace_samples: int = 30
    """Number of random vectors for the trace."""
    images: int | None = 1000
    """Number of training images in the mean loss; None: all of them."""
    batch_size: int = 250
    """Images per batch. It bounds the memory: second derivatives keep their activations."""
    seed: int = 0
    """Seed of the vectors and the choice of images."""


@dataclass(frozen=True)
class LocalEntropyOptions:
    """Options of a stored network's local entropy, on training images without augmentation."""

    images: int | None = 1000
    """Number of training images on which errors are counted; None: all of them."""
    errors: int | None = None
    """Number of allowed errors; None: the network's own. Compare networks at the same number."""
    variances: tuple[float, ...] | None = None
    """Relative variances Δ of the points; None: nine around the Δ at which half of the neighbours
    make at most the allowed errors."""
    draws: int = 4000
    """Number of direct samples."""
    chains: int = 16
    """Number of independent chains."""
    steps: int = 80
    """Minimum number of steps of each chain on each rung. Half this number precedes as burn-in."""
    scope: Scope = "all"
    """Parameters to perturb. weights: without biases and BatchNorm's parameters."""
    seed: int = 0
    """Seed of the chains and the choice of images."""


@dataclass
class Images:
    """The data sets of runs, on the device. Each is loaded on first use."""

    device: Device
    data: ImageData | None = None
    data_dir: str | Path | None = None
    _loaded: dict[tuple[str, int], ImageData] = field(default_factory=dict)

    def __call__(self, run: Run) -> ImageData:
        """``data`` if given, else the run's data set, with the run's validation split.

        An archive is searched by its name in ``data_dir``, then at its old path. Raises
        ``ValueError`` if it holds other images.
        """
        from deep.images.datasets import load_images

        dataset = run.config.dataset
        if dataset not in DATASETS and self.data is None:
            moved = Path(self.data_dir or ".") / Path(dataset).name
            dataset = str(moved) if moved.exists() else dataset
            if archive_hash(Path(dataset)) != run.settings["archive"]:
                raise ValueError(
                    f"{dataset} is not the archive that {run.folder} was trained on; the same "
                    "images were expected."
                )
        key = dataset, run.config.validation_images
        if key not in self._loaded:
            data = self.data or load_images(dataset, self.data_dir)
            self._loaded[key] = data.held_out(key[1]).to(self.device.torch)
        return self._loaded[key]


def measure_flatness(
    run: Run, name: str, options: FlatnessOptions, images: Images, split: str = ""
) -> NetworkLocalEnergyProfile:
    """The local energy of a network of a run: the stored one, if it has these options.

    Without ``split`` it is measured on training images and stored in ``flatness/<name>.json``.
    With "train" or "test" it is stored in ``flatness/<name>-<split>.json``.
    """
    from deep.weight_noise import local_energy

    def measure() -> dict[str, Any]:
        network = run.network(name)
        profile = local_energy(
            network.model.to(images.device.torch),
            _loader(run, options, images, split=split or "train", augment=options.augment),
            sigmas=options.sigmas, samples=options.samples, scope=options.scope, bn=options.bn,
            seed=options.seed,
        )  # fmt: skip
        squares = (float(p.detach().double().square().sum()) for p in network.model.parameters())
        arrays = ("sigma", "local_energy", "standard_error", "reference_error")
        return {
            "passes": network.row["passes"],
            "test_error": network.row["test_error"],
            "weight_norm": sum(squares) ** 0.5,
            "profile": {key: getattr(profile, key).tolist() for key in arrays},
        }

    file = run.folder / "flatness" / f"{name}{split and '-'}{split}.json"
    return profile_of(_measured(run, name, file, options, measure), file)


def measure_hessian(run: Run, name: str, options: HessianOptions, images: Images) -> dict[str, Any]:
    """Eigenvalues and trace of a network of a run: the mappings ``spectrum`` and ``trace``."""
    from deep.hessian import hessian_spectrum, hessian_trace

    def measure() -> dict[str, Any]:
        loader = _loader(run, options, images, size=options.batch_size)
        model = run.network(name).model.to(images.device.torch)
        spectrum = hessian_spectrum(
            model, loader, k=options.eigenvalues, tolerance=options.tolerance,
            iterations=options.iterations, seed=options.seed,
        )  # fmt: skip
        trace = hessian_trace(model, loader, samples=options.trace_samples, seed=options.seed)
        lists = {key: getattr(spectrum, key).tolist() for key in ("eigenvalues", "residuals")}
        return {"spectrum": vars(spectrum) | lists, "trace": vars(trace)}

    return _measured(run, name, run.folder / "hessian" / f"{name}.json", options, measure)


def measure_local_entropy(
    run: Run, name: str, options: LocalEntropyOptions, images: Images
) -> dict[str, Any]:
    """The local entropy curve of a network of a run, as lists: the columns of its table.

    The finished rungs of the ladder are kept until the curve is stored, so an interrupted
    measurement resumes.
    """
    from deep.local_entropy import local_entropy_curve
    from message_passing.ladder import LadderSettings

    settings = LadderSettings(
        draws=options.draws, chains=options.chains, steps=options.steps, burn_in=options.steps // 2
    )

    file = run.folder / "local_entropy" / f"{name}.json"

    def measure() -> dict[str, Any]:
        # Other options or another network start a new ladder.
        key = content_hash(asdict(options), run.path(name))[:12]
        curve = local_entropy_curve(
            run.network(name).model.to(images.device.torch), _loader(run, options, images),
            variances=options.variances, errors=options.errors, scope=options.scope,
            sampler=settings, seed=options.seed, out=file.with_name(f"{name}-{key}"),
        )  # fmt: skip
        return {"curve": curve.to_frame().to_dict("list")}

    curve: dict[str, Any] = _measured(run, name, file, options, measure)["curve"]
    for ladder in file.parent.glob(f"{name}-*"):
        shutil.rmtree(ladder, ignore_errors=True)
    return curve


def profile_of(stored: Mapping[str, Any], file: Path) -> NetworkLocalEnergyProfile:
    """The profile that ``measure_flatness`` stored in ``file``.

    Raises ``ValueError`` if an entry is missing.
    """
    from deep.weight_noise import NetworkLocalEnergyProfile

    try:
        arrays = {name: np.array(value) for name, value in stored["profile"].items()}
        options = stored["options"]
        kind = "cropped and flipped images" if options["augment"] else "images as they are"
        return NetworkLocalEnergyProfile(
            **arrays, samples=options["samples"], scope=options["scope"], bn=options["bn"],
            images=kind if options["images"] is None else f"{options['images']} {kind}",
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file} holds no measured flatness ({error}). Delete it.") from error


def _loader(run: Run, options: Any, images: Images, **how: Any) -> ImageBatches:
    from deep.images.minibatches import ImageBatches

    data = images(run)
    prepare = data.preprocessing(**run.config.augmentation())
    return ImageBatches(data, prepare, images=options.images, seed=options.seed, **how)


def _measured(run: Run, name: str, file: Path, options: Any, measure: Any) -> dict[str, Any]:
    path = run.path(name)
    if not path.exists():
        run.network(name)  # raises the error that names the missing file
    return measured_once(file, asdict(options), path, measure)
