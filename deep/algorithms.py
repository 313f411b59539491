"""The algorithms and their settings: one frozen dataclass for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from message_passing.tools.validation import check, check_numbers, check_words

if TYPE_CHECKING:
    from deep.config import TrainingConfig

#: Allowed ranges of the numeric settings of all algorithms (see ``check_numbers``).
RANGES = {
    "positive": (
        "gamma_growth", "replicas", "coupling_period", "late_coupling_period", "inner_steps",
        "lookahead_steps",
    ),
    "non_negative": ("late_coupling_from", "inner_lr", "noise", "sam_radius"),
    "below_one": ("averaging", "lookahead_rate"),
    "fractions": ("swa_from", "schedulefree_warmup"),
}  # fmt: skip


@dataclass(frozen=True)
class Algorithm:
    """Base class of the algorithms. Its defaults are plain SGD."""

    name: ClassVar[str] = "sgd"
    label: ClassVar[str] = "SGD"

    def __post_init__(self) -> None:
        own = {k: [name for name in names if hasattr(self, name)] for k, names in RANGES.items()}
        check_numbers(self, **own)
        check_words(self)

    @property
    def networks(self) -> int:
        """Number of networks that train together: y for Replicated-SGD, else 1."""
        return 1

    @property
    def gradients_per_step(self) -> int:
        """Number of minibatch gradients that one step evaluates."""
        return self.networks

    @property
    def passes_per_epoch(self) -> int:
        """Logged passes per epoch of the paper's figures: y for rsgd-xy, else 1."""
        return 1

    def check(self, run: TrainingConfig) -> None:
        """Raise ``ValueError`` if the run's settings do not fit the algorithm's."""


@dataclass(frozen=True)
class Sgd(Algorithm):
    """The base optimizer alone."""


@dataclass(frozen=True)
class Focused(Algorithm):
    """An algorithm with an elastic strength γ that grows along the run."""

    gamma: float | Literal["measured"] = "measured"
    """Initial γ of rsgd and esgd (with cosine focusing: the final γ). measured: γ0 balances the
    loss and the elastic term."""
    gamma_growth: float = 1e4
    """Factor by which γ grows over the run (exponential focusing); 10 for esgd."""
    focusing: Literal["exponential", "cosine"] = "exponential"
    """Schedule of γ: exponential, or cosine as for PyramidNet in the paper."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.focusing == "cosine" and self.gamma == "measured":
            raise ValueError("gamma is measured; cosine focusing needs its final value.")
        if self.gamma != "measured":
            check_numbers(self, non_negative=("gamma",))


@dataclass(frozen=True)
class Rsgd(Focused):
    """Replicated-SGD: y replicas attract each other and share the passes."""

    name: ClassVar[str] = "rsgd"
    label: ClassVar[str] = "rSGD"

    replicas: int = 3
    """Number y of replicas."""
    coupling_period: int = 10
    """Period K of the coupling between replicas, in steps."""
    late_coupling_period: int = 10
    """Coupling period K after late_coupling_from passes."""
    late_coupling_from: float = 0
    """Passes after which K is late_coupling_period; 0: never."""
    coupling: Literal["explicit", "implicit"] = "explicit"
    """explicit: the elastic force passes through the base optimizer. implicit: always stable."""

    @property
    def networks(self) -> int:
        """Number of replicas."""
        return self.replicas

    def coupling_period_at(self, passes: float, total: float) -> int:
        """K after ``passes`` of a run of ``total`` passes."""
        start = self.late_coupling_from
        late = start > 0 and passes >= start - 1e-9 * total
        return self.late_coupling_period if late else self.coupling_period


@dataclass(frozen=True)
class RsgdXY(Rsgd):
    """Replicated-SGD in which each replica makes all the passes (rSGD×y)."""

    name: ClassVar[str] = "rsgd-xy"
    label: ClassVar[str] = "rSGD×y"

    @property
    def passes_per_epoch(self) -> int:
        """The log counts the passes of all replicas together."""
        return self.replicas


@dataclass(frozen=True)
class Esgd(Focused):
    """Entropy-SGD: L Langevin steps per outer step."""

    name: ClassVar[str] = "esgd"
    label: ClassVar[str] = "eSGD"

    gamma_growth: float = 10.0
    """Factor by which γ grows over the run (exponential focusing); 1e4 for rsgd."""
    inner_lr: float = 0.02
    """Learning rate η' of the inner loop."""
    inner_steps: int = 5
    """Number L of steps of the inner loop, one minibatch each."""
    noise: float = 1e-4
    """Noise amplitude ε of the inner loop."""
    averaging: float = 0.75
    """Decay α of the running average μ of the weights."""
    outer_form: Literal["algorithm", "code"] = "algorithm"
    """Outer learning rate. algorithm: η as in Algorithm 1. code: ηγ as in the authors' code."""
    kick: Literal["algorithm", "code"] = "algorithm"
    """Inner noise. algorithm: √η' ε as in Algorithm 1. code: √(2η') ε as in the authors' code."""
    decay_in: Literal["both", "inner", "outer"] = "both"
    """Loop in which weight decay acts."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.outer_form == "code" and self.gamma == 0:
            raise ValueError(
                "gamma is 0 with outer_form 'code', whose outer step has the rate ηγ; a positive "
                "number was expected."
            )


@dataclass(frozen=True)
class Lookahead(Algorithm):
    """Lookahead [Zhang et al. 2019, arXiv 1907.08610]; α = 0.8 as in the authors' code."""

    name: ClassVar[str] = "lookahead"
    label: ClassVar[str] = "Lookahead"

    lookahead_steps: int = 5
    """Number k of base steps per slow step."""
    lookahead_rate: float = 0.8
    """Length α < 1 of the slow step. 1 would be the base optimizer alone."""


