"""The algorithms and their settings: one frozen dataclass for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from deep.checks import check, check_numbers, check_words

if TYPE_CHECKING:
    from deep.config import TrainingConfig

#: What the numbers have to be, of whatever algorithm (see ``check_numbers``).
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
    """What the algorithms have in common; one without settings of its own is plain SGD."""

    name: ClassVar[str] = "sgd"
    label: ClassVar[str] = "SGD"

    def __post_init__(self) -> None:
        own = {k: [name for name in names if hasattr(self, name)] for k, names in RANGES.items()}
        check_numbers(self, **own)
        check_words(self)

    @property
    def networks(self) -> int:
        """Networks that train together: y of Replicated-SGD."""
        return 1

    @property
    def gradients_per_step(self) -> int:
        """Minibatch gradients that one step evaluates."""
        return self.networks

    @property
    def passes_per_epoch(self) -> int:
        """Passes that are logged while the data is consumed once, as the paper counts epochs."""
        return 1

    def check(self, run: TrainingConfig) -> None:
        """Raise ``ValueError`` where the run's settings do not fit the algorithm's."""


@dataclass(frozen=True)
class Sgd(Algorithm):
    """The base optimizer alone."""


@dataclass(frozen=True)
class Focused(Algorithm):
    """An algorithm with an elastic strength γ that grows along the run."""

    gamma: float | Literal["measured"] = "measured"
    """γ0 of rsgd and esgd (with cosine focusing: the final γ); measured: γ0 balances the loss and
    the elastic term."""
    gamma_growth: float = 1e4
    """Factor by which γ grows over the run (exponential focusing); 10 for esgd."""
    focusing: Literal["exponential", "cosine"] = "exponential"
    """How γ grows."""

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
    """Steps K from one coupling of the replicas to the next."""
    late_coupling_period: int = 10
    """K after late_coupling_from."""
    late_coupling_from: float = 0
    """Passes after which K is late_coupling_period; 0: never."""
    coupling: Literal["explicit", "implicit"] = "explicit"
    """The elastic kick through the base optimizer, or its implicit form, which is always stable."""

    @property
    def networks(self) -> int:
        """The replicas."""
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
        """The passes of all replicas are logged."""
        return self.replicas


@dataclass(frozen=True)
class Esgd(Focused):
    """Entropy-SGD: L Langevin steps for each outer step."""

    name: ClassVar[str] = "esgd"
    label: ClassVar[str] = "eSGD"

    gamma_growth: float = 10.0
    """Factor by which γ grows over the run (exponential focusing); 1e4 for rsgd."""
    inner_lr: float = 0.02
    """Learning rate η' of the inner loop."""
    inner_steps: int = 5
    """Minibatches L of the inner loop."""
    noise: float = 1e-4
    """Noise ε of the inner loop."""
    averaging: float = 0.75
    """Memory α of the running average."""
    outer_form: Literal["algorithm", "code"] = "algorithm"
    """Rate of the outer step: η as in Algorithm 1, or ηγ as in the authors' code."""
    kick: Literal["algorithm", "code"] = "algorithm"
    """Noise of an inner step: √η' ε as in Algorithm 1, or √(2η') ε as in the authors' code."""
    decay_in: Literal["both", "inner", "outer"] = "both"
    """Loops in which weight decay acts."""

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
    """Steps k from one slow step to the next."""
    lookahead_rate: float = 0.8
    """Length α < 1 of the slow step; 1 would be the base optimizer's."""


@dataclass(frozen=True)
class Sam(Algorithm):
    """SAM [Foret et al. 2020, arXiv 2010.01412]; ρ = 0.05 as for CIFAR-10 there."""

    name: ClassVar[str] = "sam"
    label: ClassVar[str] = "SAM"

    sam_radius: float = 0.05
    """Radius ρ of the perturbation; 0.5 for asam."""

    @property
    def gradients_per_step(self) -> int:
        """The gradient at w, and the one at the perturbed weights."""
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
    """SWA [Izmailov et al. 2018, arXiv 1803.05407]; averages from epoch 161 of 300 on, as there."""

    name: ClassVar[str] = "swa"
    label: ClassVar[str] = "SWA"

    swa_from: float = 161 / 300
    """Fraction of the run after which the weights are averaged, once a pass."""


@dataclass(frozen=True)
class ScheduleFree(Algorithm):
    """Schedule-free SGD [Defazio et al. 2024, arXiv 2405.15682]; β is the run's momentum."""

    name: ClassVar[str] = "schedulefree"
    label: ClassVar[str] = "schedule-free"

    schedulefree_warmup: float = 0.05
    """Fraction of the run in which the learning rate grows from 0."""

    def check(self, run: TrainingConfig) -> None:
        """It takes the place of a base optimizer, which has to be SGD with momentum."""
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
    """The algorithm of that name with its default settings. Raises ``ValueError``."""
    check("algorithm", name, name in KINDS, f"one of {tuple(KINDS)}")
    return KINDS[name]()
