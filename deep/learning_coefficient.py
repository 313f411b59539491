"""Local learning coefficient of a network: by devinterp where it is installed, else by our chains.

λ = nβ (⟨L⟩ − L(w)), where ⟨L⟩ is the mean loss along Langevin chains that start at the weights w:

    w′ ← w′ − ½ε (nβ ∇L(w′) + γ (w′ − w)) + √ε z,

∇L from minibatches. As in devinterp 2, ⟨L⟩ is over all steps. Source: Lau et al., arXiv 2308.12108.
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

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

#: From outputs and targets (B, …) to the loss of each input (B,).
Losses = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class LearningCoefficient:
    """Settings of the chains. The defaults are the ones of devinterp's README.

    Attributes
    ----------
    lr, localization : float
        ε and γ.
    n_beta : float or None
        nβ. None: P / log P for P inputs.
    draws, chains, batch_size : int
    """

    lr: float = 1e-3
    n_beta: float | None = 30.0
    localization: float = 0.0
    draws: int = 200
    chains: int = 4
    batch_size: int = 32

    def of(
        self, model: nn.Module, inputs: Tensor, targets: Tensor, losses: Losses, seed: int = 0
    ) -> tuple[NDArray[np.float64], str]:
        """λ of each chain, and who computed it: "devinterp" with its version, or "here"."""
        n_beta = len(inputs) / math.log(len(inputs)) if self.n_beta is None else self.n_beta
        batch = min(self.batch_size, len(inputs))
        try:
            import devinterp.slt.llc  # noqa: F401
        except ImportError:
            return self.chains_of_our_own(
                model, inputs, targets, losses, n_beta, batch, seed
            ), "here"
        values = self._by_devinterp(model, inputs, targets, losses, n_beta, batch, seed)
        return values, f"devinterp {importlib.metadata.version('devinterp')}"

    def _by_devinterp(
        self,
        model: nn.Module,
        inputs: Tensor,
        targets: Tensor,
        losses: Losses,
        n_beta: float,
        batch: int,
        seed: int,
    ) -> NDArray[np.float64]:
        from datasets import Dataset
        from devinterp.slt.llc import llc

        # devinterp 2 knows token sequences only: here the first token is the number of an input.
        tokens = Dataset.from_dict({"input_ids": [[i, 0] for i in range(len(inputs))]})

        def token_losses(model: nn.Module, ids: Tensor) -> Tensor:
            return losses(model(inputs[ids[:, 0]]), targets[ids[:, 0]])[:, None]

        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            found = llc(
                model, tokens.with_format("torch"), {}, lr=self.lr, n_beta=n_beta,
                loss_fn=token_losses, localization=self.localization, num_draws=self.draws,
                num_chains=self.chains, batch_size=batch, init_seed=seed % 2**31, device="cpu",
                output_path=Path(folder) / "samples.zarr",
            )  # fmt: skip
            return np.asarray(found["llc_per_chain"].values, dtype=np.float64)

    def chains_of_our_own(
        self,
        model: nn.Module,
        inputs: Tensor,
        targets: Tensor,
        losses: Losses,
        n_beta: float,
        batch: int,
        seed: int,
    ) -> NDArray[np.float64]:
        """λ of each chain, by the equation above."""
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
