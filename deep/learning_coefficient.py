"""Local learning coefficient of a network: by devinterp if it is installed, else by our chains.

λ = nβ (⟨L⟩ − L(w)), where ⟨L⟩ is the mean loss along Langevin chains that start at the weights w:

    w′ ← w′ − ½ε (nβ ∇L(w′) + γ (w′ − w)) + √ε z,

∇L from minibatches. As in devinterp 2, ⟨L⟩ averages all steps. Lau et al., arXiv 2308.12108.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

#: Maps outputs and targets (B, …) to the loss of each input (B,).
Losses = Callable[[Tensor, Tensor], Tensor]


class Problem(NamedTuple):
    """A model with weights w, inputs and targets (P, …), and the loss per input."""

    model: nn.Module
    inputs: Tensor
    targets: Tensor
    losses: Losses


@dataclass(frozen=True)
class LearningCoefficient:
    """Settings of the chains. The defaults are from devinterp's README.

    Attributes
    ----------
    lr, localization : float
        ε and γ.
    n_beta : float or None
        nβ. None: P / log P for P inputs.
    draws, chains, batch_size : int
        Steps per chain, number of chains, inputs per minibatch.
    """

    lr: float = 1e-3
    n_beta: float | None = 30.0
    localization: float = 0.0
    draws: int = 200
    chains: int = 4
    batch_size: int = 32

    def of(self, problem: Problem, seed: int = 0) -> tuple[NDArray[np.float64], str]:
        """λ of each chain, and its source: "devinterp" with the version, or "here"."""
        try:
            import devinterp.slt.llc  # noqa: F401
        except ImportError:
            return self.by_our_chains(problem, seed), "here"
        by = f"devinterp {importlib.metadata.version('devinterp')}"
        return self._by_devinterp(problem, seed), by

    def _sizes(self, problem: Problem) -> tuple[float, int]:
        """nβ and the size of the minibatches."""
        total = len(problem.inputs)
        n_beta = total / math.log(total) if self.n_beta is None else self.n_beta
        return n_beta, min(self.batch_size, total)

    def _by_devinterp(self, problem: Problem, seed: int) -> NDArray[np.float64]:
        from datasets import Dataset
        from devinterp.slt.llc import llc

        n_beta, batch = self._sizes(problem)
        # devinterp 2 takes token sequences only, so the first token is the index of an input.
        tokens = Dataset.from_dict({"input_ids": [[i, 0] for i in range(len(problem.inputs))]})

        def token_losses(model: nn.Module, ids: Tensor) -> Tensor:
            chosen = ids[:, 0]
            return problem.losses(model(problem.inputs[chosen]), problem.targets[chosen])[:, None]

        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            found = llc(
                problem.model, tokens.with_format("torch"), {}, lr=self.lr, n_beta=n_beta,
                loss_fn=token_losses, localization=self.localization, num_draws=self.draws,
                num_chains=self.chains, batch_size=batch, init_seed=seed % 2**31, device="cpu",
                output_path=Path(folder) / "samples.zarr",
            )  # fmt: skip
            return np.asarray(found["llc_per_chain"].values, dtype=np.float64)

    def by_our_chains(self, problem: Problem, seed: int) -> NDArray[np.float64]:
        """λ of each chain, by the equation above."""
        model, inputs, targets, losses = problem
        n_beta, batch = self._sizes(problem)
        generator = torch.Generator().manual_seed(seed)
        start = {name: p.detach().clone() for name, p in model.named_parameters()}
        own = float(losses(model(inputs), targets).mean().detach())
        found = []
        for _ in range(self.chains):
            w = {name: p.clone().requires_grad_() for name, p in start.items()}
            total, order = 0.0, torch.empty(0, dtype=torch.int64)
            for _ in range(self.draws):
                if len(order) < batch:
                    order = torch.randperm(len(inputs), generator=generator)
                chosen, order = order[:batch], order[batch:]
                outputs = functional_call(model, w, (inputs[chosen],))
                loss = losses(outputs, targets[chosen]).mean()
                gradients = torch.autograd.grad(loss, [*w.values()])
                total += loss.item()
                with torch.no_grad():
                    for (name, p), gradient in zip(w.items(), gradients, strict=True):
                        force = n_beta * gradient + self.localization * (p - start[name])
                        z = torch.randn(p.shape, generator=generator, dtype=p.dtype)
                        p += self.lr**0.5 * z - 0.5 * self.lr * force
            found.append(n_beta * (total / self.draws - own))
        return np.array(found)
