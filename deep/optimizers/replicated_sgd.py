"""Replicated-SGD ([P21] Algorithm 2) as a torch optimizer around any base optimizer."""

from __future__ import annotations

import copy
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from committee.entropic import descend, elastic_pull
from deep.model_state import batch_statistics, recalibrated
from deep.optimizers.base import (
    Base,
    EntropicOptimizer,
    Progress,
    as_groups,
    build_base,
    check_same_shapes,
    dense_gradient,
    take_step,
)
from deep.optimizers.gamma import Gamma, balanced_gamma0, warn_if_unstable
from deep.optimizers.replicas import Ensemble, check_replicas, floating_buffers
from deep.optimizers.tensor_list import TensorList
from message_passing.tools.validation import check, check_one_of


class ReplicatedSGD(EntropicOptimizer):
    """Train y replicas of a network that attract each other towards their centre.

    ::

        w̄ = (1/y) Σ_a w^a
        w^a ← base step along ∇L(w^a; Ξ_a) [+ K_c γ (w^a − w̄) at every K_c-th step]

    The training loop computes the loss of each replica on its own minibatch, calls ``backward``
    for each, then ``step()`` once::

        optimizer = ReplicatedSGD(replicas, partial(SGD, momentum=0.9, nesterov=True), lr=0.05,
                                  gamma=AutomaticFocusing(growth=1e4, total=steps))
        optimizer.measure_gamma0(lambda replica: loss(replica(x), t))
        ...
        with optimizer.centre() as network: evaluate(network)

    After ``eval()``, every replica holds the centre until ``train()``.

    ========  ===================  ========================================================
    symbol    argument             meaning
    ========  ===================  ========================================================
    w^a       ``models``           the replicas of this process
    η         ``lr``               learning rate of the base
    K_c       ``coupling_period``  number of steps between couplings
    γ         ``gamma``            elastic strength: a number, a schedule over steps, or
                                   ``AutomaticFocusing``; the gradient is γ(w^a − w̄)
    ========  ===================  ========================================================

    Parameters
    ----------
    models
        y modules of the same kind on one device, best with independent initial weights.
    base
        Called as ``base(groups, lr=…)`` once for each replica.
    coupling
        ``"explicit"``: the elastic gradient goes through the base optimizer, as published. This
        is stable only for small ηK_cγ (``check_stability``). ``"implicit"``: the base steps along
        the loss only. Then the replicas contract by 1/(1 + ηK_cγ) about their centre. This is the
        implicit Euler step of the elastic flow, which is always stable. Default: explicit for
        SGD, implicit for other bases. They would rescale the elastic gradient: with Adam,
        distances hardly depend on γ.
    groups
        Parameter groups of a module (default: one group, all parameters).
    coupling_period
        Number K_c of steps between couplings; may be changed between steps.
    process_group
        A torch.distributed group (gloo, NCCL). Every process holds some of the replicas, and
        the centre is all-reduced. Results equal the one-process run (up to the order of the
        sum over replicas).

    With y = 1 or γ = 0, every replica follows its base optimizer exactly. With constant γ this
    resembles EASGD. But EASGD pulls the workers towards a master variable, which itself moves by
    a fraction of Σ_a(w^a − master). Here the centre is the mean of the replicas.
    A parameter without a gradient takes no step, coupled or not. Gradient clipping and
    ``torch.amp.GradScaler`` work as with any optimizer.

    Raises ``ValueError`` for replicas that differ or lie on different devices, numbers out of
    range, a base without a learning rate, a state of another model; ``RuntimeError`` for a step
    in evaluation mode.
    """

    steps_done = Progress()
    kept = Progress()  # in evaluation mode, weights and buffers of this process's replicas

    def __init__(
        self,
        models: Sequence[nn.Module],
        base: Base = torch.optim.SGD,
        *,
        lr: float,
        gamma: Gamma,
        coupling_period: int = 10,
        coupling: Literal["explicit", "implicit"] | None = None,
        groups: Callable[[nn.Module], Iterable[Any]] = nn.Module.parameters,
        process_group: Any | None = None,
    ) -> None:
        self.models = list(models)
        check_replicas(self.models)
        whole = isinstance(coupling_period, int) and coupling_period >= 1
        check("coupling_period", coupling_period, whole, "an integer ≥ 1")
        self.bases = [build_base(base, as_groups(groups(m)), lr) for m in self.models]
        self.coupling_period = coupling_period
        self.coupling = self._checked(coupling)
        device = next(self.models[0].parameters()).device
        self.ensemble = Ensemble(len(self.models), device, process_group)
        # The groups are shared with the bases, so that schedulers drive all replicas at once.
        groups_of_all = [group for base in self.bases for group in base.param_groups]
        super().__init__(groups_of_all, self.bases[0].defaults, gamma)
        self.steps_done, self.kept = 0, []

    def _checked(self, coupling: str | None) -> str:
        plain = isinstance(self.bases[0], torch.optim.SGD)
        if coupling is None:
            return "explicit" if plain else "implicit"
        check_one_of("coupling", coupling, ("explicit", "implicit"))
        if coupling == "explicit" and not plain:
            warnings.warn(
                f"coupling is 'explicit' with the base {type(self.bases[0]).__name__}, which "
                "rescales the elastic gradient: gamma is then no elastic strength. "
                "Use coupling='implicit'.",
                stacklevel=3,
            )
        return coupling

    @property
    def replicas(self) -> int:
        """Number y of replicas, in all processes together."""
        return self.ensemble.total

    @property
    def gamma(self) -> float:
        """γ at the current step."""
        return self.gamma_at(self.steps_done)

    # -- the algorithm ------------------------------------------------------------------

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step of all replicas; the closure, if any, computes all their gradients."""
        self._check_training()
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        if self.steps_done == 0 and self._is_asked_for_empty_state():
            for base in self.bases:
                base.step()
            self._share_state()
            return result
        if self.awaits_measurement:
            raise RuntimeError("gamma is automatic: call measure_gamma0(loss) before training.")
        gamma = self.gamma
        coupled = gamma != 0 and (self.steps_done + 1) % self.coupling_period == 0
        if coupled and self.coupling == "explicit":
            self._pull(gamma)
        for base in self.bases:
            take_step(base)
        if coupled and self.coupling == "implicit":
            self._contract(gamma)
        self.steps_done += 1
        if not self.state:
            self._share_state()
        return result

    def _pull(self, gamma: float) -> None:
        """Algorithm 2, line 7: add K_c γ (w^a − w̄) to the gradients."""
        for _, weights, centre in self._coupled_groups():
            gradients = [dense_gradient(p) for p in weights.tensors]
            elastic_pull(weights, centre, self.coupling_period * gamma).add_to(gradients)

    def _contract(self, gamma: float) -> None:
        """The implicit step: w^a ← w̄ + (w^a − w̄)/(1 + ηK_cγ)."""
        for group, weights, centre in self._coupled_groups():
            lr = float(group["lr"])
            strength = self.coupling_period * gamma
            pull = elastic_pull(weights, centre, strength / (1 + lr * strength))
            descend(weights, pull, lr).copy_to(weights)

    def _coupled_groups(self) -> Iterator[tuple[dict[str, Any], TensorList, TensorList]]:
        """Each group of each replica, its parameters with a gradient, and their centre."""
        for index in range(len(self.bases[0].param_groups)):
            groups = [base.param_groups[index] for base in self.bases]
            centre = self.ensemble.mean([TensorList(group["params"]) for group in groups])
            for group in groups:
                pairs = [
                    (p, c)
                    for p, c in zip(group["params"], centre.tensors, strict=True)
                    if p.grad is not None
                ]
                yield group, TensorList(p for p, _ in pairs), TensorList(c for _, c in pairs)

    # -- focusing -----------------------------------------------------------------------

    @torch.no_grad()
    def squared_distance(self) -> float:
        """Σ_a d(w^a, w̄), with d = ½‖w^a − w̄‖²; zero once the replicas have collapsed."""
        lists = self._weights()
        centre = self.ensemble.mean(lists)
        return self.ensemble.sum(
            sum(0.5 * float((weights - centre).squared_norm()) for weights in lists)
        )

    @torch.no_grad()
    def measure_gamma0(self, loss: Callable[[nn.Module], Tensor | float]) -> float:
        """γ0 = Σ_a L(w^a) / Σ_a d(w^a, w̄), for ``AutomaticFocusing`` ([P21] Sec. 4).

        The losses use batch statistics and leave BatchNorm's buffers unchanged. With the running
        statistics of an untrained network, they could be larger by orders of magnitude.
        """
        with batch_statistics(self.models):
            losses = self.ensemble.sum(sum(float(loss(model)) for model in self.models))
        self.gamma0 = balanced_gamma0(losses, self.squared_distance())
        return self.gamma0

    def check_stability(
        self,
        steps: int,
        lr: Callable[[int], float] | None = None,
        coupling_period: Callable[[int], int] | None = None,
    ) -> tuple[int, float, float] | None:
        """Search the whole schedule for a kick ηK_cγ beyond the limit of explicit coupling.

        ``lr`` maps a step to η, ``coupling_period`` maps it to K_c (default: current values).
        Warns (``StabilityWarning``) at the first unstable coupling step, and returns it with its
        ηK_cγ and the limit. Returns None if there is no such step, and for bases other than SGD,
        which have no known limit.
        """
        if self.coupling == "implicit":
            return None
        advice = (
            "the replicas may oscillate apart. Use coupling='implicit', a smaller gamma or a "
            "shorter coupling_period."
        )
        for step in range(steps):
            period = self.coupling_period if coupling_period is None else coupling_period(step)
            if (step + 1) % period != 0:
                continue
            excess = warn_if_unstable(
                self.bases[0],
                period * self.gamma_at(step),
                period,
                f"from step {step + 1} of {steps} on",
                advice,
                None if lr is None else lr(step),
            )
            if excess is not None:
                return step, *excess
        return None

    # -- the centre ---------------------------------------------------------------------

    @contextmanager
    def centre(self) -> Iterator[nn.Module]:
        """The first replica; within this context every replica holds the centre.

        The centre has the mean weights and the mean BatchNorm statistics. The replicas are
        restored afterwards. All processes of the group must enter.
        """
        with self._evaluation():
            yield self.models[0]

    def centre_model(self, recalibrate: Iterable[Any] | None = None) -> nn.Module:
        """A separate copy of the centre, to keep or to export.

        BatchNorm's running statistics are means over the replicas, or with ``recalibrate`` means
        over these batches.
        """
        with self.centre() as model:
            return copy.deepcopy(model) if recalibrate is None else recalibrated(model, recalibrate)

    @torch.no_grad()
    def _enter_evaluation(self) -> None:
        values = [self._weights(), [floating_buffers(model) for model in self.models]]
        means = [self.ensemble.mean(lists) for lists in values]
        self.kept = [t for lists in values for tensors in lists for t in tensors.clone().tensors]
        for lists, mean in zip(values, means, strict=True):
            for tensors in lists:
                mean.copy_to(tensors)

    @torch.no_grad()
    def _leave_evaluation(self) -> None:
        models = self.models
        places: list[Tensor] = [t for model in models for t in model.parameters()]
        places += [t for model in models for t in floating_buffers(model).tensors]
        TensorList(self.kept).copy_to(places)
        self.kept = []

    def _weights(self) -> list[TensorList]:
        """The weights of this process's replicas, also in evaluation mode."""
        if not self.evaluating:
            return [TensorList(model.parameters()) for model in self.models]
        kept = iter(self.kept)
        return [TensorList(next(kept) for _ in model.parameters()) for model in self.models]

    # -- groups and state ---------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Raises ``ValueError``: the replicas have all their parameters from the start."""
        if self._ready:
            raise ValueError(
                "a parameter group was added, which belongs to no replica; give all parameters of "
                "the replicas to ReplicatedSGD (its argument groups divides them)."
            )
        super().add_param_group(param_group)

    def replica_states(self) -> list[dict[str, Any]]:
        """One state per replica of this process, for checkpoints of distributed replicas."""
        self.state_dict()
        return [base.state_dict() for base in self.bases]

    def load_replica_states(self, states: Sequence[dict[str, Any]]) -> None:
        """Continue from ``replica_states``. Raises ``ValueError`` for another model."""
        check_same_shapes([g for state in states for g in state["param_groups"]], self.param_groups)
        for base, state in zip(self.bases, states, strict=True):
            base.load_state_dict(state)
        self.param_groups = [group for base in self.bases for group in base.param_groups]
        self._share_state()

    def _share_state(self) -> None:
        pairs = ((base, group) for base in self.bases for group in base.param_groups)
        states = {p: base.state[p] for base, group in pairs for p in group["params"]}
        self.state = defaultdict(dict, states)

    def _hand_out_state(self) -> None:
        groups = iter(self.param_groups)
        for base in self.bases:
            base.param_groups = [next(groups) for _ in base.param_groups]
            parameters = {p for group in base.param_groups for p in group["params"]}
            base.state = defaultdict(dict, {p: s for p, s in self.state.items() if p in parameters})

    def __repr__(self) -> str:
        return (
            f"ReplicatedSGD({type(self.bases[0]).__name__}, y={self.replicas}, "
            f"γ={self.gamma:g}, η={self._values('lr')}, K_c={self.coupling_period}, "
            f"coupling={self.coupling})"
        )
