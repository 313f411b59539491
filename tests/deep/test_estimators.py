"""Estimates of flatness with known answers, and the command that compares them."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import chi2, norm
from torch import nn

from deep import volume_estimates
from deep.__main__ import main
from deep.estimators import EstimatorsCommand, compare, compare_estimators
from deep.learning_coefficient import LearningCoefficient, Problem
from deep.volume_estimates import (
    ENTROPIES,
    ESTIMATORS,
    Case,
    Committee,
    curvature,
    laplace,
    log_ball,
    radial_rays,
)
from message_passing.ladder import LadderSettings
from tests.message_passing.machines import random_machine

SHORT = LadderSettings(64, 4, steps=4, burn_in=4, longest_burn_in=4)


def case(K=3, N=11, P=5, variance=0.3):
    weights, patterns, labels = random_machine(K, N, P, seed=3)
    weights *= np.sqrt(N) / np.linalg.norm(weights, axis=1, keepdims=True)
    return Case(weights, patterns, labels, variance, beta=2.0, omega=0.7, ladder=SHORT, seed=5)


def gauss_newton(c):
    """Σ_μ ℓ″ ∇f ∇fᵀ of the smooth loss, by hand."""
    (K, N), total = c.weights.shape, 0.0
    for x, y in zip(c.patterns, c.labels, strict=True):
        t = np.tanh(c.beta * c.weights @ x / np.sqrt(N))
        gradient = np.outer(c.beta * (1 - t**2), x).ravel() / np.sqrt(K * N)
        p = 1 / (1 + np.exp(2 * c.omega * y * t.sum() / np.sqrt(K)))
        total = total + 4 * c.omega**2 * p * (1 - p) * np.outer(gradient, gradient)
    return total


def test_the_laplace_volume_is_the_determinant():
    c = case()
    expected = -0.5 * np.linalg.slogdet(np.eye(33) + c.variance * gauss_newton(c))[1]
    assert laplace(c).value == pytest.approx(expected, rel=1e-5)


def test_the_trace_is_the_one_of_the_mean_smooth_loss():
    c = case()
    w = c.smooth.weight.detach().double()
    inputs, labels = (a.double() for a in c.data)
    model = c.smooth.double()

    def loss(weight):
        return c.losses(
            torch.func.functional_call(model, {"weight": weight}, inputs), labels
        ).mean()

    exact = torch.autograd.functional.hessian(loss, w).reshape(33, 33).trace().item()
    found = curvature(c)
    assert abs(found.value - exact) < 4 * found.standard_error and found.standard_error < abs(exact)


def test_rays_are_right_where_solutions_are_star_shaped():
    """One unit and one pattern leave a half-space at the distance |u|, with u = w·x/√N."""
    c = case(K=1, P=1)
    margin = abs(c.weights[0] @ c.patterns[0]) / np.sqrt(11)
    found = radial_rays(c)
    assert abs(found.value - norm.logcdf(margin / np.sqrt(0.3))) < 4 * found.standard_error


def test_the_share_of_a_ray_does_not_underflow():
    squares = np.array([50.0, 90.0, 100.0, 101.0, 150.0])
    np.testing.assert_allclose(log_ball(100, squares), chi2.logcdf(squares, 100), rtol=1e-9)
    tiny = log_ball(7056, np.array([0.0, 70.0, 140.0]))  # P ~ square^(D/2)
    assert tiny[0] == -np.inf
    assert tiny[2] - tiny[1] == pytest.approx(3528 * np.log(2) - 35, abs=0.5)


def test_the_learning_coefficient_of_a_square_loss_is_half_its_dimension():
    """For L = ½h|w|² the exact mean is ⟨L⟩ = ½ D h / (nβ h + γ)."""
    model = nn.Linear(40, 1, bias=False)
    nn.init.zeros_(model.weight)
    inputs = torch.eye(40).repeat(2, 1) * 40**0.5
    settings = LearningCoefficient(
        lr=0.02, n_beta=10.0, localization=10.0, draws=1500, batch_size=80
    )
    problem = Problem(model, inputs, torch.zeros(80), lambda o, _: 0.5 * o.squeeze(1) ** 2)
    found = settings.by_our_chains(problem, seed=1)
    lr_bias = 1 / (1 - 0.02 * 20 / 4)
    expected = 10.0 * 0.5 * 40 / 20 * lr_bias
    assert found.mean() == pytest.approx(expected, abs=max(4 * found.std(ddof=1) / 2, 0.4))


def test_devinterp_finds_what_our_chains_find():
    pytest.importorskip("devinterp", reason="the extra `estimators` is not installed")
    c, settings = case(N=40, P=64), LearningCoefficient(draws=400, chains=6)
    problem = Problem(c.smooth, *c.data, c.losses)
    theirs, by = settings.of(problem, seed=1)
    ours = settings.by_our_chains(problem, seed=1)
    assert by.startswith("devinterp 2")
    error = np.hypot(*(v.std(ddof=1) / np.sqrt(6) for v in (theirs, ours)))
    assert abs(theirs.mean() - ours.mean()) < 4 * error


def test_signs_are_the_limit_of_a_steep_committee():
    c = case()
    inputs, labels = c.data
    signs = Committee(c.weights)(inputs)
    torch.testing.assert_close(Committee(c.weights, 1e6)(inputs), signs)
    assert torch.equal(torch.sign(signs), labels)


def test_errors_and_ranks_are_counted_right():
    """The table shows known faults: a constant shift, too small error bars, a reversed order."""
    truth = np.linspace(-6.0, -1.0, 6)
    values = {name: (sign * truth, 0.1) for name, (_, sign) in ESTIMATORS.items()}
    values["ladder"] = (truth + 0.3 * np.array([1, -1, 1, -1, 1, -1]), 0.1)
    values["bp"] = (truth - 2.0, np.nan)
    values["rays"] = (-truth, 0.1)
    rows = pd.concat(
        pd.DataFrame({
            "machine": range(6), "algorithm": "a", "estimator": name, "value": v, "by": "here",
            "value_standard_error": e, "converged": True, "seconds": 1.0,
        }) for name, (v, e) in values.items()
    )  # fmt: skip
    rows.loc[(rows["estimator"] == "ep") & (rows["machine"] == 2), ["converged", "value"]] = [
        False,
        99.0,
    ]
    table = compare(rows).set_index("estimator")
    assert (table["n"].drop("ep") == 6).all() and table.loc["ep", "n"] == 5
    assert table.loc["ep", "not_converged"] == 1 and table.loc["ep", "error"] == 0
    ranks = table["kendall"]
    assert ranks["rays"] == -1 and np.isnan(ranks["mc"])
    assert (ranks.drop(["rays", "mc"]) == 1).all()
    assert table.loc["bp", "bias"] == pytest.approx(-2) and np.isnan(table.loc["bp", "ratio"])
    ladder = table.loc["ladder", ["bias", "error", "claimed", "ratio"]].to_numpy(float)
    assert ladder == pytest.approx([0, 0.3, 0.1, 0.3 / 0.02**0.5])
    assert table.loc[[n for n in ESTIMATORS if n not in ENTROPIES], "error"].isna().all()


@pytest.mark.compiled
def test_the_command_resumes_and_takes_more_machines(tmp_path, monkeypatch, capsys):
    options = {
        "algorithms": ("sgd-fast",), "data": "hidden-manifold", "size": 30, "hidden_units": 3,
        "max_epochs": 200, "ladder": SHORT, "workers": 1, "out": tmp_path,
    }  # fmt: skip
    quick = {n: e for n, e in ESTIMATORS.items() if not n.startswith("llc")}
    quick["llc"] = ESTIMATORS["llc"]
    monkeypatch.setattr(volume_estimates, "ESTIMATORS", quick)
    monkeypatch.setattr(volume_estimates, "RAYS", 20)
    words = "--algorithms sgd-fast --data hidden-manifold --size 30 --hidden-units 3 --workers 1"
    words += " --max-epochs 200 --ladder.draws 64 --ladder.chains 4 --ladder.steps 4"
    words += " --ladder.burn-in 4 --ladder.longest-burn-in 4 --machines 1"
    main(["estimators", *words.split(), "--out", str(tmp_path)])
    first = (tmp_path / "machines" / "000.json").stat().st_mtime_ns
    compare_estimators(EstimatorsCommand(machines=2, **options))
    assert (tmp_path / "machines" / "000.json").stat().st_mtime_ns == first
    rows = pd.read_csv(tmp_path / "machines.csv")
    assert len(rows) == 2 * len(quick) and set(rows["machine"]) == {0, 1}
    assert rows["value"].notna().all() and (rows["seconds"] >= 0).all()
    assert len(pd.read_csv(tmp_path / "estimators.csv")) == len(quick)
    assert (tmp_path / "estimators.pdf").exists() and "| ladder" in capsys.readouterr().out
    with pytest.raises(ValueError, match="results of other settings: variance"):
        compare_estimators(EstimatorsCommand(machines=2, variance=0.1, **options))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"machines": 0}, "machines is 0"),
        ({"variance": 0.0}, "variance is 0.0; a positive number"),
        ({"hidden_units": 4}, "hidden_units is 4"),
        ({"algorithms": ()}, "algorithms is empty"),
    ],
)
def test_bad_options_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        EstimatorsCommand(**options)
