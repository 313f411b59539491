"""Instances of the perceptron: samplers, engines and controls against replica theory."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest

from committee.perceptron import Instance, command, franz_parisi, make_reference, maximum_margin
from committee.perceptron.controls import expected, expected_volume, observed, observed_volume
from committee.perceptron.experiment import PerceptronConfig
from committee.perceptron.extrapolation import extrapolate
from committee.perceptron.gardner import gardner_volume
from message_passing import MonteCarlo, local_entropy_curve


def mean_and_error(values):
    values = np.asarray(values)
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))


@pytest.mark.compiled
@pytest.mark.parametrize(("teacher", "fraction"), [(False, 0.0), (False, 0.5), (True, 0.5)])
def test_typical_solutions(teacher, fraction):
    """Overlaps of two samples, overlaps with the teacher and stabilities agree with theory."""
    alpha, N = 0.8, 100
    kappa = fraction * maximum_margin(alpha, teacher)
    reference = make_reference("typical", alpha, kappa, teacher=teacher)
    _, v, weight = reference.with_labels(0.1)
    seen = []
    for seed in range(16):
        rng = np.random.default_rng(seed)
        instance = Instance.draw(N, alpha, teacher, rng)
        first, second = (instance.reference("typical", rng, kappa) for _ in range(2))
        stabilities = instance.stabilities(first)
        assert stabilities.min() >= kappa - 1e-9
        assert first @ first == pytest.approx(N)
        R = first @ instance.teacher / N if teacher else 0.0
        seen.append([first @ second / N, stabilities.mean(), np.mean(stabilities < 0.5), R])
    mean, error = mean_and_error(seen)
    theory = np.array([reference.q, weight @ v, np.sum(weight[v < 0.5]), reference.R])
    # 2/N allows for finite size, 0.01 for the quadrature panel of v that contains 0.5.
    assert np.all(np.abs(mean - theory) < 3.5 * error + [2 / N, 2 / N, 0.01, 2 / N])


def test_other_references():
    rng = np.random.default_rng(3)
    alpha, N = 0.6, 400
    instance = Instance.draw(N, alpha, False, rng)
    for name in ("max-margin", "hebb", "logistic", "hinge"):
        theory = make_reference(name, alpha, ridge=0.1)
        _, v, weight = theory.with_labels(0.1)
        seen = instance.stabilities(instance.reference(name, rng, ridge=0.1))
        assert seen.mean() == pytest.approx(weight @ v, abs=0.1)
        assert np.mean(seen < 0) == pytest.approx(theory.training_error, abs=0.04)
    margin = instance.stabilities(instance.reference("max-margin", rng)).min()
    assert margin == pytest.approx(maximum_margin(alpha), abs=0.1)
    with pytest.raises(ArithmeticError, match="largest margin"):
        instance.reference("typical", rng, kappa=2.0)
    with pytest.raises(ValueError, match="reference is 'sgd'"):
        instance.reference("sgd", rng)
    with pytest.raises(ValueError, match="P = 0"):
        Instance.draw(10, 0.01, False, rng)


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["typical", "max-margin"])
def test_theory_against_monte_carlo(name):
    """Monte Carlo at finite N extrapolates to the theory, and the controls reduce the scatter."""
    alpha, variances = 0.5, np.array([0.3, 1.0])
    theory = franz_parisi(alpha, variances, name)
    limits = [expected(theory.reference, v) for v in variances]
    deviations, controls, sizes = [], [], []
    for N, count in ((40, 24), (80, 16)):
        for seed in range(count):
            rng = np.random.default_rng((N, seed))
            instance = Instance.draw(N, alpha, False, rng)
            w = instance.reference(name, rng)
            engine = MonteCarlo(draws=1600, chains=8, steps=30, burn_in=15, seed=seed)
            curve = local_entropy_curve(
                w[None], instance.patterns, instance.labels, engine=engine, variances=variances
            )
            assert curve.converged.all()
            deviations.append(curve.free_entropy - theory.free_entropy)
            controls.append([observed(instance, w, v) for v in variances])
            sizes.append(N)
    deviations, controls = np.array(deviations), np.array(controls) - limits
    for i in range(2):
        fit = extrapolate(deviations[:, i], np.array(sizes, dtype=float), controls[:, i])
        plain = extrapolate(deviations[:, i], np.array(sizes, dtype=float), np.zeros((40, 0)))
        assert abs(fit.limit) < 3.5 * fit.standard_error
        assert fit.standard_error < 0.8 * plain.standard_error


@pytest.mark.compiled
def test_monte_carlo_converges_far_below_direct_sampling():
    rng = np.random.default_rng(1)
    instance = Instance.draw(80, 1.5, False, rng)
    w = instance.reference("max-margin", rng)[None]
    variances = np.geomspace(0.05, 1.3, 4)
    curve = local_entropy_curve(
        w, instance.patterns, instance.labels, engine="mc", variances=variances
    )
    assert curve.converged.all()
    assert curve.distance[-1] > 0.3
    assert curve.free_entropy[-1] * 80 < -50
    ep = local_entropy_curve(w, instance.patterns, instance.labels, variances=variances)
    gap = np.abs(curve.free_entropy - ep.free_entropy)
    assert np.all(gap < 4 * curve.standard_error + 0.01 * np.abs(ep.free_entropy))


@pytest.mark.parametrize("teacher", [False, True])
def test_controls_tend_to_their_limits(teacher):
    alpha, variance = 0.7, 0.2
    for name in ("max-margin", "hebb"):
        limit = expected(make_reference(name, alpha, teacher=teacher), variance)
        seen = []
        for seed in range(16):
            rng = np.random.default_rng(seed)
            instance = Instance.draw(300, alpha, teacher, rng)
            seen.append(observed(instance, instance.reference(name, rng), variance))
        mean, error = mean_and_error(seen)
        assert np.all(np.abs(mean - limit) < 3.5 * error + 0.01)


@pytest.mark.parametrize("teacher", [False, True])
def test_volume_tends_to_its_limit(teacher):
    alpha, seen = 1.0, []
    for seed in range(16):
        instance = Instance.draw(200, alpha, teacher, np.random.default_rng(seed))
        seen.append([observed_volume(instance)])
    mean, error = mean_and_error(seen)
    assert np.all(np.abs(mean - expected_volume(alpha, teacher)) < 3.5 * error + 0.01)
    if not teacher:
        assert expected_volume(alpha, False) == pytest.approx(gardner_volume(alpha), abs=0.03)
    unsolvable = Instance(np.ones((3, 3)), np.array([1.0, -1.0, -1.0]), None)
    assert np.isnan(observed_volume(unsolvable))


def test_extrapolation():
    """A known limit is found within its error when controls carry most of the scatter."""
    rng = np.random.default_rng(0)
    sizes = np.repeat([100.0, 200.0, 400.0], 20)
    scores = []
    for _ in range(200):
        controls = rng.standard_normal((60, 2)) / np.sqrt(sizes)[:, None]
        noise = 0.1 * rng.standard_normal(60) / np.sqrt(sizes)
        values = 0.03 + 2.0 / sizes + controls @ [1.0, -0.5] + noise
        fit = extrapolate(values, sizes, controls)
        assert fit.standard_error < 0.003
        scores.append((fit.limit - 0.03) / fit.standard_error)
    assert abs(np.mean(scores)) < 4 / np.sqrt(200)
    assert np.std(scores) == pytest.approx(1, abs=0.2)
    assert np.isnan(extrapolate(values[:20], sizes[:20], controls[:20]).limit)


@pytest.mark.slow
@pytest.mark.compiled
def test_command_writes_resumes_and_refuses_another_run(tmp_path, capsys):
    config = PerceptronConfig(out=tmp_path, sizes=(20, 30), instances=3, steps=6, workers=1)
    command.run(config)
    assert "RMS difference from the theory" in capsys.readouterr().out
    assert (tmp_path / "figure.pdf").stat().st_size > 10_000
    with open(tmp_path / "summary.csv") as file:
        rows = list(csv.DictReader(file))
    assert {"deviation", "deviation_standard_error", "theory"} <= set(rows[0])
    file = tmp_path / "instances" / "20-0001.json"
    first = file.read_bytes()
    file.unlink()
    command.run(replace(config, workers=2))
    assert file.read_bytes() == first
    with pytest.raises(ValueError, match=r"alpha is 0\.5 there and 0\.7 here"):
        command.run(replace(config, alpha=0.7))


def test_bad_configuration():
    with pytest.raises(ValueError, match="alpha is 2"):
        PerceptronConfig(alpha=2.0)
    with pytest.raises(ValueError, match="sizes is"):
        PerceptronConfig(sizes=(100,))
    with pytest.raises(ValueError, match=r"alpha N is 12\.5"):
        PerceptronConfig(alpha=0.1, sizes=(125, 250))
    with pytest.raises(ValueError, match="chains is 2"):
        PerceptronConfig(chains=2)
