"""Replicated-SGD ([P21] Algorithm 2) as a torch optimizer around any base optimizer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from committee.entropic import descend, elastic_pull
from deep.model_state import batch_statistics
from deep.optimizers.arguments import check_coupling
from deep.optimizers.base_optimizers import (
    Base,
    as_groups,
    build_base,
    check_same_shapes,
    parameter_shapes,
)
from deep.optimizers.focusing import Focusing, Gamma
from deep.optimizers.langevin import add_elastic_pull
from deep.optimizers.replicas import Ensemble, check_replicas, floating_buffers
from deep.optimizers.stability import warn_if_unstable
from deep.optimizers.tensor_list import TensorList


class ReplicatedSGD(torch.optim.Optimizer):
    """Train y replicas of a network that attract each other towards their centre.

    ::

        w̄ = (1/y) Σ_a w^a
        w^a ← base step along ∇L(w^a; Ξ_a) [+ K_c γ (w^a − w̄) at every K_c-th step]

    The loop computes the loss of every replica on a minibatch of its own, calls ``backward``
    for each, then ``step()`` once::

        optimizer = ReplicatedSGD(replicas, partial(SGD, momentum=0.9, nesterov=True), lr=0.05,
                                  gamma=AutomaticFocusing(growth=1e4, total=steps))
        optimizer.measure_gamma0(lambda replica: loss(replica(x), t))
        ...
        with optimizer.centre() as network: evaluate(network)

    ========  ===================  ========================================================
    symbol    argument             meaning
    ========  ===================  ========================================================
    w^a       ``models``           the replicas of this process
    η         ``lr``               learning rate of the base
    K_c       ``coupling_period``  steps from one coupling to the next
    γ         ``gamma``            elastic strength: number, schedule of the steps taken, or
                                   ``AutomaticFocusing``; the gradient is γ(w^a − w̄)
    ========  ===================  ========================================================

    Parameters
    ----------
    models
        y modules of the same kind on one device, best from independent initial weights.
    base
        Called as ``base(groups, lr=…)`` once for each replica.
    coupling
        ``"explicit"``: the elastic gradient goes through the base optimizer, as published;
        stable only for small ηK_cγ (``check_stability``). ``"implicit"``: the base steps along
        the loss alone, then the replicas contract by 1/(1 + ηK_cγ) about their centre (the
        implicit Euler step of the elastic flow): always stable.
    groups
        Parameter groups of a module (default: one group, all parameters).
    coupling_period
        Steps K_c from one coupling to the next; may be changed between steps.
    process_group
        A torch.distributed group (gloo, NCCL): every process holds some of the replicas, and
        the centre is all-reduced. Results equal the one-process run (up to the order of the
        sum over replicas).

    With y = 1 or γ = 0 every replica follows its base optimizer exactly. With constant γ this
    resembles EASGD, which however pulls the workers towards a master variable with dynamics
    of its own, moved by a fraction of Σ_a(w^a − master); here the centre is the mean itself.
    A parameter without a gradient takes no step, coupled or not.

    Raises ``ValueError`` for replicas that differ or lie on different devices, numbers out of
    range, a base without a learning rate, a state of another model.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        base: Base = torch.optim.SGD,
        *,
        lr: float,
        gamma: Gamma,
        coupling_period: int = 10,
        coupling: Literal["explicit", "implicit"] = "explicit",
        groups: Callable[[nn.Module], Iterable[Any]] = nn.Module.parameters,
        process_group: Any | None = None,
    ) -> None:
        self.models = list(models)
        check_replicas(self.models)
        check_coupling(coupling_period, coupling)
        self.coupling_period = coupling_period
        self.coupling = coupling
        self.focusing = Focusing(gamma)
        device = next(self.models[0].parameters()).device
        self.ensemble = Ensemble(len(self.models), device, process_group)
        self.bases = [build_base(base, as_groups(groups(m)), lr) for m in self.models]
        # The groups are shared with the bases, so that schedulers drive all replicas at once.
        super().__init__(self._all_groups(), self.bases[0].defaults)
        self.steps_done = 0
        self._showing_centre = False

    @property
    def replicas(self) -> int:
        """Number y of replicas, in all processes together."""
        return self.ensemble.total

    @property
    def gamma(self) -> float:
        """γ at the present step."""
        return self.focusing(self.steps_done)

    # -- the algorithm ------------------------------------------------------------------

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of all replicas; the closure, if any, computes all their gradients."""
        if self.focusing.awaits_measurement:
            raise RuntimeError("gamma is automatic: call measure_gamma0(loss) before training.")
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        gamma = self.gamma
        coupled = gamma != 0 and (self.steps_done + 1) % self.coupling_period == 0
        if coupled and self.coupling == "explicit":
            self._pull(gamma)
        for base in self.bases:
            base.step()
        if coupled and self.coupling == "implicit":
            self._contract(gamma)
        self.steps_done += 1
        return result

    def _pull(self, gamma: float) -> None:
        """Algorithm 2, line 7: add K_c γ (w^a − w̄) to the gradients."""
        for _, weights, centre in self._coupled_groups():
            gradients = [p.grad for p in weights.tensors if p.grad is not None]
            strength = self.coupling_period * gamma
            add_elastic_pull(gradients, weights.tensors, centre.tensors, strength)

    def _contract(self, gamma: float) -> None:
        """The implicit step: w^a ← w̄ + (w^a − w̄)/(1 + ηK_cγ)."""
        for group, weights, centre in self._coupled_groups():
            lr = float(group["lr"])
            strength = self.coupling_period * gamma
            pull = elastic_pull(weights, centre, strength / (1 + lr * strength))
            descend(weights, pull, lr).copy_to(weights)

    def _coupled_groups(self) -> Iterator[tuple[dict[str, Any], TensorList, TensorList]]:
        """For each group of each replica: what has a gradient, and its centre."""
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
        lists = [TensorList(model.parameters()) for model in self.models]
        centre = self.ensemble.mean(lists)
        return self.ensemble.sum(
            sum(0.5 * float((weights - centre).squared_norm()) for weights in lists)
        )

    @torch.no_grad()
    def measure_gamma0(self, loss: Callable[[nn.Module], Tensor | float]) -> float:
        """γ0 = Σ_a L(w^a) / Σ_a d(w^a, w̄), for ``AutomaticFocusing`` ([P21] Sec. 4).

        The losses are taken with batch statistics, without touching BatchNorm's buffers: with
        the running statistics of an untrained network they can be larger by orders.
        """
        with batch_statistics(self.models):
            losses = self.ensemble.sum(sum(float(loss(model)) for model in self.models))
        self.focusing.measured(losses, self.squared_distance())
        assert self.focusing.gamma0 is not None
        return self.focusing.gamma0

    def check_stability(
        self,
        steps: int,
        lr: Callable[[int], float] | None = None,
        coupling_period: Callable[[int], int] | None = None,
    ) -> tuple[int, float, float] | None:
        """Look through the whole schedule for a kick ηK_cγ beyond the explicit limit.

        ``lr`` maps a step to η and ``coupling_period`` to K_c (default: as they are now). Returns
        None, or the first coupling step that is unstable with its ηK_cγ and the limit, and warns
        (``StabilityWarning``). The limit is known for SGD, with or without momentum; nothing is
        said of other bases.
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
                period * self.focusing(step),
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
        """The first replica with the weights, and the mean BatchNorm statistics, of the centre.

        Restored afterwards. With several processes all of them must enter.
        """
        if self._showing_centre:
            raise RuntimeError("centre() was entered within centre(); leave the first one before.")
        model = self.models[0]
        places = TensorList(model.parameters()), floating_buffers(model)
        saved = [place.clone() for place in places]
        with torch.no_grad():
            means = self._centre_values()
            for mean, place in zip(means, places, strict=True):
                mean.copy_to(place)
        self._showing_centre = True
        try:
            yield model
        finally:
            self._showing_centre = False
            with torch.no_grad():
                for values, place in zip(saved, places, strict=True):
                    values.copy_to(place)

    def centre_model(self) -> nn.Module:
        """A separate copy of the centre, to keep, to export or to recalibrate."""
        with self.centre() as model:
            return copy.deepcopy(model)

    def _centre_values(self) -> tuple[TensorList, TensorList]:
        weights = self.ensemble.mean([TensorList(model.parameters()) for model in self.models])
        buffers = [floating_buffers(model) for model in self.models]
        return weights, self.ensemble.mean(buffers)

    # -- state --------------------------------------------------------------------------

    def _all_groups(self) -> list[dict[str, Any]]:
        return [group for base in self.bases for group in base.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Everything an exact resume needs besides the replicas' weights (``weights_only``)."""
        return {
            "shapes": parameter_shapes(self.bases[0].param_groups),
            "bases": [base.state_dict() for base in self.bases],
            "steps_done": self.steps_done,
            "gamma0": self.focusing.gamma0,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state (the replicas' weights are restored by their own state dicts).

        Raises ``ValueError`` for the state of another model or number of replicas.
        """
        check_same_shapes(state_dict.get("shapes", []), self.bases[0].param_groups)
        if len(state_dict["bases"]) != len(self.bases):
            raise ValueError(
                f"the state has {len(state_dict['bases'])} replicas; {len(self.bases)} are here."
            )
        for base, stored in zip(self.bases, state_dict["bases"], strict=True):
            base.load_state_dict(stored)
        self.param_groups = self._all_groups()
        self.steps_done = state_dict["steps_done"]
        self.focusing.gamma0 = state_dict["gamma0"]
