"""Matrix-free Hessian: against the matrix and a quadratic loss, error bars, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from deep import hessian_spectrum, hessian_trace
from deep.hessian import Hessian, HessianWarning
from tests.deep.networks import perceptron


class Point(nn.Module):
    """A model that outputs its parameters."""

    def __init__(self, size):
        super().__init__()
        self.w = nn.Parameter(torch.linspace(-1, 1, size, dtype=torch.float64))

    def forward(self, x):
        return self.w


def quadratic(A):
    return lambda w, labels: 0.5 * w @ A @ w


def symmetric(size, seed=0):
    A = np.random.default_rng(seed).normal(size=(size, size))
    return torch.from_numpy(A + A.T)


ONE_BATCH = [(torch.zeros(4, 1), torch.zeros(4))]


def smooth_network():
    """A twice differentiable float64 network with BatchNorm statistics and a frozen bias."""
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 3)
    ).double()
    model[1].running_mean.normal_()
    model[1].running_var.uniform_(0.5, 2.0)
    model[4].bias.requires_grad_(False)
    return model


def batches(*sizes):
    generator = torch.Generator().manual_seed(5)
    return [
        (
            torch.randn(size, 6, generator=generator, dtype=torch.float64),
            torch.randint(3, (size,), generator=generator),
        )
        for size in sizes
    ]


def dense_hessian(model, loader):
    """Second derivatives of the mean loss over all examples, entry by entry."""
    inputs, labels = (torch.cat(part) for part in zip(*loader, strict=True))
    model = model.eval()
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    shapes = [model.get_parameter(name).shape for name in names]

    def loss(flat):
        pieces = flat.split([shape.numel() for shape in shapes])
        weights = {n: v.view(s) for n, v, s in zip(names, pieces, shapes, strict=True)}
        output = torch.func.functional_call(model, weights, (inputs,))
        return nn.functional.cross_entropy(output, labels)

    at = torch.cat([model.get_parameter(name).detach().reshape(-1) for name in names])
    return torch.autograd.functional.hessian(loss, at).numpy()


def test_products_eigenvalues_and_trace_are_those_of_the_matrix():
    """The batches differ in size, so their mean must be weighted."""
    model, loader = smooth_network(), batches(7, 12, 3)
    H = dense_hessian(smooth_network(), loader)
    operator = Hessian(model, loader)
    assert operator.size == len(H) == 6 * 5 + 5 + 5 + 5 + 15
    v = np.random.default_rng(1).normal(size=len(H))
    np.testing.assert_allclose(operator @ v, H @ v, atol=1e-12)

    spectrum = hessian_spectrum(model, loader, k=4, tolerance=1e-10)
    expected = np.linalg.eigvalsh(H)[::-1][:4]
    np.testing.assert_allclose(spectrum.eigenvalues, expected, rtol=1e-8)
    assert spectrum.converged and spectrum.residuals.max() < 1e-8 * expected[0]
    assert spectrum.products >= 4

    # The estimate lies within its error bar and has Hutchinson's variance 2 Σ_{i≠j} H_ij².
    estimate = hessian_trace(model, loader, samples=400)
    off_diagonal = H - np.diag(np.diag(H))
    assert abs(estimate.trace - np.trace(H)) < 4 * estimate.standard_error
    assert estimate.standard_error == pytest.approx(
        (2 * (off_diagonal**2).sum() / 400) ** 0.5, rel=0.2
    )


def test_a_quadratic_loss_has_its_matrix_as_hessian():
    A = symmetric(12)
    spectrum = hessian_spectrum(Point(12), ONE_BATCH, k=3, loss=quadratic(A), tolerance=1e-12)
    np.testing.assert_allclose(spectrum.eigenvalues, np.linalg.eigvalsh(A)[::-1][:3])
    diagonal = torch.diag(torch.arange(1.0, 13.0, dtype=torch.float64))
    exact = hessian_trace(Point(12), ONE_BATCH, samples=2, loss=quadratic(diagonal))
    assert (exact.trace, exact.standard_error, exact.samples) == (78.0, 0.0, 2)
    linear = hessian_trace(Point(12), ONE_BATCH, samples=2, loss=lambda w, labels: w.sum())
    assert linear.trace == 0


def test_the_error_bar_covers():
    """About two thirds of 60 estimates lie within one standard error of the trace."""
    A = symmetric(20)
    options = {"samples": 20, "loss": quadratic(A)}
    estimates = [hessian_trace(Point(20), ONE_BATCH, **options, seed=seed) for seed in range(60)]
    within = [abs(e.trace - A.trace().item()) < e.standard_error for e in estimates]
    assert 0.48 < np.mean(within) < 0.85
    row = estimates[0].to_frame().iloc[0]
    assert row["trace_standard_error"] == estimates[0].standard_error and row["samples"] == 20
    assert repr(hessian_trace(Point(2), ONE_BATCH, samples=2, loss=lambda w, _: w @ w)) == (
        "<Hessian trace 4.000, 2 vectors>"
    )


def test_the_model_is_left_as_it_was():
    model, loader = smooth_network(), batches(5)
    model[2].eval()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    one = hessian_spectrum(model, loader, k=2)
    assert np.array_equal(one.eigenvalues, hessian_spectrum(model, loader, k=2).eigenvalues)
    assert hessian_trace(model, loader, samples=3) == hessian_trace(model, loader, samples=3)
    assert hessian_trace(model, loader, samples=3) != hessian_trace(
        model, loader, samples=3, seed=1
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert modes == [module.training for module in model.modules()]
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert model[4].weight.grad is None


def test_a_product_is_computed_in_float32_as_it_is():
    """By default a GPU's convolutions use TF32, which has three digits."""
    convolutions, products = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = convolutions.fp32_precision, products.fp32_precision
    seen = []

    def loss(outputs, labels):
        seen.append((convolutions.fp32_precision, products.fp32_precision))
        return nn.functional.cross_entropy(outputs, labels)

    hessian_trace(perceptron(), [(torch.randn(4, 6), torch.arange(4) % 3)], samples=2, loss=loss)
    assert set(seen) == {("ieee", "ieee")}
    assert (convolutions.fp32_precision, products.fp32_precision) == before


