"""What is trained and how: one frozen object per run, in Python and on the command line.

The settings that only one algorithm has are in ``algorithms``. Nothing here needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from deep.algorithms import KINDS, Algorithm, Sgd
from deep.checks import check, check_numbers, check_words
from message_passing.tools.files import content_hash
from message_passing.tools.run_folder import as_json

DATASETS = ("cifar10", "cifar100", "tinyimagenet", "synthetic")
CompileMode = Literal["off", "default", "reduce-overhead"]
Precision = Literal["auto", "float32", "bf16"]


@dataclass(frozen=True)
class TrainingConfig:
    """One training run.

    Time is counted in passes over the training data, so that runs with the same ``passes``
    evaluate as many gradients: a pass of rsgd is shared by its y replicas, every minibatch of
    the inner loops of esgd counts, and so does each of the two gradients of a step of sam. Only
    with rsgd-xy does each replica make all the passes.
    """

    dataset: str = "cifar10"
    """cifar10, cifar100, tinyimagenet, synthetic, or the path of an image-folder archive: a
    folder or tar file with train/CLASS/* and test/CLASS/*. An archive is known by its content, so
    that it may be moved."""
    model: str = "smallconvnet"
    """smallconvnet, resnet18, resnet110, pyramidnet272, efficientnet_b0, resnet50, densenet121."""
    model_options: dict[str, Any] = field(default_factory=dict)
    """Options of the model by name and value, e.g. stem cifar."""
    algorithm: Algorithm = field(default_factory=Sgd)
    """sgd; rsgd: replicas share the passes; esgd; rsgd-xy: each replica makes all passes; or a
    baseline: lookahead, sam, asam, swa, schedulefree."""
    passes: float = 300
    """Passes over the training data; learning rate drops and focusing stretch along."""
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
    """Passes at the learning rate warmup_lr before all else."""
    warmup_lr: float = 0.0
    """Learning rate of the warm-up."""
    optimizer: Literal["sgd", "rmsprop"] = "sgd"
    """Base optimizer (rmsprop: memory 0.9 and ε 1e-3, as for EfficientNet)."""
    momentum: float = 0.9
    """Momentum of the base optimizer."""
    nesterov: bool = True
    """Nesterov's momentum (of sgd)."""
    weight_decay: float = 1e-4
    """Weight decay of the base optimizer, in all parameters."""
    padding: int = 4
    """Pixels of zero padding around an image before the random crop; 0 for no crop."""
    flip: bool = True
    """Mirror images at random."""
    image_size: int = 0
    """Pixels to which images are resized before all else; 0: as they are."""
    policy: str = ""
    """Augmentation policy: autoaugment-cifar10, fast-autoaugment-imagenet, a JSON file, or none."""
    cutout: int = 0
    """Pixels of the side of Cutout's square; 0: none."""
    snapshots: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75)
    """Fractions of the run after which the network is kept, for flatness along training."""
    validation_images: int = 0
    """Training images that are held out and take the place of the test images, for tuning. Every
    run has the same ones, whatever its seed."""
    stop_loss: float = 0.0
    """Stop after a pass when the loss on 5000 training images, as they are, is not above this; 0:
    make all passes."""
    seed: int = 0
    """Of the initial weights, minibatches, augmentation and noise."""

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
        """η after a fraction of the run."""
        passes = fraction * self.passes
        if passes < self.warmup_passes:
            return self.warmup_lr
        if self.lr_schedule == "cosine":
            return 0.5 * self.lr * (1 + math.cos(math.pi * fraction))
        # A small tolerance: the first step of a pass belongs to that pass.
        drops = sum(passes >= drop - 1e-9 * self.passes for drop in self.lr_drops)
        return self.lr * self.lr_factor**drops

    def changed(self, **settings: Any) -> TrainingConfig:
        """This run with other settings, of the run or of its algorithm.

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
        """The same run in more or fewer passes: drops at the same fractions of it."""
        check("passes", passes, math.isfinite(passes) and passes > 0, "a positive number")
        scale = passes / self.passes
        late = getattr(self.algorithm, "late_coupling_from", 0)
        return self.changed(
            passes=passes, lr_drops=tuple(drop * scale for drop in self.lr_drops),
            warmup_passes=self.warmup_passes * scale,
            **({"late_coupling_from": late * scale} if late else {}),
        )  # fmt: skip

    def settings(self) -> dict[str, Any]:
        """What makes this run another one, in JSON's types.

        An image-folder archive counts by its name and by the hash of its content. Raises
        ``ValueError`` where it is not there.
        """
        archive = None if self.dataset in DATASETS else archive_hash(Path(self.dataset))
        algorithm = {"name": self.algorithm.name, **asdict(self.algorithm)}
        named = {"dataset": self.dataset_name, "archive": archive, "algorithm": algorithm}
        return as_json(vars(self) | named)

    @classmethod
    def from_settings(
        cls, settings: Mapping[str, Any], dataset: str | None = None
    ) -> TrainingConfig:
        """The run that ``settings`` has described; ``dataset`` is the path of its archive.

        Raises ``ValueError`` for other settings.
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

    Raises ``ValueError`` where there is none.
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
    """Options of the commands that train: where to compute, and where the images are."""

    device: str = "auto"
    """auto, cpu, cuda."""
    precision: Precision = "auto"
    """Number format of the network's passes; weights stay float32. auto: bf16 on a GPU, float32
    elsewhere. bf16 takes two thirds of the time on CPUs with AVX-512 BF16."""
    data_dir: Path | None = None
    """Where the official archives are; else $WIDE_FLAT_MINIMA_DATA, the cache, a download."""
