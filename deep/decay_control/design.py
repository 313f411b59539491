"""The runs of ``decay-control``: grid points of the tuning, arms, networks of the stage gap.

With the published settings, Entropy-SGD decays weights about seven times as much per unit of
learning as SGD. A lead over SGD may come from either, so each arm changes only one thing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tyro

from deep.config import Hardware, TrainingConfig
from deep.linear_response import equivalent_sgd
from deep.measurements import FlatnessOptions, HessianOptions
from deep.recipes import recipe
from message_passing.tools.validation import check_numbers

Stage = Literal["tune", "final", "batchnorm", "gap"]
STAGES: tuple[Stage, ...] = ("tune", "final", "batchnorm", "gap")
#: The tuned algorithms. eSGD has decay only in its inner loop, where λ means the same as for SGD.
FAMILIES = ("sgd", "esgd", "rsgd", "swa")
ARMS = {
    1: "SGD, tuned",
    2: "eSGD as published",
    3: "eSGD, decay in the inner loop only, tuned",
    4: "SGD with the learning rate and decay that arm 2 is equivalent to",
    5: "arm 3 with γ = 0",
    6: "rSGD, y = 3, K = 10, tuned",
    7: "arm 6 with γ = 0 and a single replica, which makes all passes",
    8: "SGD with averaged weights (SWA), tuned",
}
BATCHNORM_ARMS = (1, 2, 3, 6)
COMPARISONS = ((3, 1), (2, 4), (6, 7), (1, 2))
Best = Mapping[str, tuple[float, float]]  # family → lr and weight decay


@dataclass(frozen=True)
class Tuning:
    """The grid of the tuning, the same for each family of algorithms."""

    passes: float = 20
    """Passes of each run."""
    lrs: tuple[float, ...] = (0.005, 0.01, 0.02, 0.04)
    """Learning rates of SGD. The other families use the equivalent learning rates."""
    decays: tuple[float, ...] = (2e-4, 1e-3, 5e-3)
    """Weight decays."""


@dataclass(frozen=True)
class Gap:
    """The networks of the stage gap: SGD with constant learning rates and no augmentation."""

    loss: float = 0.2
    """Loss on training images at which training stops."""
    passes: float = 40
    """Maximum number of passes."""
    lrs: tuple[float, ...] = (0.005, 0.01, 0.02)
    """Learning rates."""
    decays: tuple[float, ...] = (0.0, 1e-3)
    """Weight decays."""
    batch_sizes: tuple[int, ...] = (32, 128)
    """Images per minibatch."""
    dropouts: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6)
    """Dropout probabilities of the dense units."""
    local_entropy: bool = False
    """Also measure the local entropy. This takes minutes per network."""

    def __post_init__(self) -> None:
        check_numbers(self, positive=("loss", "passes"))


@dataclass(frozen=True)
class DecayControlCommand:
    """Do entropic algorithms generalise better than SGD, or do they only decay weights more?

    Stages: tune (SGD, eSGD with decay in the inner loop, rSGD, SWA: choose learning rate and decay
    by the validation error), final (eight arms with half-width SmallConvNet), batchnorm (arms 1, 2,
    3, 6 with ResNet-8, untuned, with the published settings of ResNet-110), gap (does flatness
    correlate with the generalisation gap over networks of many settings?). Arms are paired: a seed
    has the same initial weights and minibatches in each arm. No run trains on the validation
    images. The test set is used once, for the final networks of the stages after tune. Seed 0 of
    all arms is trained first, then seed 1. Interrupted runs and stages resume. Each worker trains
    one run at a time, on one thread.

    Writes tune.csv, runs.csv (one row per run), summary.csv and .md (means over seeds),
    comparisons.csv, gap.csv, gap_correlations.csv and figures. Runs are in OUT/STAGE/ARM/seed-N.
    """

    stages: tuple[Stage, ...] = STAGES
    """Stages to compute. final needs a complete stage tune."""
    out: Path = Path("decay_control")
    """Folder for the runs, the tables and the figures."""
    dataset: str = "cifar10"
    """cifar10, or the path of an image-folder archive of it."""
    seeds: int = 6
    """Number of seeds of each arm in the stage final. You can add more later."""
    passes: float = 60
    """Passes of each run of the stage final."""
    batchnorm_seeds: int = 4
    """Number of seeds of each arm of the stage batchnorm."""
    batchnorm_passes: float = 20
    """Passes of each run of the stage batchnorm."""
    validation_images: int = 5000
    """Number of training images that are held out for tuning."""
    tune: Tuning = field(default_factory=Tuning)
    gap: Gap = field(default_factory=Gap)
    flatness: FlatnessOptions = field(
        default_factory=lambda: FlatnessOptions((0.3, 0.5), 5, augment=False, images=5000)
    )
    hessian: HessianOptions = field(
        default_factory=lambda: HessianOptions(eigenvalues=1, tolerance=0.05)
    )
    report: bool = False
    """Only write the tables of the stored runs. This works while another command is training."""
    workers: int | None = None
    """Number of simultaneous runs, one per process. Default: one per core."""
    hardware: Annotated[Hardware, tyro.conf.arg(name="")] = field(default_factory=Hardware)

    def __post_init__(self) -> None:
        positive = ("seeds", "passes", "batchnorm_seeds", "batchnorm_passes", "validation_images")
        check_numbers(self, positive=(*positive, "workers"))

    def settings(self, stage: Stage) -> dict[str, Any]:
        """The settings that identify the runs of a stage."""
        flatness, archive = vars(self.flatness), self.base("sgd", 1).settings()["archive"]
        common = {"archive": archive, "validation_images": self.validation_images}
        own: dict[Stage, dict[str, Any]] = {
            "tune": vars(self.tune),
            "final": {"passes": self.passes, "flatness": flatness},
            "batchnorm": {"passes": self.batchnorm_passes, "flatness": flatness},
            "gap": {**vars(self.gap), "flatness": flatness, "hessian": vars(self.hessian)},
        }
        own["gap"].pop("local_entropy")  # it may be measured later
        return common | own[stage]

    def base(self, algorithm: str, passes: float, model: str = "smallconvnet") -> TrainingConfig:
        """The recipe of an algorithm with ``passes`` passes and held-out validation images."""
        return recipe(self.dataset, model, algorithm).stretched(passes).changed(
            validation_images=self.validation_images, snapshots=(0.25, 0.45, 0.55, 0.75, 0.9),
            model_options={"width": 0.5} if model == "smallconvnet" else {},
            **({"decay_in": "inner"} if algorithm == "esgd" else {}),
        )  # fmt: skip


class Unit(NamedTuple):
    """A run of a stage. ``name`` is its arm or its grid point."""

    stage: Stage
    name: str
    config: TrainingConfig

    def folder(self, out: Path) -> Path:
        """``<out>/<stage>/<name>/seed-<n>``."""
        return out / self.stage / self.name / f"seed-{self.config.seed}"


def units(command: DecayControlCommand, stage: Stage, best: Best | None = None) -> list[Unit]:
    """The runs of a stage, seed by seed. The stage final needs ``best``, the tuned settings."""
    if stage == "tune":
        return [
            Unit(stage, f"{c.algorithm.name}-lr-{c.lr:g}-decay-{c.weight_decay:g}", c)
            for points in zip(*(_points(command, family) for family in FAMILIES), strict=True)
            for c in points
        ]
    if stage == "gap":
        return [*_gap_networks(command)]
    if stage == "final":
        assert best is not None
        configs, seeds = arms(command, command.passes, best), command.seeds
    else:
        everything = arms(command, command.batchnorm_passes, {}, "resnet110")
        # The paper has settings for ResNet-110, but a CPU can only train ResNet-8.
        configs = {arm: everything[arm].changed(model="resnet8") for arm in BATCHNORM_ARMS}
        seeds = command.batchnorm_seeds
    return [
        Unit(stage, f"arm-{arm}", config.changed(seed=seed))
        for seed in range(seeds)
        for arm, config in configs.items()
    ]


def _points(command: DecayControlCommand, family: str) -> Iterator[TrainingConfig]:
    """The tuning runs of a family."""
    base = command.base(family, command.tune.passes)
    scale = base.lr / equivalent_sgd(base).lr
    for lr, decay in itertools.product(command.tune.lrs, command.tune.decays):
        yield base.changed(lr=float(f"{lr * scale:.3g}"), weight_decay=decay)


def arms(
    command: DecayControlCommand, passes: float, best: Best, model: str = "smallconvnet"
) -> dict[int, TrainingConfig]:
    """The run of each arm, with seed 0. A family that is not in ``best`` has its recipe."""

    def tuned(family: str) -> TrainingConfig:
        base = command.base(family, passes, model)
        lr, decay = best.get(family, (base.lr, base.weight_decay))
        return base.changed(lr=lr, weight_decay=decay)

    sgd, esgd, rsgd = tuned("sgd"), tuned("esgd"), tuned("rsgd")
    published = command.base("esgd", passes, model).changed(decay_in="both")
    same = equivalent_sgd(published)
    return {
        1: sgd,
        2: published,
        3: esgd,
        4: sgd.changed(lr=same.lr, weight_decay=same.weight_decay),
        5: esgd.changed(gamma=0.0),
        6: rsgd,
        7: rsgd.changed(gamma=0.0, replicas=1),
        8: tuned("swa"),
    }


def _gap_networks(command: DecayControlCommand) -> Iterator[Unit]:
    gap = command.gap
    base = command.base("sgd", gap.passes).changed(
        lr_drops=(), padding=0, flip=False, snapshots=(), stop_loss=gap.loss
    )
    grid = itertools.product(gap.decays, gap.batch_sizes, gap.lrs, gap.dropouts)
    for decay, batch_size, lr, dropout in grid:
        yield Unit(
            "gap",
            f"lr-{lr:g}-decay-{decay:g}-batch-{batch_size}-dropout-{dropout:g}",
            base.changed(
                lr=lr, weight_decay=decay, batch_size=batch_size,
                model_options={"width": 0.5, "dropout": dropout},
            ),
        )  # fmt: skip