def test_what_does_not_converge_is_said():
    """One iteration cannot resolve a dense spectrum. It gives a warning and NaN."""
    A = torch.diag(1 + 1e-6 * torch.arange(300, dtype=torch.float64))
    with pytest.warns(HessianWarning, match="of 6 eigenvalues converged in 1 iterations"):
        spectrum = hessian_spectrum(
            Point(300), ONE_BATCH, k=6, loss=quadratic(A), tolerance=1e-14, iterations=1
        )
    assert not spectrum.converged and np.isnan(spectrum.eigenvalues[-1])
    assert np.isnan(spectrum.residuals[-1])


def test_bad_input():
    model, loader = perceptron(), [(x.float(), y) for x, y in batches(4)]
    for call, words in [
        (lambda: hessian_spectrum(model, loader, k=0), "k is 0; a number from 1 to 52"),
        (lambda: hessian_spectrum(model, loader, k=53), "k is 53"),
        (lambda: hessian_spectrum(model, loader, tolerance=0), "tolerance is 0"),
        (lambda: hessian_spectrum(model, loader, iterations=0), "iterations is 0"),
        (lambda: hessian_spectrum(model, []), "yielded no batch"),
        (lambda: hessian_trace(model, loader, samples=1), "samples is 1; at least 2"),
        (lambda: Hessian(model.requires_grad_(False), loader), "no parameter with requires_grad"),
        (lambda: Hessian(Point(3), loader) @ np.ones(2), r"shape \(2,\); \(3,\) was expected"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(ValueError, match="loss is inf; a finite number"):
        hessian_trace(Point(3), ONE_BATCH, samples=2, loss=lambda w, labels: (w**2).sum() / 0)
