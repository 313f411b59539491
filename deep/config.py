"""What is trained and how: one frozen object per run, the same in a notebook and on a command."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Annotated, Any, Literal

import torch
import tyro

from committee.schedules import Cosine, Exponential
from deep.images.augmentation import Preprocessing
from deep.images.datasets import ImageData
from deep.optimizers.base import Base
from deep.optimizers.gamma import AutomaticFocusing, Gamma

Algorithm = Literal[
    "sgd", "rsgd", "esgd", "rsgd-xy", "lookahead", "sam", "asam", "swa", "schedulefree"
]
ALGORITHMS: tuple[Algorithm, ...] = ("sgd", "rsgd", "esgd", "rsgd-xy")  # of Table 1
PEERS: tuple[Algorithm, ...] = ("lookahead", "sam", "asam", "swa", "schedulefree")


@dataclass(frozen=True)
class TrainingConfig:
    """One training run.

    Time is counted in passes over the training data. A pass of ``rsgd`` is shared by its y
    replicas, every minibatch of the inner loops of ``esgd`` counts, and so does each of the two
    gradients of a step of ``sam``: runs with the same ``passes`` have evaluated as many
    gradients. Only with ``rsgd-xy`` does each replica make all the passes. Learning rate drops
    and focusing stretch along.
    """

    dataset: str = "cifar10"
    """cifar10, cifar100, tinyimagenet, synthetic, or the path of an image-folder archive."""
    model: str = "smallconvnet"
    """smallconvnet, resnet18, resnet110, pyramidnet272, efficientnet_b0, resnet50, densenet121."""
    model_options: Annotated[dict[str, Any], tyro.conf.Suppress] = field(default_factory=dict)
    """Options of the model, e.g. stem cifar."""
    algorithm: Algorithm = "sgd"
    """sgd; rsgd: replicas share the passes; esgd; rsgd-xy: each replica makes all passes; or a
    peer of these: lookahead, sam, asam, swa, schedulefree."""
    passes: float = 300
    """Passes over the training data."""
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
    seed: Annotated[int, tyro.conf.Suppress] = 0
    """Of the initial weights, minibatches, augmentation and noise."""
    snapshots: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75)
    """Fractions of the run after which the network is kept, for flatness along training."""

    gamma: float | None = None
    """γ0 of rsgd and esgd (cosine: the final value); none: measured."""
    gamma_growth: float = 1e4
    """Factor by which γ grows over the run (exponential focusing)."""
    focusing: Literal["exponential", "cosine"] = "exponential"
    """How γ grows."""
    replicas: int = 3
    """Number y of replicas of rsgd."""
    coupling_period: int = 10
    """Steps K from one coupling of the replicas to the next."""
    late_coupling_period: int = 10
    """K after late_coupling_from."""
    late_coupling_from: float = 0
    """Passes after which K is late_coupling_period; 0: never."""
    coupling: Literal["explicit", "implicit"] = "explicit"
    """Elastic kick through the base optimizer, or its implicit form, which is always stable."""
    inner_lr: float = 0.02
    """Learning rate η' of esgd's inner loop."""
    inner_steps: int = 5
    """Minibatches L of esgd's inner loop."""
    noise: float = 1e-4
    """Noise ε of esgd's inner loop."""
    averaging: float = 0.75
    """Memory α of esgd's running average."""

    lookahead_steps: int = 5
    """Steps k of lookahead from one slow step to the next."""
    lookahead_rate: float = 0.8
    """Length α < 1 of the slow step of lookahead; 1 would be the base optimizer's."""
    sam_radius: float = 0.05
    """Radius ρ of the perturbation of sam and asam."""
    swa_from: float = 0.5
    """Fraction of the run from which on swa averages the weights, once a pass."""
    schedulefree_warmup: float = 0.05
    """Fraction of the run in which the learning rate of schedulefree grows from 0."""

    def __post_init__(self) -> None:
        known = ALGORITHMS + PEERS
        if self.algorithm not in known:
            raise ValueError(f"algorithm is {self.algorithm!r}; one of {known} was expected.")
        positive = (
            "passes", "batch_size", "lr_factor", "gamma_growth", "replicas", "inner_steps",
            "coupling_period", "late_coupling_period", "lookahead_steps",
        )  # fmt: skip
        others = (
            "lr", "inner_lr", "weight_decay", "noise", "padding", "image_size", "cutout",
            "sam_radius",
        )  # fmt: skip
        for name in (*positive, *others, "late_coupling_from"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0 and (value > 0 or name not in positive)):
                bound = "positive" if name in positive else "non-negative"
                raise ValueError(f"{name} is {value}; a {bound} number was expected.")
        for name in ("momentum", "lookahead_rate"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; a number in [0, 1) was expected."
                )
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov is True with momentum 0; a positive momentum was expected.")
        if self.optimizer not in ("sgd", "rmsprop"):
            raise ValueError(f"optimizer is {self.optimizer!r}; 'sgd' or 'rmsprop' was expected.")
        if self.optimizer == "rmsprop" and self.nesterov:
            raise ValueError("nesterov is True with optimizer 'rmsprop', which has none.")
        if self.lr_schedule not in ("drops", "cosine"):
            raise ValueError(
                f"lr_schedule is {self.lr_schedule!r}; 'drops' or 'cosine' was expected."
            )
        if self.lr_schedule == "cosine" and self.lr_drops:
            raise ValueError(
                f"lr_drops is {self.lr_drops} with lr_schedule 'cosine'; () was expected."
            )
        if any(not 0 < drop < self.passes for drop in self.lr_drops):
            raise ValueError(
                f"lr_drops is {self.lr_drops}; passes between 0 and {self.passes:g} were expected."
            )
        if any(not 0 < fraction < 1 for fraction in self.snapshots):
            raise ValueError(
                f"snapshots is {self.snapshots}; fractions between 0 and 1 were expected."
            )
        for name in ("swa_from", "schedulefree_warmup"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; a number from 0 to 1 was expected."
                )
        if self.algorithm == "schedulefree" and (self.optimizer != "sgd" or self.momentum == 0):
            raise ValueError(
                f"optimizer is {self.optimizer!r} with momentum {self.momentum}; 'sgd' with a "
                "positive momentum was expected by schedulefree, which takes its place."
            )
        if self.focusing == "cosine" and self.gamma is None:
            raise ValueError("gamma is not given; cosine focusing needs its final value.")

    @property
    def replicated(self) -> bool:
        """Whether this is Replicated-SGD."""
        return self.algorithm in ("rsgd", "rsgd-xy")

    @property
    def gradients_per_step(self) -> int:
        """Gradients of a minibatch that a step evaluates: y of Replicated-SGD, 2 of SAM."""
        if self.replicated:
            return self.replicas
        return 2 if self.algorithm in ("sam", "asam") else 1

    def steps(self, batches_per_pass: int) -> int:
        """Optimizer steps of the run: minibatches per replica."""
        share = 1 if self.algorithm == "rsgd-xy" else self.gradients_per_step
        return max(1, round(self.passes * batches_per_pass / share))

    def stretched(self, passes: float) -> TrainingConfig:
        """The same run in more or fewer passes: drops at the same fractions of it."""
        scale = passes / self.passes
        return replace(
            self,
            passes=passes,
            lr_drops=tuple(drop * scale for drop in self.lr_drops),
            warmup_passes=self.warmup_passes * scale,
            late_coupling_from=self.late_coupling_from * scale,
        )

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

    def gamma_schedule(self, steps: int) -> Gamma:
        """γ as a function of the steps, or outer steps, taken."""
        total = steps / self.inner_steps if self.algorithm == "esgd" else steps
        if self.focusing == "cosine":
            assert self.gamma is not None
            return Cosine(self.gamma, total)
        if self.gamma is None:
            return AutomaticFocusing(self.gamma_growth, total)
        return Exponential.growing_by(self.gamma_growth, self.gamma, total)

    def coupling_period_at(self, fraction: float) -> int:
        """K after a fraction of the run."""
        start = self.late_coupling_from
        late = start > 0 and fraction * self.passes >= start - 1e-9 * self.passes
        return self.late_coupling_period if late else self.coupling_period

    def base(self) -> Base:
        """The base optimizer, to be called with parameters and ``lr``.

        RMSprop has the memory 0.9 and the ε that EfficientNet was published with; torch adds ε
        outside of the root and TensorFlow inside.
        """
        if self.optimizer == "rmsprop":
            return partial(
                torch.optim.RMSprop, alpha=0.9, eps=1e-3, momentum=self.momentum,
                weight_decay=self.weight_decay,
            )  # fmt: skip
        return partial(
            torch.optim.SGD, momentum=self.momentum, nesterov=self.nesterov,
            weight_decay=self.weight_decay, fused=True,
        )  # fmt: skip

    def preprocessing(self, data: ImageData) -> Preprocessing:
        """What happens to the images of ``data`` before the network."""
        return data.preprocessing(
            self.padding, self.flip, self.image_size, self.policy, self.cutout
        )

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> TrainingConfig:
        """The configuration that ``as_json`` has written."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in content.items()
        }
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"the configuration of the run does not fit: {error}.") from error

    def as_json(self) -> dict[str, Any]:
        """As plain lists, numbers and strings."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }
