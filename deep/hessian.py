"""Curvature of the loss: matrix-free largest eigenvalues and trace of the Hessian."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from deep.images.minibatches import Data, as_loader
from deep.model_state import modes_kept
from message_passing.tools.tables import ERROR, with_error
from message_passing.tools.validation import check

if TYPE_CHECKING:
    import pandas as pd

Loss = Callable[[Tensor, Tensor], Tensor]


class HessianWarning(UserWarning):
    """Some eigenvalues did not converge."""


@dataclass(frozen=True, repr=False)
class HessianSpectrum:
    """Largest eigenvalues of the Hessian.

    Attributes
    ----------
    eigenvalues : (k,)
        The algebraically largest ones, in descending order. NaN if ARPACK did not converge.
    residuals : (k,)
        ``‖Hv − λv‖ / ‖v‖`` of each pair.
    converged : bool
        Whether all eigenvalues converged to the requested tolerance.
    products : int
        Number of Hessian-vector products.
    """

    eigenvalues: NDArray[np.float64]
    residuals: NDArray[np.float64]
    converged: bool
    products: int

    def __repr__(self) -> str:
        values = ", ".join(f"{value:.4g}" for value in self.eigenvalues)
        state = "converged" if self.converged else "not converged"
        return f"<Hessian eigenvalues {values}, {state}, {self.products} products>"

    def to_frame(self) -> pd.DataFrame:
        """One row per eigenvalue: index (from 1), eigenvalue, residual."""
        import pandas as pd

        values = {"eigenvalue": self.eigenvalues, "residual": self.residuals}
        return pd.DataFrame({"index": range(1, len(self.eigenvalues) + 1), **values})


@dataclass(frozen=True, repr=False)
class HessianTrace:
    """Trace of the Hessian from random vectors.

    Attributes
    ----------
    trace : float
    standard_error : float
        Standard error over the vectors.
    samples : int
        Number of random vectors.
    """

    trace: float
    standard_error: float
    samples: int

    def __repr__(self) -> str:
        value = with_error(self.trace, self.standard_error)
        return f"<Hessian trace {value}, {self.samples} vectors>"

    def to_frame(self) -> pd.DataFrame:
        """One row: trace, its standard error, samples."""
        import pandas as pd

        return pd.DataFrame([vars(self)]).rename(columns={"standard_error": "trace" + ERROR})


class Hessian:
    """The Hessian of the mean loss over a loader, as an operator on flat vectors.

    ``H = ∇² (1/P) Σ_i ℓ(f(x_i; w), y_i)`` over the parameters with ``requires_grad``, in the
    order of ``model.parameters()``, in evaluation mode. A product Hv is the gradient of ``v·∇L``.
    It takes one forward and two backward passes over the loader. The model's ``.grad``, buffers and
    modes are not changed.

    Parameters
    ----------
    model
        Any classifier. The kinks of ReLU contribute nothing.
    loader
        Yields (inputs, labels) on the model's device, the same in each iteration.
    loss
        Maps outputs and labels of a batch to its mean loss.

    Raises ``ValueError`` for a model without trainable parameters. A product raises it for a loader
    without a batch, a vector of the wrong length and a loss that is not finite.
    """

    def __init__(self, model: nn.Module, loader: Iterable[Any], loss: Loss = cross_entropy) -> None:
        self.model, self.loader, self.loss = model, loader, loss
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        if not self.parameters:
            raise ValueError("model has no parameter with requires_grad; at least one is needed.")
        self.size = sum(p.numel() for p in self.parameters)
        self.products = 0

    def __matmul__(self, vector: NDArray) -> NDArray[np.float64]:
        """The product Hv with a vector (N,)."""
        vector = np.asarray(vector)
        if vector.shape != (self.size,):
            raise ValueError(f"vector has the shape {vector.shape}; ({self.size},) was expected.")
        pieces = torch.from_numpy(vector.copy()).split([p.numel() for p in self.parameters])
        direction = [v.view_as(p).to(p) for v, p in zip(pieces, self.parameters, strict=True)]
        total = [torch.zeros_like(p) for p in self.parameters]
        count = 0
        with modes_kept(self.model), _ieee_products(), torch.enable_grad():
            self.model.eval()
            for inputs, labels in self.loader:
                loss = self.loss(self.model(inputs), labels)
                if not torch.isfinite(loss):
                    raise ValueError(f"loss is {loss.item()}; a finite number was expected.")
                gradients = torch.autograd.grad(
                    loss, self.parameters, create_graph=True, materialize_grads=True
                )
                pairs = zip(gradients, direction, strict=True)
                along = torch.stack([(g * v).sum() for g, v in pairs]).sum()
                count += len(labels)
                if along.requires_grad:  # else the loss is linear in the parameters
                    parts = torch.autograd.grad(along, self.parameters, materialize_grads=True)
                    torch._foreach_add_(total, parts, alpha=len(labels))
        if count == 0:
            raise ValueError("loader yielded no batch; at least one was expected.")
        self.products += 1
        flat = torch.cat([t.reshape(-1) for t in total]).double() / count
        return flat.cpu().numpy()


def hessian_spectrum(
    model: nn.Module,
    inputs: Data,
    targets: Tensor | None = None,
    *,
    k: int = 5,
    loss: Loss = cross_entropy,
    tolerance: float = 1e-3,
    iterations: int = 100,
    seed: int = 0,
) -> HessianSpectrum:
    """The k largest eigenvalues of the Hessian, by implicitly restarted Lanczos (ARPACK).

    Parameters
    ----------
    model, loss
        See ``Hessian``.
    inputs, targets : (P, …), (P, …)
        Tensors on the model's device, or a loader in place of both (see ``Hessian``).
    k
        Number of eigenvalues, less than the number of parameters.
    tolerance
        Relative accuracy of the eigenvalues. A float32 product is accurate to about 1e-6.
    iterations
        Maximum number of ARPACK's restarts.
    seed
        Seed of the start vector.

    An eigenvalue that does not converge is NaN. Then ``converged`` is False and a
    ``HessianWarning`` is issued. Raises ``ValueError`` for k out of range, and as ``Hessian`` does.
    """
    operator = Hessian(model, as_loader(inputs, targets), loss)
    check("k", k, 1 <= k < operator.size, f"a number from 1 to {operator.size - 1}")
    check("tolerance", tolerance, tolerance > 0, "a positive number")
    check("iterations", iterations, iterations >= 1, "at least 1")
    linear = LinearOperator(
        (operator.size, operator.size), matvec=operator.__matmul__, dtype=np.float64
    )
    start = np.random.default_rng(seed).standard_normal(operator.size)
    try:
        values, vectors = eigsh(linear, k, which="LA", v0=start, tol=tolerance, maxiter=iterations)
    except ArpackNoConvergence as error:
        values, vectors = error.eigenvalues, error.eigenvectors
        warnings.warn(
            f"{len(values)} of {k} eigenvalues converged in {iterations} iterations.",
            HessianWarning,
            stacklevel=2,
        )
    eigenvalues, residuals = np.full((2, k), np.nan)
    for i, which in enumerate(np.argsort(values)[::-1]):
        eigenvalues[i], vector = values[which], vectors[:, which]
        residuals[i] = np.linalg.norm(operator @ vector - eigenvalues[i] * vector)
        residuals[i] /= np.linalg.norm(vector)
    return HessianSpectrum(eigenvalues, residuals, len(values) == k, operator.products)


def hessian_trace(
    model: nn.Module,
    inputs: Data,
    targets: Tensor | None = None,
    *,
    samples: int = 30,
    loss: Loss = cross_entropy,
    seed: int = 0,
) -> HessianTrace:
    """Trace of the Hessian by Hutchinson's estimator: the mean of z·Hz over random signs z.

    Its variance is twice the sum of the squared off-diagonal elements, divided by ``samples``.
    ``seed`` is the seed of the signs. ``hessian_spectrum`` explains the other parameters. Raises
    ``ValueError`` for fewer than two samples, and as ``Hessian`` does.
    """
    check("samples", samples, samples >= 2, "at least 2")
    operator = Hessian(model, as_loader(inputs, targets), loss)
    rng = np.random.default_rng(seed)
    signs = (rng.integers(0, 2, operator.size) * 2.0 - 1.0 for _ in range(samples))
    values = np.array([z @ (operator @ z) for z in signs])
    standard_error = float(values.std(ddof=1) / np.sqrt(samples))
    return HessianTrace(float(values.mean()), standard_error, samples)


@contextmanager
def _ieee_products() -> Iterator[None]:
    """Compute in full float32. By default a GPU's convolutions round to TF32, with 10 bits."""
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    backends = convolutions, torch.backends.cuda.matmul
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
