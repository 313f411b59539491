"""Local entropy of networks: closed forms, the committee's engine, invariances, bad input."""

import copy

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn
from torch.nn.utils import parameters_to_vector
from torch.optim.swa_utils import update_bn

import message_passing
from deep.local_entropy import local_entropy_curve, perturbation_scales
from deep.perturbed_networks import PerturbedNetworks
from message_passing import MonteCarlo
from message_passing.ladder import LadderSettings
from tests.deep.networks import batch, perceptron
from tests.message_passing.machines import random_machine

pytestmark = pytest.mark.filterwarnings("ignore:engine slices did not converge")
SHORT = LadderSettings(draws=800, chains=8, steps=40, burn_in=20)
#: Far too short to converge.
FEW = {"sampler": LadderSettings(64, 4, steps=4, burn_in=4, longest_burn_in=4), "progress": False}


class SignCommittee(nn.Module):
    """Σ_k sign(w_k·x), where zero counts as +1."""

    def __init__(self, weights):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weights))

    def forward(self, x):
        return torch.where(x @ self.weight.T >= 0, 1.0, -1.0).sum(-1)


def classifier(batch_norm=False):
    """A network, its 24 surest inputs, and its answers to them with one of them changed."""
    model = perceptron(batch_norm=batch_norm).eval()
    inputs = torch.cat([batch(step)[0] for step in range(12)])
    with torch.no_grad():
        outputs = model(inputs).sort(1).values
        inputs = inputs[torch.argsort(outputs[:, 1] - outputs[:, 2])[:24]]
        targets = model(inputs).argmax(1)
    targets[0] = (targets[0] + 1) % 3
    return model, inputs, targets


def test_a_linear_classifier_with_one_constraint():
    torch.manual_seed(0)
    model = nn.Linear(30, 1, dtype=torch.float64)
    inputs = torch.randn(1, 30, dtype=torch.float64)
    targets = (model(inputs) >= 0).long().squeeze(1)
    w, b = (p.detach() for p in model.parameters())
    margin = model(inputs).abs().item()
    s, s_bias = float(w.square().mean().sqrt()), float(b.abs())
    x2 = float(inputs.square().sum())
    for options, width in (
        ({}, np.sqrt(s**2 * x2 + s_bias**2)),
        ({"scope": "weights"}, s * np.sqrt(x2)),
        ({"scale": 0.7}, 0.7 * np.sqrt(x2 + 1)),
    ):
        curve = local_entropy_curve(
            model, inputs, targets, variances=[0.01, 1.0, 100.0], sampler=SHORT, progress=False,
            **options,
        )  # fmt: skip
        size = 30 + (options.get("scope") != "weights")
        assert curve.parameters == size and curve.converged.all()
        exact = norm.logcdf(margin / width / np.sqrt(curve.variance)) / size
        assert np.all(np.abs(curve.free_entropy - exact) < 4 * curve.standard_error)


@pytest.mark.parametrize("errors", [0, 2])
def test_a_committee_as_a_black_box(errors):
    weights, patterns, labels = random_machine(3, 15, 14, seed=4)
    labels[:errors] *= -1
    variances = [0.1, 1.0]
    exact = message_passing.local_entropy_curve(
        weights, patterns, labels, engine=MonteCarlo(draws=4000), variances=variances
    )
    curve = local_entropy_curve(
        SignCommittee(weights), torch.tensor(patterns), torch.tensor(labels), scale="filter",
        variances=variances, sampler=SHORT, progress=False,
    )  # fmt: skip
    assert curve.training_errors == exact.training_errors == curve.allowed_errors
    assert exact.converged.all() and curve.converged.all()
    for name, error in (("local_entropy", "standard_error"), ("distance", "distance_error")):
        total = np.hypot(getattr(exact, error), getattr(curve, error))
        assert np.all(np.abs(getattr(exact, name) - getattr(curve, name)) < 4 * total)
    assert curve.local_entropy[-1] < -4 * curve.standard_error[-1]


def test_rescaled_layers_have_the_same_curve():
    model, inputs, targets = classifier()
    other = copy.deepcopy(model)
    with torch.no_grad():
        for p in other[0].parameters():
            p *= 4
        other[3].weight /= 4
    first, second = (
        local_entropy_curve(m, inputs, targets, variances=[0.1, 0.5], **FEW) for m in (model, other)
    )
    np.testing.assert_array_equal(first.local_entropy, second.local_entropy)
    assert first.local_entropy[-1] < 0


