"""The settings of a run: one frozen object, in Python and on the command line.

Settings of a single algorithm are in ``algorithms``. Nothing here needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from deep.algorithms import KINDS, Algorithm, Sgd
from message_passing.tools.files import content_hash
from message_passing.tools.run_folder import as_json
from message_passing.tools.validation import check, check_numbers, check_words

DATASETS = ("cifar10", "cifar100", "tinyimagenet", "synthetic")
CompileMode = Literal["off", "default", "reduce-overhead"]
Precision = Literal["auto", "float32", "bf16"]


@dataclass(frozen=True)
class TrainingConfig:
    """One training run.

    Time is counted in passes over the training data, so runs with the same ``passes`` evaluate the
    same number of gradients. The y replicas of rsgd share a pass. Every inner-loop minibatch of
    esgd counts, and so do both gradients of a step of sam. The exception is rsgd-xy, where each
    replica makes all passes.
    """

    dataset: str = "cifar10"
    """cifar10, cifar100, tinyimagenet, synthetic, or the path of an image-folder archive: a
    folder or tar file with train/CLASS/* and test/CLASS/*. An archive is identified by its content,
    so you may move it."""
    model: str = "smallconvnet"
    """smallconvnet, resnet18, resnet110, pyramidnet272, efficientnet_b0, resnet50, densenet121."""
    model_options: dict[str, Any] = field(default_factory=dict)
    """Options of the model, by name and value: e.g. stem cifar."""
    algorithm: Algorithm = field(default_factory=Sgd)
    """sgd, esgd, rsgd (replicas share the passes), rsgd-xy (each replica makes all passes), or a
    baseline: lookahead, sam, asam, swa, schedulefree."""
    passes: float = 300
    """Passes over the training data. Learning rate drops and focusing scale with this number."""
    batch_size: int = 128
    """Images per minibatch."""
    lr: float = 0.01
    """Learning rate η (for esgd the outer one)."""
    lr_drops: tuple[float, ...] = (150, 225)
    """Passes after which the learning rate is multiplied by lr_factor."""
    lr_factor: float = 0.1
    """Factor of each drop."""
    lr_schedule: Literal["drops", "cosine"] = "drops"
    """drops: piecewise constant; cosine: lr ½(1 + cos πt) at the fraction t of the run."""
    warmup_passes: float = 0
    """Passes at the learning rate warmup_lr at the start."""
    warmup_lr: float = 0.0
    """Learning rate of the warm-up."""
    optimizer: Literal["sgd", "rmsprop"] = "sgd"
    """Base optimizer. rmsprop has decay 0.9 and ε = 1e-3, as for EfficientNet."""
    momentum: float = 0.9
    """Momentum of the base optimizer."""
    nesterov: bool = True
    """Use Nesterov momentum (with sgd only)."""
    weight_decay: float = 1e-4
    """Weight decay of the base optimizer. It acts on all parameters."""
    padding: int = 4
    """Pixels of zero padding around an image before the random crop; 0 for no crop."""
    flip: bool = True
    """Mirror images at random."""
    image_size: int = 0
    """Size in pixels to which images are resized first; 0: no resizing."""
    policy: str = ""
    """Augmentation policy: autoaugment-cifar10, fast-autoaugment-imagenet, a JSON file, or none."""
    cutout: int = 0
    """Side of Cutout's square in pixels; 0: no Cutout."""
    snapshots: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75)
    """Fractions of the run after which the network is stored, for flatness along training."""
    validation_images: int = 0
    """Number of training images that are held out and replace the test images, for tuning. They are
    the same for every seed."""
    stop_loss: float = 0.0
    """Stop after the first pass with at most this loss on 5000 training images without
    augmentation; 0: make all passes."""
    seed: int = 0
    """Seed of the initial weights, the minibatches, the augmentation and the noise."""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            positive=("passes", "batch_size", "lr_factor"),
            non_negative=("lr", "weight_decay", "padding", "image_size", "cutout",
                          "validation_images", "stop_loss"),
            below_one=("momentum",),
        )  # fmt: skip
        check_words(self)
        if self.nesterov and (self.momentum == 0 or self.optimizer == "rmsprop"):
            raise ValueError(
                f"nesterov is True with optimizer {self.optimizer!r} and momentum "
                f"{self.momentum}; 'sgd' with a positive momentum was expected."
            )
        smooth = self.lr_schedule == "cosine"
        check("lr_drops", self.lr_drops, not (smooth and self.lr_drops), "() with cosine rates")
        for name, end in (("lr_drops", self.passes), ("snapshots", 1)):
            inside = all(0 < value < end for value in getattr(self, name))
            check(name, getattr(self, name), inside, f"numbers between 0 and {end:g}")
        self.algorithm.check(self)

    @property
    def dataset_name(self) -> str:
        """Name of the data set, without the folder and the suffixes of an archive."""
        return Path(self.dataset).name.split(".")[0]

    @property
    def title(self) -> str:
        """Data set, model, algorithm and seed."""
        return f"{self.dataset_name}, {self.model}, {self.algorithm.name}, seed {self.seed}"

    def augmentation(self) -> dict[str, Any]:
        """Arguments of ``ImageData.preprocessing``."""
        return {
            "padding": self.padding, "flip": self.flip, "size": self.image_size,
            "policy": self.policy, "cutout": self.cutout,
        }  # fmt: skip

    def steps(self, batches_per_pass: int) -> int:
        """Optimizer steps of the run: minibatches per replica."""
        own = self.algorithm
        share = own.gradients_per_step // own.passes_per_epoch
        return max(1, round(self.passes * batches_per_pass / share))

    def learning_rate(self, fraction: float) -> float:
        """Learning rate η after a fraction of the run."""
        passes = fraction * self.passes
        if passes < self.warmup_passes:
            return self.warmup_lr
        if self.lr_schedule == "cosine":
            return 0.5 * self.lr * (1 + math.cos(math.pi * fraction))
        # The tolerance absorbs rounding: the first step of a pass belongs to that pass.
        drops = sum(passes >= drop - 1e-9 * self.passes for drop in self.lr_drops)
        return self.lr * self.lr_factor**drops

    def changed(self, **settings: Any) -> TrainingConfig:
        """A copy with other settings, of the run or of its algorithm.

        Raises ``ValueError`` for a setting that neither has.
        """
        algorithm = settings.pop("algorithm", self.algorithm)
        if unknown := sorted(settings.keys() - {*vars(algorithm), *vars(self)}):
            raise ValueError(
                f"{unknown[0]} is no setting of {algorithm.name}; its own settings are "
                f"{sorted(vars(algorithm))}."
            )
        own = {name: settings.pop(name) for name in vars(algorithm) if name in settings}
        return replace(self, algorithm=replace(algorithm, **own), **settings)

    def stretched(self, passes: float) -> TrainingConfig:
        """A copy with more or fewer passes. Drops stay at the same fractions of the run."""
        check("passes", passes, math.isfinite(passes) and passes > 0, "a positive number")
        scale = passes / self.passes
        late = getattr(self.algorithm, "late_coupling_from", 0)
        return self.changed(
            passes=passes, lr_drops=tuple(drop * scale for drop in self.lr_drops),
            warmup_passes=self.warmup_passes * scale,
            **({"late_coupling_from": late * scale} if late else {}),
        )  # fmt: skip

    def settings(self) -> dict[str, Any]:
        """The settings that identify this run, in JSON's types.

        The name and the content hash stand for an image-folder archive. Raises ``ValueError`` if
        the archive does not exist.
        """
        archive = None if self.dataset in DATASETS else archive_hash(Path(self.dataset))
        algorithm = {"name": self.algorithm.name, **asdict(self.algorithm)}
        named = {"dataset": self.dataset_name, "archive": archive, "algorithm": algorithm}
        return as_json(vars(self) | named)

    @classmethod
    def from_settings(
        cls, settings: Mapping[str, Any], dataset: str | None = None
    ) -> TrainingConfig:
        """The inverse of ``settings``. ``dataset`` is the path of the archive.

        Raises ``ValueError`` if these are not the settings of a run.
        """
        try:
            values: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()
            }
            own = dict(values["algorithm"])
            values["algorithm"] = KINDS[own.pop("name")](**own)
            values["dataset"] = dataset or values["dataset"]
            values.pop("archive", None)
            return cls(**values)
        except (AttributeError, TypeError, KeyError, ValueError) as error:
            raise ValueError(f"its settings are not the settings of a run ({error}).") from error


def archive_hash(path: Path) -> str:
    """Hash of the content of an image-folder archive, a file or a folder.

    Raises ``ValueError`` if it does not exist.
    """
    expected = f"one of {[*DATASETS]} or the path of an image-folder archive"
    check("dataset", str(path), path.exists(), expected)
    return _archive_hash(path, path.stat().st_mtime_ns)


@cache
def _archive_hash(path: Path, _: int) -> str:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return content_hash(*(x for file in files for x in (str(file.relative_to(path)), file)))
    return content_hash(path)


@dataclass(frozen=True)
class Hardware:
    """Options of the training commands: device, number format, folder of the images."""

    device: str = "auto"
    """auto, cpu, cuda."""
    precision: Precision = "auto"
    """Number format of forward and backward passes. Weights stay float32. auto: bf16 on a GPU,
    float32 elsewhere. bf16 takes two thirds of the time on CPUs with AVX-512 BF16."""
    data_dir: Path | None = None
    """Folder of the official archives. Default: $WIDE_FLAT_MINIMA_DATA, the cache, a download."""