@dataclass(frozen=True)
class Sam(Algorithm):
    """SAM [Foret et al. 2020, arXiv 2010.01412]; ρ = 0.05 as for CIFAR-10 there."""

    name: ClassVar[str] = "sam"
    label: ClassVar[str] = "SAM"

    sam_radius: float = 0.05
    """Radius ρ of the perturbation; 0.5 for asam."""

    @property
    def gradients_per_step(self) -> int:
        """One gradient at w and one at the perturbed weights."""
        return 2


@dataclass(frozen=True)
class Asam(Sam):
    """ASAM [Kwon et al. 2021, arXiv 2102.11600]; ρ = 0.5 as for CIFAR-10 there."""

    name: ClassVar[str] = "asam"
    label: ClassVar[str] = "ASAM"

    sam_radius: float = 0.5
    """Radius ρ of the perturbation; 0.05 for sam."""


@dataclass(frozen=True)
class Swa(Algorithm):
    """SWA [Izmailov et al. 2018, arXiv 1803.05407]; averages from epoch 161 of 300, as there."""

    name: ClassVar[str] = "swa"
    label: ClassVar[str] = "SWA"

    swa_from: float = 161 / 300
    """Fraction of the run after which the weights are averaged, once per pass."""


@dataclass(frozen=True)
class ScheduleFree(Algorithm):
    """Schedule-free SGD [Defazio et al. 2024, arXiv 2405.15682]; β is the run's momentum."""

    name: ClassVar[str] = "schedulefree"
    label: ClassVar[str] = "schedule-free"

    schedulefree_warmup: float = 0.05
    """Fraction of the run during which the learning rate grows from 0."""

    def check(self, run: TrainingConfig) -> None:
        """Raise ``ValueError`` unless the replaced base optimizer is SGD with momentum."""
        if run.optimizer != "sgd" or run.momentum == 0:
            raise ValueError(
                f"optimizer is {run.optimizer!r} with momentum {run.momentum}; 'sgd' with a "
                "positive momentum was expected by schedulefree, which takes its place."
            )


KINDS: dict[str, type[Algorithm]] = {
    kind.name: kind
    for kind in (Sgd, Rsgd, Esgd, RsgdXY, Lookahead, Sam, Asam, Swa, ScheduleFree)
}  # fmt: skip
ALGORITHMS = ("sgd", "rsgd", "esgd", "rsgd-xy")  # of Table 1
BASELINES = ("lookahead", "sam", "asam", "swa", "schedulefree")


def algorithm_named(name: str) -> Algorithm:
    """The algorithm ``name`` with default settings. Raises ``ValueError`` for unknown names."""
    check("algorithm", name, name in KINDS, f"one of {tuple(KINDS)}")
    return KINDS[name]()