@pytest.mark.parametrize("at_once", [1, 5])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_errors_are_those_of_networks_one_by_one(at_once, batch_norm):
    model, inputs, targets = classifier(batch_norm)
    with torch.no_grad():
        model[0].bias[2] = 0.0
        model[0].weight[1] = 0.0
    inputs, targets = inputs.repeat(20, 1), targets.repeat(20)  # more than one block
    for scale in ("layer", "filter", 0.3):
        scales = perturbation_scales(model, scale)
        networks = PerturbedNetworks(
            model, scales, inputs, targets, lambda o, t: o.argmax(-1) != t, at_once
        )
        assert networks.together == (at_once > 1)
        full = torch.cat([(s + 0 * p).flatten() for s, p in zip(
            scales.values(), model.parameters(), strict=True)])  # fmt: skip
        assert networks.size == torch.count_nonzero(full) == len(networks.blocks(4))
        assert set(networks.blocks(4)) == {0, 1, 2, 3}
        offsets = np.random.default_rng(1).standard_normal((5, networks.size), dtype=np.float32)
        for repeat in range(4):  # inputs are sorted in between
            most = 3 * repeat
            found = networks.errors(0.4 * offsets, most)
            for offset, errors in zip(0.4 * offsets, found, strict=True):
                moved = copy.deepcopy(model)
                change = torch.zeros(len(full))
                change[full != 0] = torch.tensor(offset)
                vector = parameters_to_vector(moved.parameters()) + full * change
                nn.utils.vector_to_parameters(vector, moved.parameters())
                exact = int((moved(inputs).argmax(1) != targets).sum())
                assert errors == exact if exact <= most else errors > most
            networks.next_sort = 0
        assert networks.calls == 4


def test_scales_are_root_mean_squares():
    model = perceptron()
    w = model[0].weight.detach()
    layer, filters = (perturbation_scales(model, s, "weights") for s in ("layer", "filter"))
    assert list(layer) == ["0.weight", "3.weight"]
    assert layer["0.weight"].item() == pytest.approx(w.square().mean().sqrt().item())
    torch.testing.assert_close(filters["0.weight"], w.square().mean(1, keepdim=True).sqrt())


def test_recalibrated_statistics_are_measured_for_each_network():
    model, inputs, targets = classifier(batch_norm=True)
    nn.init.normal_(model[1].bias)
    scales = perturbation_scales(model, "layer")
    networks = PerturbedNetworks(
        model, scales, inputs, targets, lambda o, t: o.argmax(-1) != t, recalibrate=True
    )
    offsets = 0.3 * np.random.default_rng(1).standard_normal((3, networks.size), dtype=np.float32)
    for offset, errors in zip(offsets, networks.errors(offsets, 0), strict=True):
        moved = copy.deepcopy(model)
        change = torch.tensor(offset).split([p.numel() for p in moved.parameters()])
        with torch.no_grad():
            for p, x, s in zip(moved.parameters(), change, scales.values(), strict=True):
                p += s * x.view_as(p)
        update_bn([inputs], moved)
        assert errors == int((moved.eval()(inputs).argmax(1) != targets).sum())
    curve = local_entropy_curve(model, inputs, targets, variances=[0.1], bn="recalibrate", **FEW)
    assert curve.bn == "recalibrate"


def test_the_model_stays_as_it_is():
    model, inputs, targets = classifier(batch_norm=True)
    model.train()
    before = copy.deepcopy(model.state_dict())
    local_entropy_curve(model, inputs, targets, variances=[0.1, 0.5], **FEW)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_more_errors_leave_more_room():
    model, inputs, targets = classifier()
    curves = [
        local_entropy_curve(
            model, inputs, targets, errors=e, variances=[0.2], sampler=SHORT, progress=False
        )
        for e in (None, 3)
    ]
    assert [c.training_errors for c in curves] == [1, 1]
    assert [c.allowed_errors for c in curves] == [1, 3]
    gap = curves[1].local_entropy - curves[0].local_entropy
    assert gap > 4 * np.hypot(curves[0].standard_error, curves[1].standard_error)


def test_distances_are_met_and_the_default_ladder_straddles_a_half():
    model, inputs, targets = classifier()
    curve = local_entropy_curve(model, inputs, targets, distances=[0.01, 0.05], **FEW)
    assert curve.distance.tolist() == [0.01, 0.05]
    assert curve.to_frame()["parameters"].tolist() == [curve.parameters] * 2
    curve = local_entropy_curve(model, inputs, targets, **FEW)
    assert not curve.converged[-1]
    log_z = curve.parameters * curve.free_entropy
    assert len(log_z) == 9 and log_z[0] > -1.5 and log_z[-1] < -1.5


