"""All flatness measures of one network and of its layers."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch

import deep
from deep import flatness, hessian_spectrum, hessian_trace, local_energy, local_entropy_curve
from deep.flatness_report import only_layer
from deep.hessian import Hessian
from message_passing.ladder import LadderSettings
from tests.deep.networks import perceptron
from tests.deep.test_local_entropy import classifier

FEW = {
    "sampler": LadderSettings(64, 4, steps=4, burn_in=4, longest_burn_in=4),
    "variances": [0.01, 0.05], "sigmas": [0.1, 0.3], "samples": 3, "eigenvalues": 2,
    "trace_samples": 4, "progress": False,
}  # fmt: skip


def test_a_layer_alone_is_the_network_with_its_other_parameters_fixed():
    model, inputs, targets = classifier(batch_norm=True)
    part = only_layer(model, "3")
    torch.testing.assert_close(part(inputs), model(inputs))
    assert [name for name, _ in part.named_parameters()] == ["3.weight", "3.bias"]
    frozen = copy.deepcopy(model)
    for name, p in frozen.named_parameters():
        p.requires_grad_(name.startswith("3."))
    batches = [(inputs, targets)]
    v = np.random.default_rng(0).standard_normal(18)
    np.testing.assert_allclose(
        Hessian(part, batches) @ v, Hessian(frozen, batches) @ v, rtol=1e-5, atol=1e-8
    )


def test_the_report_holds_what_the_functions_return():
    model, inputs, targets = classifier(batch_norm=True)
    before = copy.deepcopy(model.state_dict())
    report = flatness(model, inputs, targets, **FEW)
    assert list(report.layers) == ["0", "1", "3"]
    sizes = [m.local_entropy.parameters for m in report.layers.values()]
    # BatchNorm's biases are zero and are not perturbed, so they do not count.
    assert sizes == [35, 5, 18] and report.network.local_entropy.parameters == 58
    alone = local_energy(model, inputs, targets, sigmas=[0.1, 0.3], samples=3)
    np.testing.assert_array_equal(report.network.local_energy.local_energy, alone.local_energy)
    table = report.to_frame()
    assert len(table) == 4 * (2 + 2 + 2 + 1) and not table.isna().any(axis=None)
    assert set(table["part"]) == {"network", "0", "1", "3"}
    assert "58 parameters in 3 layers, 1 errors on 24 inputs" in repr(report)
    first, second, third = report.plot()
    assert len(first.lines) >= 4 and len(second.lines) == 4 and len(third.patches) == 4
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_all_measures_take_tensors_or_a_loader():
    model, inputs, targets = classifier()
    few = {"variances": FEW["variances"], "sampler": FEW["sampler"], "progress": False}
    loader = list(zip(inputs.split(9), targets.split(9), strict=True))
    for measure, options in (
        (local_energy, {"samples": 2}), (hessian_spectrum, {"k": 2}),
        (hessian_trace, {"samples": 2}), (local_entropy_curve, few), (flatness, FEW),
    ):  # fmt: skip
        one = measure(model, inputs, targets, **options).to_frame()
        other = measure(model, loader, **options).to_frame()
        pd.testing.assert_frame_equal(one, other, rtol=1e-3)
    assert deep.flatness is flatness and deep.local_energy is local_energy  # not modules


def test_bad_input_is_refused():
    model, inputs, targets = perceptron(), torch.randn(4, 6), torch.zeros(4)
    with pytest.raises(ValueError, match="the classes, were expected"):
        flatness(model, inputs, targets)
    with pytest.raises(ValueError, match="samples is 1"):
        flatness(model, inputs, targets.long(), samples=1)
