"""Entropy-SGD ([P21] Algorithm 1, [C19]) as a torch optimizer around any base optimizer."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from committee.entropic import elastic_pull, local_entropy_gradient, running_average
from deep.model_state import recalibrated
from deep.optimizers.base import (
    Base,
    EntropicOptimizer,
    Progress,
    as_groups,
    build_base,
    check_rate,
    dense_gradient,
    forget,
    split_group,
    take_step,
)
from deep.optimizers.gamma import AutomaticFocusing, Gamma, balanced_gamma0, warn_if_unstable
from deep.optimizers.langevin import Draw, kick, kick_and_average
from deep.optimizers.tensor_list import TensorList, exchange
from message_passing.tools.validation import check, check_numbers, check_one_of


class Moving(NamedTuple):
    """w', w, μ and noise of the parameters that take an inner step."""

    weights: list[Tensor]
    anchors: list[Tensor]
    averages: list[Tensor]
    draw: Draw


class EntropySGD(EntropicOptimizer):
    """Minimise the local entropy loss by L steps of Langevin dynamics per outer step.

    ::

        w', μ ← w
        L times:  w' ← inner base step along ∇L(w'; Ξ) + γ (w' − w),   w' ← w' + √η' ε N(0, I),
                  μ ← α μ + (1 − α) w'
        w ← outer base step along w − μ

    One call of ``step`` is one inner step (one minibatch). The L-th call also takes the outer
    step. So it fits into a training loop like any other optimizer. In training the model holds
    w'. It holds w after ``eval()`` until ``train()``, and within ``with optimizer.anchor():``.
    Hugging Face's Trainer calls ``eval`` and ``train``. In Lightning, call them in
    ``on_validation_epoch_start`` and ``on_validation_epoch_end``.

    ========  =================  ==========================================================
    symbol    argument           meaning
    ========  =================  ==========================================================
    η         ``lr``             outer learning rate, of the order of 1 (1: jump to μ)
    η'        ``inner_lr``       learning rate of the Langevin dynamics
    L         ``inner_steps``    minibatches per outer step
    ε         ``noise``          noise of the Langevin dynamics; the temperature is ε²/2
    α         ``averaging``      memory of the running average μ
    γ         ``gamma``          elastic strength: a number, a schedule over outer steps,
                                 or ``AutomaticFocusing`` (then pass ``loss`` or a closure)
    ========  =================  ==========================================================

    Parameters
    ----------
    params
        Parameters or groups. A group may set ``lr``, ``inner_lr`` and options of the base (and
        of ``outer_base``, if given).
    base
        Called as ``base(groups, lr=…)`` for the inner optimizer.
    outer_base
        The same for the outer optimizer. Default: a vanilla step. In [P21], momentum and weight
        decay act in both loops: pass ``partial(torch.optim.SGD, momentum=0.9, nesterov=True,
        weight_decay=5e-4)`` twice. An adaptive outer base would rescale w − μ to the size η.
    noise_enters
        ``"weights"``: the kick √η' ε N(0, I) is added to the weights, as in Algorithm 1.
        ``"gradient"``: −ε N(0, I)/√η' is added to the gradient, as in the code of [C19]. Momentum
        then accumulates it. The authors' code kicks by √(2η') ε: set ``noise`` to √2 ε for this.
    outer_form
        ``"algorithm"``: the learning rate of the outer base is η. ``"code"``: it is ηγ, as in the
        authors' code (w ← w − ηγ(w − μ)). This also scales the weight decay of the outer base.
    reset_inner, reset_outer
        Forget the state (momentum) of the inner/outer optimizer at each outer step. By default
        only an inner SGD forgets.

    Schedulers act on ``param_groups``: ``lr`` is η, ``inner_lr`` is η'. All other options
    (momentum, weight decay) belong to the inner loop. They also act on the outer loop if
    ``outer_base`` has the same default.

    A parameter without a gradient (frozen, unused) takes no inner step. If it has no gradient in
    a whole inner loop, it takes no outer step. A layer that is frozen during an inner loop still
    takes the outer step from its earlier gradients. Gradient clipping, bf16 autocast and
    ``torch.amp.GradScaler`` work as with any optimizer. A step skipped by the scaler is no step.
    With ε = α = γ = 0 and vanilla outer steps this is Lookahead.

    Raises ``ValueError`` for numbers out of range, a base without a learning rate, the state of
    another model; ``RuntimeError`` for a step in evaluation mode.
    """

    inner_steps_done = Progress()  # in the current inner loop
    outer_steps_done = Progress()
    draws = Progress()  # inner steps that have drawn noise
    seed = Progress()
    first_loss = Progress()  # of the first inner loop, for γ0

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        base: Base = torch.optim.SGD,
        *,
        lr: float = 1.0,
        inner_lr: float,
        gamma: Gamma,
        inner_steps: int = 5,
        noise: float = 1e-4,
        averaging: float = 0.75,
        outer_base: Base | None = None,
        noise_enters: Literal["weights", "gradient"] = "weights",
        outer_form: Literal["algorithm", "code"] = "algorithm",
        reset_inner: bool | None = None,
        reset_outer: bool = False,
        seed: int = 0,
    ) -> None:
        check_rate(inner_lr, "inner_lr")
        self.inner_steps, self.noise, self.averaging = inner_steps, noise, averaging
        check("inner_steps", inner_steps, isinstance(inner_steps, int), "an integer")
        check_numbers(self, ("inner_steps",), ("noise",), below_one=("averaging",))
        check_one_of("noise_enters", noise_enters, ("weights", "gradient"))
        check_one_of("outer_form", outer_form, ("algorithm", "code"))
        if noise_enters == "gradient" and noise > 0 and inner_lr == 0:
            raise ValueError("inner_lr is 0; noise in the gradient needs a positive one.")
        self.noise_enters, self.outer_form = noise_enters, outer_form

        self._vanilla = outer_base is None
        inner, outer = zip(
            *(split_group(group, self._vanilla) for group in as_groups(params)), strict=True
        )
        self.inner = build_base(base, list(inner), inner_lr)
        self.outer = build_base(outer_base or torch.optim.SGD, list(outer), lr, "outer_base")
        forgets = isinstance(self.inner, torch.optim.SGD)
        self.reset_inner = forgets if reset_inner is None else reset_inner
        self.reset_outer = reset_outer
        defaults = {**self.inner.defaults, "lr": lr, "inner_lr": inner_lr}
        super().__init__(list(inner), defaults, gamma)
        self.inner_steps_done = self.outer_steps_done = self.draws = 0
        self.seed, self.first_loss = seed % 2**64, None

    # -- the algorithm ------------------------------------------------------------------

    @property
    def gamma(self) -> float:
        """γ of the current outer step."""
        return self.gamma_at(self.outer_steps_done)

    @torch.no_grad()
    def step(
        self, closure: Callable[[], Any] | None = None, *, loss: Tensor | float | None = None
    ) -> Any:
        """Take an inner step, and an outer step after every L-th one; return the loss."""
        self._check_training()
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self.draws == 0 and self._is_asked_for_empty_state():
            self._make_state()
            return loss
        if self.awaits_measurement and self.inner_steps_done == 0:
            if loss is None:
                raise ValueError("step got no loss to measure gamma; give loss or a closure.")
            self.first_loss = float(torch.as_tensor(loss).detach())
        self._inner_step()
        if self.inner_steps_done >= self.inner_steps:
            self._outer_step()
        return loss

    def _inner_step(self) -> None:
        """Algorithm 1, lines 5 to 7, from the gradients in ``.grad``."""
        self._set_options()
        gamma = self.gamma if self.inner_steps_done > 0 else 0.0  # at first w' = w
        parts = list(zip(self.inner.param_groups, self._moving(), strict=True))
        for group, (weights, anchors, _, draw) in parts:
            gradients = [dense_gradient(p) for p in weights]
            if gamma != 0:
                elastic_pull(TensorList(weights), TensorList(anchors), gamma).add_to(gradients)
            if self.noise_enters == "gradient":
                kick(gradients, 1 / float(group["lr"]), -self.noise, draw)
        take_step(self.inner)
        noise = self.noise if self.noise_enters == "weights" else 0.0
        for group, (weights, _, averages, draw) in parts:
            kick_and_average(weights, averages, self.averaging, float(group["lr"]), noise, draw)
        self.draws += 1
        self.inner_steps_done += 1

    def _moving(self) -> list[Moving]:
        """For each group, the parameters with a gradient from this minibatch: they move.

        The inner loop of a parameter begins at its first gradient, with w', μ ← w
        (Algorithm 1, line 2). Until then it does not move.
        """
        groups, number = [], 0
        for group in self.param_groups:
            part = Moving([], [], [], Draw(self.seed, self.draws, []))
            for p in group["params"]:
                if not p.requires_grad:
                    p.grad = None  # a leftover from before the layer was frozen
                loop = self._loop(p)
                if p.grad is not None:
                    if not loop:
                        loop = self.state[p].setdefault("loop", {})
                        for name in ("anchor", "average"):
                            loop[name] = loop[name].copy_(p) if name in loop else p.clone()
                        loop["begun"] = True
                    part.weights.append(p)
                    part.anchors.append(loop["anchor"])
                    part.averages.append(loop["average"])
                    part.draw.tensors.append(number)
                elif loop:  # p does not move, but its average approaches it
                    loop["average"].copy_(running_average(loop["average"], p, self.averaging))
                number += 1
            groups.append(part)
        return groups

    def _outer_step(self) -> None:
        """Algorithm 1, line 8: w' ← w, then a step of the outer base along w − μ."""
        weights, loops = self._begun()
        anchors = TensorList(loop["anchor"] for loop in loops)
        if self.awaits_measurement:
            # γ0 = L(w)/d(w', w) after a first inner loop with γ = 0 ([P21] App. C).
            distance = 0.5 * float((TensorList(weights) - anchors).squared_norm())
            self.gamma0, self.first_loss = balanced_gamma0(self.first_loss, distance), None
            self.check_stability()
        self._set_options()
        gradients = [(p, p.grad) for p in self._parameters()]
        for p, _ in gradients:
            p.grad = None
        descent = local_entropy_gradient(anchors, TensorList(loop["average"] for loop in loops))
        anchors.copy_to(weights)
        for p, gradient, loop in zip(weights, descent.tensors, loops, strict=True):
            p.grad, loop["begun"] = gradient, False
        take_step(self.outer)
        for p, gradient in gradients:
            p.grad = gradient
        for base, resets in ((self.inner, self.reset_inner), (self.outer, self.reset_outer)):
            if resets:
                forget(base)
        self.inner_steps_done = 0
        self.outer_steps_done += 1

    def check_stability(self, outer_steps: int | None = None) -> bool:
        """Whether η'γ stays below the limit of an inner SGD until ``outer_steps``; else warn."""
        self._set_options()
        total = self.rule.total if isinstance(self.rule, AutomaticFocusing) else 0
        gamma = max(self.gamma_at(time) for time in (0, outer_steps or total))
        advice = "the inner loop may diverge. Give a smaller gamma."
        return warn_if_unstable(self.inner, gamma, 1, "in the inner loop", advice) is None

    def _loop(self, p: Tensor) -> dict[str, Any] | None:
        """Anchor w and average μ of a parameter, if its inner loop has begun."""
        loop = self.state[p].get("loop") if p in self.state else None
        return loop if loop and loop["begun"] else None

    def _begun(self) -> tuple[list[Tensor], list[dict[str, Any]]]:
        """Parameters with a running inner loop, and their anchors and averages."""
        pairs = [(p, loop) for p in self._parameters() if (loop := self._loop(p))]
        return [p for p, _ in pairs], [loop for _, loop in pairs]

    # -- evaluation ---------------------------------------------------------------------

    @contextmanager
    def anchor(self) -> Iterator[None]:
        """Within this context the model holds w, not the w' of a running inner loop.

        BatchNorm keeps the running statistics of w' (see ``anchor_model``).
        """
        with self._evaluation():
            yield

    def anchor_model(self, model: nn.Module, recalibrate: Iterable[Any] | None = None) -> nn.Module:
        """A copy of the model with w, to keep or to export.

        BatchNorm has the statistics of w', or with ``recalibrate`` the means over these batches.
        """
        with self.anchor():
            return copy.deepcopy(model) if recalibrate is None else recalibrated(model, recalibrate)

    @torch.no_grad()
    def _enter_evaluation(self) -> None:
        weights, loops = self._begun()
        exchange(weights, [loop["anchor"] for loop in loops])

    _leave_evaluation = _enter_evaluation

    # -- groups and state ---------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to both loops; ``param_groups`` shows its options for the inner loop."""
        if self._ready:
            inner, outer = split_group(as_groups([param_group])[0], self._vanilla)
            self.inner.add_param_group(inner)
            self.outer.add_param_group(outer)
        index = len(self.param_groups)
        one, two = self.inner.param_groups[index], self.outer.param_groups[index]
        super().add_param_group({**one, "lr": two["lr"], "inner_lr": one["lr"]})

    def _set_options(self) -> None:
        """Give both bases the options in ``param_groups``."""
        scale = self.gamma if self.outer_form == "code" else 1.0
        one, two = self.inner.defaults, {} if self._vanilla else self.outer.defaults
        common = [name for name in two if name in one and one[name] == two[name]]
        for group, inner, outer in zip(
            self.param_groups, self.inner.param_groups, self.outer.param_groups, strict=True
        ):
            inner |= {name: group[name] for name in inner}
            outer |= {name: group[name] for name in ("params", *common)}
            inner["lr"], outer["lr"] = group["inner_lr"], group["lr"] * scale

    def _make_state(self) -> None:
        """Create the state of a training by steps with η = η' = 0."""
        self._set_options()
        self._moving()
        for base in (self.inner, self.outer):
            for group in base.param_groups:
                group["lr"] = 0.0
            base.step()
        for loop in self._begun()[1]:
            loop["begun"] = False
        self._share_state()

    def _share_state(self) -> None:
        for p in list(self.state):
            self.state[p] |= {"inner": self.inner.state[p], "outer": self.outer.state[p]}

    def _hand_out_state(self) -> None:
        for name, base in (("inner", self.inner), ("outer", self.outer)):
            states = {p: s[name] for p, s in self.state.items() if name in s}
            base.state = defaultdict(dict, states)

    def __repr__(self) -> str:
        return (
            f"EntropySGD({type(self.inner).__name__}, outer {type(self.outer).__name__}, "
            f"γ={self.gamma:g}, η={self._values('lr')}, η'={self._values('inner_lr')}, "
            f"L={self.inner_steps}, ε={self.noise:g}, α={self.averaging:g})"
        )