def test_regression_with_a_threshold():
    torch.manual_seed(0)
    model, inputs = nn.Linear(6, 2), torch.randn(12, 6)
    targets = model(inputs).detach()
    with pytest.raises(ValueError, match="errors cannot be counted"):
        local_entropy_curve(model, inputs, targets, **FEW)
    loose, tight = (
        local_entropy_curve(model, inputs, targets, loss_threshold=t, variances=[0.2], **FEW)
        for t in (4.0, 0.5)
    )
    assert loose.local_entropy > tight.local_entropy
    with pytest.raises(ValueError, match="loss returned the shape"):
        local_entropy_curve(
            model, inputs, targets, loss_threshold=1.0, loss=nn.functional.mse_loss, **FEW
        )


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        out = self.layer(x)
        return out if out.sum() > 0 else 2 * out


def test_a_model_that_cannot_be_vectorised_is_evaluated_one_by_one():
    model, (inputs, _) = Branching(), batch(0)
    targets = model(inputs).argmax(1)
    with pytest.warns(UserWarning, match="cannot evaluate Branching"):
        local_entropy_curve(model, inputs, targets, variances=[1e-4], **FEW)


def test_an_interrupted_call_resumes(tmp_path, monkeypatch):
    model, inputs, targets = classifier()
    options = {"variances": [0.5, 4.0], **FEW}
    whole = local_entropy_curve(model, inputs, targets, **options)
    calls, errors = 0, PerturbedNetworks.errors

    def interrupted(self, offsets, most):
        nonlocal calls
        calls += 1
        if calls == 180:
            raise KeyboardInterrupt
        return errors(self, offsets, most)

    monkeypatch.setattr(PerturbedNetworks, "errors", interrupted)
    with pytest.raises(KeyboardInterrupt):
        local_entropy_curve(model, inputs, targets, out=tmp_path, **options)
    assert (tmp_path / "ladder_0.npz").exists()
    resumed = local_entropy_curve(model, inputs, targets, out=tmp_path, **options)
    np.testing.assert_array_equal(resumed.local_entropy, whole.local_entropy)
    with pytest.raises(ValueError, match="results of other settings: seed"):
        local_entropy_curve(model, inputs, targets, out=tmp_path, seed=1, **options)
    with pytest.raises(ValueError, match="results of other settings: network"):
        local_entropy_curve(model, inputs, targets, out=tmp_path, scale="filter", **options)


def test_bad_input_is_refused_before_any_work(monkeypatch):
    model, inputs, targets = classifier()
    monkeypatch.setattr("deep.local_entropy.climb", None)

    def refused(match, model=model, inputs=inputs, targets=targets, **options):
        with pytest.raises(ValueError, match=match):
            local_entropy_curve(model, inputs, targets, **options)

    refused("errors is 0; a number from 1", errors=0)
    refused("errors is 24; a number from 1, the model's own errors, to 23", errors=24)
    refused(
        r"shapes \(0, 6\) and \(0,\); the same length, at least 1",
        inputs=inputs[:0],
        targets=targets[:0],
    )
    refused(r"shapes \(24, 6\) and \(23,\)", targets=targets[1:])
    refused("targets is NoneType; a tensor", targets=None)
    refused("a loader alone was expected", inputs=[(inputs, targets)])
    refused("loader yielded no batch", inputs=[], targets=None)
    refused("on the devices", inputs=inputs.to("meta"))
    refused("targets are from 0 to 5", targets=torch.where(targets == 2, 5, targets))
    refused("scope is 'biases'", scope="biases")
    refused("scale is 'row'", scale="row")
    refused("scale is -1", scale=-1)
    refused("bn is 'mean'", bn="mean")
    refused("chains_at_once is 0", chains_at_once=0)
    refused("seed is -1", seed=-1)
    refused("errors on all 24 inputs", loss_threshold=-1.0)
    refused("errors on all 24 inputs", loss_threshold=np.nan)
    refused("errors cannot be counted", targets=targets.float())
    refused("variances and distances are both given", variances=[1.0], distances=[1.0])
    refused("variances is", variances=[1.0, 0.5])
    refused("loss is given without", loss=nn.functional.mse_loss)
    refused("not finite", inputs=inputs / 0)
    dropout = nn.Sequential(model, _AlwaysDropout())
    refused("outputs differ between two evaluations", model=dropout)


class _AlwaysDropout(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, training=True)
