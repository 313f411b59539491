"""Entropy-SGD ([P21] Algorithm 1, [C19]) as a torch optimizer around any base optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

from deep.optimizers.arguments import check_inner_loop
from deep.optimizers.base_optimizers import (
    Base,
    as_groups,
    build_base,
    check_rate,
    check_same_shapes,
    parameter_shapes,
)
from deep.optimizers.focusing import AutomaticFocusing, Focusing, Gamma
from deep.optimizers.inner_loop import InnerLoop
from deep.optimizers.inner_step import Dynamics, inner_step
from deep.optimizers.langevin import LangevinNoise, return_to_anchor
from deep.optimizers.stability import warn_if_unstable


class EntropySGD(torch.optim.Optimizer):
    """Minimise the local entropy loss by L steps of Langevin dynamics per outer step.

    ::

        w', μ ← w
        L times:  w' ← inner base step along ∇L(w'; Ξ) + γ (w' − w),   w' ← w' + √η' ε N(0, I),
                  μ ← α μ + (1 − α) w'
        w ← outer base step along w − μ

    One call of ``step`` is one inner step (one minibatch); the L-th one also takes the outer
    step, so that it stands in an existing training loop like any other optimizer. Evaluate
    within ``with optimizer.anchor():``, which puts w in the place of w'. Learning rate
    schedulers act on the outer rate η (``param_groups[i]["lr"]``); η' stays constant.

    ========  =================  ==========================================================
    symbol    argument           meaning
    ========  =================  ==========================================================
    η         ``lr``             outer learning rate, of the order of 1 (1: jump to μ)
    η'        ``inner_lr``       learning rate of the Langevin dynamics
    L         ``inner_steps``    minibatches per outer step
    ε         ``noise``          noise of the Langevin dynamics; the temperature is ε²/2
    α         ``averaging``      memory of the running average μ
    γ         ``gamma``          elastic strength: number, schedule of the outer steps taken,
                                 or ``AutomaticFocusing`` (then pass ``loss`` or a closure)
    ========  =================  ==========================================================

    Parameters
    ----------
    params
        Parameters or groups; a group may set ``lr``, ``inner_lr`` and options of the base.
    base, outer_base
        Called as ``base(groups, lr=…)`` for the inner and the outer optimizer (``outer_base``
        defaults to ``base``), e.g. ``partial(torch.optim.SGD, momentum=0.9, nesterov=True,
        weight_decay=5e-4)``: as in [P21], momentum and weight decay then act in both loops.
    noise_enters
        ``"weights"``: the kick √η' ε N(0, I) is added to the weights, as in Algorithm 1.
        ``"gradient"``: −ε N(0, I)/√η' is added to the gradient, as in the code of [C19] (whose
        ε is √2 times smaller); the same for a vanilla base, but a momentum carries it on.
    reset_inner, reset_outer
        Forget the state (momentum) of the inner/outer optimizer at each outer step.

    A parameter without a gradient (frozen, or unused by this minibatch) takes no inner step;
    one without any gradient in a whole inner loop takes no outer step. bf16 autocast needs
    nothing special; gradient scalers are not supported. With ε = α = γ = 0 and vanilla outer
    steps this is Lookahead.

    Raises ``ValueError`` for numbers out of range, a base without a learning rate, a state
    dict of another model.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        base: Base = torch.optim.SGD,
        *,
        lr: float,
        inner_lr: float,
        gamma: Gamma,
        inner_steps: int = 5,
        noise: float = 1e-4,
        averaging: float = 0.75,
        outer_base: Base | None = None,
        noise_enters: Literal["weights", "gradient"] = "weights",
        reset_inner: bool = True,
        reset_outer: bool = False,
        seed: int = 0,
    ) -> None:
        check_inner_loop(inner_lr, inner_steps, noise, averaging, noise_enters)
        self._ready = False
        self.inner_lr, self.inner_steps = inner_lr, inner_steps
        self.noise, self.averaging, self.noise_enters = noise, averaging, noise_enters
        self.reset_inner, self.reset_outer = reset_inner, reset_outer
        self.focusing = Focusing(gamma)

        outer_groups = as_groups(params)
        inner_groups = [self._split_inner(group) for group in outer_groups]
        self.inner = build_base(base, inner_groups, inner_lr)
        self.outer = build_base(outer_base or base, outer_groups, lr, "outer_base")
        super().__init__(self.outer.param_groups, self.outer.defaults)
        self._share_outer()
        self._ready = True

        self.inner_steps_done = 0  # in the present inner loop
        self.outer_steps_done = 0
        self._loop = InnerLoop()
        self._first_loss: Tensor | None = None
        self.langevin = LangevinNoise([p for g in self.param_groups for p in g["params"]], seed)

    # -- the algorithm ------------------------------------------------------------------

    @property
    def gamma(self) -> float:
        """γ of the present outer step."""
        return self.focusing(self.outer_steps_done)

    @torch.no_grad()
    def step(
        self, closure: Callable[[], Any] | None = None, *, loss: Tensor | float | None = None
    ) -> Any:
        """One inner step, and the outer step after every L-th; returns the closure's loss."""
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.inner_step(loss)
        if self.inner_steps_done >= self.inner_steps:
            self.outer_step()
        return loss

    @torch.no_grad()
    def inner_step(self, loss: Tensor | float | None = None) -> None:
        """Algorithm 1, lines 5–7, from the gradients in ``.grad``."""
        if self.inner_steps_done == 0:
            self._begin(loss)
        gamma = self.gamma if self.inner_steps_done > 0 else 0.0  # at first w' = w
        parts = [self._loop.active(i, self.averaging) for i in range(len(self._loop.moving))]
        dynamics = Dynamics(gamma, self.noise, self.averaging, self.noise_enters)
        inner_step(self.inner, parts, self.langevin, dynamics)
        self.inner_steps_done += 1

    @torch.no_grad()
    def outer_step(self) -> None:
        """Algorithm 1, line 8, and the start of a new loop (also after fewer than L steps)."""
        if self.inner_steps_done == 0:
            raise RuntimeError("outer_step was called before any inner_step of this loop.")
        if self.focusing.awaits_measurement:
            self._measure_gamma0()
        loop = self._loop
        stashed = [(p, p.grad) for moving in loop.moving for p in moving]
        for moving, anchor, average, touched in zip(
            loop.moving, loop.anchors, loop.averages, loop.touched, strict=True
        ):
            descent = return_to_anchor(moving, average.tensors, anchor.tensors)
            for p, gradient, had_gradient in zip(moving, descent, touched, strict=True):
                p.grad = gradient if had_gradient else None
        self.outer.step()
        for p, stash in stashed:
            p.grad = stash
        if self.reset_inner:
            self.inner.state.clear()
        if self.reset_outer:
            self.outer.state.clear()
        self.inner_steps_done = 0
        self.outer_steps_done += 1

    @contextmanager
    def anchor(self) -> Iterator[None]:
        """Within this context the model holds w, not the w' of a running inner loop."""
        if self.inner_steps_done == 0:
            yield
            return
        with self._loop.anchor():
            yield

    def _begin(self, loss: Tensor | float | None) -> None:
        """Algorithm 1, line 2: w', μ ← w."""
        self._loop.begin(self._trainable())
        if self.focusing.awaits_measurement:
            if loss is None:
                raise ValueError(
                    "gamma is to be measured, but step got no loss; "
                    "call step(closure) or step(loss=loss)."
                )
            self._first_loss = torch.as_tensor(loss).detach().clone()

    def _measure_gamma0(self) -> None:
        """γ0 = L(w)/d(w', w) after a first inner loop with γ = 0 ([P21] App. C)."""
        assert self._first_loss is not None
        self.focusing.measured(float(self._first_loss), self._loop.distance())
        self._first_loss = None
        self.check_stability()

    def check_stability(self, outer_steps: int | None = None) -> bool:
        """Whether η'γ is below the limit of an inner SGD, now and at ``outer_steps``; or warns."""
        rule = self.focusing.rule
        total = rule.total if isinstance(rule, AutomaticFocusing) else 0
        gamma = max(self.focusing(time) for time in (0, outer_steps or total))
        advice = "the inner loop may diverge. Give a smaller gamma."
        return warn_if_unstable(self.inner, gamma, 1, "in the inner loop", advice) is None

    # -- groups and state ---------------------------------------------------------------

    def _split_inner(self, group: dict[str, Any]) -> dict[str, Any]:
        """Take ``inner_lr`` out of an outer group; return the matching inner group."""
        lr = group.pop("inner_lr", self.inner_lr)
        check_rate(lr, "inner_lr")
        return {**group, "params": list(group["params"]), "lr": lr}

    def _trainable(self) -> list[list[Tensor]]:
        return [[p for p in group["params"] if p.requires_grad] for group in self.param_groups]

    def _share_outer(self) -> None:
        """Schedulers and users see, and change, the outer optimizer's groups and state."""
        self.param_groups = self.outer.param_groups
        self.state = self.outer.state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to both optimizers, between two inner loops."""
        if not self._ready:
            super().add_param_group(param_group)
            return
        if self.inner_steps_done:
            raise RuntimeError("add_param_group was called in the middle of an inner loop.")
        group = as_groups([param_group])[0]
        self.inner.add_param_group(self._split_inner(group))
        self.outer.add_param_group(group)

    def state_dict(self) -> dict[str, Any]:
        """Everything that an exact resume needs, in types that ``weights_only=True`` loads."""
        loop = self._loop if self.inner_steps_done > 0 else InnerLoop()
        return {
            "shapes": parameter_shapes(self.param_groups),
            "inner": self.inner.state_dict(),
            "outer": self.outer.state_dict(),
            "inner_steps_done": self.inner_steps_done,
            "outer_steps_done": self.outer_steps_done,
            **loop.state_dict(),
            "gamma0": self.focusing.gamma0,
            "first_loss": self._first_loss,
            "noise": self.langevin.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state, inside an inner loop too (the model must be restored too).

        Raises ``ValueError`` for the state of another model or another kind of device.
        """
        check_same_shapes(state_dict.get("shapes", []), self.param_groups)
        self.langevin.load_state_dict(state_dict["noise"])
        self.inner.load_state_dict(state_dict["inner"])
        self.outer.load_state_dict(state_dict["outer"])
        self._share_outer()
        self.inner_steps_done = state_dict["inner_steps_done"]
        self.outer_steps_done = state_dict["outer_steps_done"]
        self.focusing.gamma0 = state_dict["gamma0"]
        self._first_loss = state_dict["first_loss"]
        self._loop.load_state_dict(state_dict, self._trainable())
