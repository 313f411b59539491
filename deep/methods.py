"""The algorithms as the training loop sees them: one object each.

A method takes the steps of all networks of this process, and provides the network to evaluate. The
baselines come from libraries: Lookahead, SAM, ASAM and schedule-free SGD from
``pytorch_optimizer``, the average of SWA from torch. ``deep.algorithms`` names their papers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from committee.schedules import Cosine, Exponential
from deep import algorithms as kinds
from deep.algorithms import Focused, Rsgd
from deep.config import TrainingConfig
from deep.images.minibatches import LANGEVIN, stream_seed
from deep.model_state import batch_statistics, values_kept
from deep.optimizers.base import Base
from deep.optimizers.entropy_sgd import EntropySGD
from deep.optimizers.gamma import AutomaticFocusing, Gamma
from deep.optimizers.replicated_sgd import ReplicatedSGD

Gradient = Callable[[], tuple[Tensor, Tensor]]


class Method:
    """An optimizer in the training loop. This class is the base optimizer alone.

    Attributes
    ----------
    averages : bool
        Whether the evaluated network is an average, which needs its own BatchNorm statistics.
    logs_recalibrated : bool
        Whether the log also has the test error with recalibrated BatchNorm statistics. This is so
        if the evaluated network makes no forward pass in training: its statistics then belong to
        other weights.
    """

    averages: bool = False
    logs_recalibrated = False

    def __init__(self, models: Sequence[nn.Module], optimizer: Any) -> None:
        self.models, self.optimizer = models, optimizer

    def prepare(self, steps: int, loss: Callable[[nn.Module], float], first: bool) -> None:
        """Before the first step: measure γ0 with ``loss``, warn if the coupling is unstable."""

    def set_rate(self, rate: float, fraction: float) -> None:
        """Set the learning rate and all other schedules, after a fraction of the run."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def step(self, loss: Tensor, gradient: Gradient) -> None:
        """Make a step with the gradients in ``.grad``.

        ``loss`` is the loss of the last network. Each call of ``gradient`` adds the gradients of
        the same minibatch again.
        """
        self.optimizer.step()

    def network(self) -> AbstractContextManager[nn.Module]:
        """The network to evaluate, in a context that restores the training state at its end."""
        return nullcontext(self.models[0])

    @property
    def gamma(self) -> float:
        """The current γ, for the log."""
        return 0.0

    def distance(self) -> float:
        """Mean of ½‖w^a − w̄‖² over the replicas, for the log."""
        return 0.0

    def result(self) -> dict[str, Any]:
        """Additional entries of ``result.json``."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Everything that an exact resume needs in addition to the models' weights."""
        return self.optimizer.state_dict()

    def joined(self, states: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Merge the states of all processes."""
        return states[0]

    def load_state_dict(self, state: dict[str, Any], indices: Sequence[int]) -> None:
        """Continue from a state; ``indices`` number the networks of this process."""
        self.optimizer.load_state_dict(state)


class Elastic(Method):
    """Base class of Replicated-SGD and Entropy-SGD: γ, possibly with a measured γ0."""

    logs_recalibrated = True

    @property
    def gamma(self) -> float:
        return self.optimizer.gamma

    def result(self) -> dict[str, Any]:
        return {"measured_gamma0": self.optimizer.gamma0}


class Replicas(Elastic):
    """Replicated-SGD. The evaluated network is the centre.

    ``prepare`` measures γ0, if it is automatic, and checks the stability of the coupling over the
    whole run.
    """

    optimizer: ReplicatedSGD

    def __init__(
        self, models: Sequence[nn.Module], optimizer: ReplicatedSGD, config: TrainingConfig
    ) -> None:
        super().__init__(models, optimizer)
        self.config = config

    def _period(self, fraction: float) -> int:
        own = self.config.algorithm
        assert isinstance(own, Rsgd)
        return own.coupling_period_at(fraction * self.config.passes, self.config.passes)

    def prepare(self, steps: int, loss: Callable[[nn.Module], float], first: bool) -> None:
        if self.optimizer.awaits_measurement:
            self.optimizer.measure_gamma0(loss)
        if first:
            self.optimizer.check_stability(
                steps,
                lambda step: self.config.learning_rate(step / steps),
                lambda step: self._period(step / steps),
            )

    def set_rate(self, rate: float, fraction: float) -> None:
        super().set_rate(rate, fraction)
        self.optimizer.coupling_period = self._period(fraction)

    def network(self) -> AbstractContextManager[nn.Module]:
        return self.optimizer.centre()

    def distance(self) -> float:
        return self.optimizer.squared_distance() / self.optimizer.replicas

    def state_dict(self) -> dict[str, Any]:
        return {"replicas": self.optimizer.replica_states()}

    def joined(self, states: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {"replicas": [replica for state in states for replica in state["replicas"]]}

    def load_state_dict(self, state: dict[str, Any], indices: Sequence[int]) -> None:
        self.optimizer.load_replica_states([state["replicas"][index] for index in indices])


class Entropic(Elastic):
    """Entropy-SGD. The evaluated network is w, not w'. The first inner loop measures γ0."""

    optimizer: EntropySGD

    def prepare(self, steps: int, loss: Callable[[nn.Module], float], first: bool) -> None:
        self.optimizer.check_stability(steps // self.optimizer.inner_steps)

    def step(self, loss: Tensor, gradient: Gradient) -> None:
        self.optimizer.step(loss=loss)

    @contextmanager
    def network(self) -> Iterator[nn.Module]:
        with self.optimizer.anchor():
            yield self.models[0]


class Lookahead(Method):
    """k base steps, then φ ← φ + α (w − φ), w ← φ. The evaluated network is φ."""

    averages = True

    @contextmanager
    def network(self) -> Iterator[nn.Module]:
        self.optimizer.backup_and_load_cache()
        try:
            yield self.models[0]
        finally:
            self.optimizer.clear_and_load_backup()


class SharpnessAware(Method):
    """SAM: the base optimizer along ∇L(w + ρ g/‖g‖), g = ∇L(w).

    ASAM's perturbation is ρ w²g/‖wg‖, elementwise and without the small η of its paper. Both
    gradients are from the same minibatch. The first one updates BatchNorm's running statistics.
    """

    def step(self, loss: Tensor, gradient: Gradient) -> None:
        with batch_statistics(self.models):
            self.optimizer.step(gradient)


class WeightAveraging(Method):
    """SWA: the mean of the weights, taken every ``period`` steps from step ``start``.

    Before ``start`` the evaluated network is the trained one.
    """

    def __init__(
        self, models: Sequence[nn.Module], optimizer: Any, start: int, period: int
    ) -> None:
        super().__init__(models, optimizer)
        self.average = AveragedModel(models[0])
        self.start, self.period = start, period
        self._count(0)

    def _count(self, steps_done: int) -> None:
        self.steps_done, self.averages = steps_done, steps_done >= self.start

    def step(self, loss: Tensor, gradient: Gradient) -> None:
        self.optimizer.step()
        self._count(self.steps_done + 1)
        if self.averages and (self.steps_done - self.start) % self.period == 0:
            self.average.update_parameters(self.models[0])

    def network(self) -> AbstractContextManager[nn.Module]:
        return nullcontext(self.average.module if self.averages else self.models[0])

    def state_dict(self) -> dict[str, Any]:
        average, done = self.average.state_dict(), self.steps_done
        return {"base": super().state_dict(), "average": average, "steps_done": done}

    def load_state_dict(self, state: dict[str, Any], indices: Sequence[int]) -> None:
        super().load_state_dict(state["base"], indices)
        self.average.load_state_dict(state["average"])
        self._count(state["steps_done"])


class ScheduleFree(Method):
    """Schedule-free SGD: gradients at y = (1 − β) z + β x. The evaluated network is x."""

    averages = True

    @contextmanager
    def network(self) -> Iterator[nn.Module]:
        with values_kept(self.models[0].parameters()):  # y → x → y has rounding errors
            self.optimizer.eval()
            try:
                yield self.models[0]
            finally:
                self.optimizer.train()


def build_method(
    config: TrainingConfig,
    models: Sequence[nn.Module],
    steps: int,
    per_pass: int,
    group: Any | None = None,
) -> Method:
    """The method for a run of ``steps`` steps. ``group`` is the process group, if any.

    Raises ``ValueError`` if the package of a baseline is not installed.
    """
    base, parameters = base_of(config), list(models[0].parameters())
    lr = config.lr
    match config.algorithm:
        case kinds.Rsgd() as own:
            replicated = ReplicatedSGD(
                models, base, lr=lr, gamma=gamma_of(own, steps), coupling=own.coupling,
                coupling_period=own.coupling_period, process_group=group,
            )  # fmt: skip
            return Replicas(models, replicated, config)
        case kinds.Esgd() as own:
            free = base_of(replace(config, weight_decay=0.0))
            inner, outer = (base if own.decay_in in ("both", loop) else free
                            for loop in ("inner", "outer"))  # fmt: skip
            noise = own.noise * (2**0.5 if own.kick == "code" else 1)
            entropic = EntropySGD(
                parameters, inner, lr=lr, inner_lr=own.inner_lr, inner_steps=own.inner_steps,
                noise=noise, averaging=own.averaging, seed=stream_seed(config.seed, LANGEVIN),
                gamma=gamma_of(own, steps / own.inner_steps), outer_base=outer, reset_inner=True,
                outer_form=own.outer_form,
            )  # fmt: skip
            return Entropic(models, entropic)
        case kinds.Lookahead() as own:
            slow = library(own.name).Lookahead(
                base(parameters, lr=lr), k=own.lookahead_steps, alpha=own.lookahead_rate
            )
            return Lookahead(models, slow)
        case kinds.Sam() as own:
            sharp = library(own.name).SAM(
                parameters, base, rho=own.sam_radius, adaptive=own.name == "asam", lr=lr
            )
            return SharpnessAware(models, sharp)
        case kinds.ScheduleFree() as own:
            free = library(own.name).ScheduleFreeSGD(
                parameters, lr=lr, momentum=config.momentum, weight_decay=config.weight_decay,
                warmup_steps=round(own.schedulefree_warmup * steps),
            )  # fmt: skip
            return ScheduleFree(models, free)
        case kinds.Swa() as own:
            start = max(1, round(own.swa_from * steps))
            return WeightAveraging(models, base(parameters, lr=lr), start, per_pass)
    return Method(models, base(parameters, lr=lr))


def base_of(config: TrainingConfig) -> Base:
    """Constructor of the base optimizer, to call with parameters and ``lr``.

    RMSprop has the published decay 0.9 and ε of EfficientNet. torch adds ε outside of the root,
    TensorFlow inside.
    """
    if config.optimizer == "rmsprop":
        return partial(
            torch.optim.RMSprop, alpha=0.9, eps=1e-3, momentum=config.momentum,
            weight_decay=config.weight_decay,
        )  # fmt: skip
    return partial(
        torch.optim.SGD, momentum=config.momentum, nesterov=config.nesterov,
        weight_decay=config.weight_decay, fused=True,
    )  # fmt: skip


def gamma_of(own: Focused, total: float) -> Gamma:
    """γ as a function of the number of steps (outer steps of esgd). The run has ``total``."""
    if own.gamma == "measured":
        return AutomaticFocusing(own.gamma_growth, total)
    if own.focusing == "cosine":
        return Cosine(own.gamma, total)
    return Exponential.growing_by(own.gamma_growth, own.gamma, total)


def library(algorithm: str) -> ModuleType:
    """The package of a baseline. Raises ``ValueError`` if it is not installed."""
    try:
        import pytorch_optimizer
    except ImportError as error:
        raise ValueError(
            f"algorithm is {algorithm!r}, which needs the package pytorch_optimizer: "
            "pip install pytorch_optimizer"
        ) from error
    return pytorch_optimizer
