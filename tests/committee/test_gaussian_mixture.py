"""Simulated Gaussian mixtures: estimators against exact optima and against theory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from committee.__main__ import draw_gaussian_mixture
from committee.gaussian_mixture import (
    LinearClassifier,
    bayes_error,
    bayes_overlap,
    error_under_noise,
    experiment,
    fit,
    hebb,
    hebb_error_under_noise,
    max_flat_classifier,
    max_flat_loss,
    max_flat_loss_theory,
    max_flat_theory,
    normalised_margins,
    replica_symmetric,
    sample,
)
from committee.gaussian_mixture.experiment import (
    SETTINGS,
    GaussianMixtureConfig,
    compute,
    load,
    measure,
)
from committee.gaussian_mixture.losses import get_loss
from message_passing.tools.files import read_json, read_table, write_json, write_records


def test_sample():
    x, y, centre = sample(200, 5, 0.5, rho=0.3, seed=1)
    assert x.shape == (1000, 200) and np.mean(y > 0) == 0.3
    assert centre @ centre == pytest.approx(200)
    noise = x - y[:, None] * centre / np.sqrt(200)
    assert noise.var() == pytest.approx(0.5, rel=0.02)
    again = sample(200, 5, 0.5, rho=0.3, seed=1)
    assert np.array_equal(x, again.patterns)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("loss", ["square", "logistic", "hinge"])
@pytest.mark.parametrize("ridge", [1e-3, 1.0, 1e3])
def test_fit_is_the_minimum(loss, ridge, bias):
    x, y, _ = sample(30, 1.5, 1, rho=0.3, seed=2)
    found = fit(x, y, loss, ridge, bias)
    assert found.converged

    def objective(w):
        classifier = LinearClassifier(w[:-1], w[-1] if bias else 0.0, "")
        loss_sum = get_loss(loss).value(classifier.margins(x, y)).sum()
        return loss_sum + 0.5 * ridge * w[:-1] @ w[:-1]

    optimum = np.append(found.weights, found.bias)
    least = objective(optimum)
    rng = np.random.default_rng(0)
    scale = 1e-3 * np.linalg.norm(optimum)
    for _ in range(200):
        nearby = objective(optimum + scale * rng.standard_normal(31) / np.sqrt(31))
        assert nearby > least - 1e-6 * (1 + least)
    other = minimize(objective, optimum + scale, method="Powell", options={"maxiter": 4})
    assert other.fun > least - 1e-6 * (1 + least)


def test_constant_classifier_of_the_hinge_loss():
    # Where theory finds no q > 0 (many noisy, unbalanced patterns), the minimum is w = 0, b = -1.
    x, y, _ = sample(120, 20, 4, rho=0.2, seed=0)
    found = fit(x, y, "hinge", 1e-3, bias=True)
    assert np.abs(found.weights).max() < 1e-4 and found.bias == pytest.approx(-1, abs=1e-4)
    with pytest.warns(UserWarning, match="constant classifier"):
        assert not replica_symmetric("hinge", 20, 4, 1e-3, rho=0.2, bias="train").converged


POINTS = [(2.0, 1.0), (0.6, 0.5), (5.0, 2.0)]


@pytest.mark.parametrize(("alpha", "delta"), POINTS)
def test_simulation_agrees_with_theory(alpha, delta):
    N, seeds = (200 if alpha > 2 else 300), 16
    ladder = [2.0, 1.2] if alpha >= 2 else [8.0, 4.0]  # where replica symmetry is stable
    theory = {"hebb": (bayes_error(alpha, delta), hebb_error_under_noise(0.0, alpha, delta))}
    states = {(loss, r): replica_symmetric(loss, alpha, delta, r)
              for loss in ("square", "logistic", "hinge") for r in (0.1, 3.0)}  # fmt: skip
    states |= {(loss, "noise"): max_flat_loss_theory(loss, alpha, delta, 1.0)
               for loss in ("square", "logistic", "hinge")}  # fmt: skip
    flattest = zip(ladder, max_flat_theory(alpha, delta, ladder), strict=True)
    states |= {("flattest", sigma): state for sigma, state in flattest}
    theory |= {key: (state.error, state.training_error) for key, state in states.items()}
    seen = {key: [] for key in theory}
    for seed in range(seeds):
        x, y, centre = sample(N, alpha, delta, seed=np.random.SeedSequence((7, seed)))
        flat = max_flat_classifier(x, y, ladder)
        for key in theory:
            if key == "hebb":
                found = hebb(x, y)
            elif key[0] == "flattest":
                found = flat[ladder.index(key[1])]
            elif key[1] == "noise":
                found = max_flat_loss(x, y, key[0], 1.0)
            else:
                found = fit(x, y, *key)
            assert found.converged
            seen[key].append((found.error(centre, delta), found.error_rate(x, y)))
    for key, values in seen.items():
        mean = np.mean(values, axis=0)
        error = np.std(values, axis=0, ddof=1) / np.sqrt(seeds)
        resolution = 1.0 / (alpha * N * seeds)  # one wrong pattern in all samples
        assert np.all(np.isfinite(theory[key]))
        assert np.all(np.abs(mean - theory[key]) < 3 * error + resolution), (key, mean, theory[key])


@pytest.mark.parametrize("loss", ["square", "logistic", "hinge"])
def test_unbalanced_labels_with_a_trained_bias(loss):
    state = replica_symmetric(loss, 2, 1, 0.3, rho=0.2, bias="train")
    values = []
    for seed in range(16):
        x, y, centre = sample(300, 2, 1, rho=0.2, seed=np.random.SeedSequence((3, seed)))
        found = fit(x, y, loss, 0.3, bias=True)
        q = found.weights @ found.weights / 300
        values.append((found.error(centre, 1, 0.2), found.error_rate(x, y), found.bias, q))
    mean, error = np.mean(values, axis=0), np.std(values, axis=0, ddof=1) / 4
    theory = [state.error, state.training_error, state.bias, state.q]
    assert np.all(np.abs(mean - theory) < 3.3 * error)  # four numbers per loss


def test_overlap_is_that_of_hebb_times_the_cosine():
    differences = []
    for seed in range(20):
        x, y, centre = sample(400, 2, 1, seed=seed)
        for found in (fit(x, y, "hinge", 0.1), max_flat_classifier(x, y, [1.0])[0]):
            learnt = hebb(x, y).weights
            cosine = found.weights @ learnt
            cosine /= np.linalg.norm(found.weights) * np.linalg.norm(learnt)
            differences.append(found.overlap(centre) - bayes_overlap(2, 1) * cosine)
    # One overlap scatters around this by √(1 − R_BO²) sin / √N.
    assert np.abs(np.mean(differences)) < 3 * np.std(differences) / np.sqrt(20)
    assert np.std(differences) < 2 / np.sqrt(400)


def test_error_under_noise_is_that_of_sampled_noise():
    x, y, _ = sample(100, 2, 1, seed=0)
    found = fit(x, y, "logistic", 0.1)
    rng = np.random.default_rng(0)
    unit = found.weights / np.linalg.norm(found.weights)
    for sigma in (0.3, 1.0):
        noisy = unit + sigma / np.sqrt(100) * rng.standard_normal((4000, 100))
        errors = np.mean(y * (noisy @ x.T) < 0, axis=1)
        exact = error_under_noise(found, x, y, [sigma])[0]
        assert abs(errors.mean() - exact) < 4 * errors.std() / np.sqrt(4000)
    assert error_under_noise(found, x, y, [0.0])[0] == found.error_rate(x, y)
    scaled = replace(found, weights=7 * found.weights)
    np.testing.assert_allclose(normalised_margins(scaled, x, y), normalised_margins(found, x, y))


def test_noise_averaged_square_loss_is_a_ridge():
    x, y, _ = sample(400, 4, 0.7, seed=5)
    flat = max_flat_loss(x, y, "square", 0.8).weights
    ridge = fit(x, y, "square", 4 * 0.7 * 0.8**2).weights
    assert np.linalg.norm(flat - ridge) < 0.05 * np.linalg.norm(ridge)
    # Exactly, each input has its own ridge: the gradient of the averaged loss vanishes.
    A = x * y[:, None] / np.sqrt(400)
    gradient = A.T @ (A @ flat - 1) + 0.64 * np.sum(A**2, axis=0) * flat
    assert np.abs(gradient).max() < 1e-8


def test_averaged_losses_against_sampled_noise():
    x, y, _ = sample(20, 3, 1, seed=6)
    rng = np.random.default_rng(1)
    draws = 1 + 0.6 * rng.standard_normal((20000, 20))
    for loss in ("logistic", "hinge"):
        found = max_flat_loss(x, y, loss, 0.6)
        assert found.converged

        def sampled(w, loss=loss):
            margins = y * ((draws * w) @ x.T) / np.sqrt(20)
            return get_loss(loss).value(margins).mean(axis=0).sum()

        for i in range(3):
            w = found.weights.copy()
            w[i] *= 1.3
            assert sampled(w) > sampled(found.weights)
        assert sampled(0.8 * found.weights) > sampled(found.weights) < sampled(1.25 * found.weights)


def test_separable_patterns_below_the_threshold():
    from committee.gaussian_mixture import separability_threshold

    threshold = separability_threshold(1.0)
    for factor, expected in ((0.8, True), (1.25, False)):
        x, y, _ = sample(150, factor * threshold, 1, seed=1)
        A = x * y[:, None]
        found = linprog(np.zeros(150), A_ub=-A, b_ub=-np.ones(len(A)), bounds=(None, None))
        assert (found.status == 0) is expected


def test_command_writes_resumes_and_refuses_another_run(tmp_path, capsys):
    config = GaussianMixtureConfig(out=tmp_path, inputs=40, samples=2, workers=1)
    draw_gaussian_mixture(config)
    assert "Bayes-optimal error 0.20711" in capsys.readouterr().out
    assert (tmp_path / "figure.pdf").stat().st_size > 10_000
    rows = read_table(tmp_path / "summary.csv")
    assert {"n", "error", "error_standard_error", "error_theory"} <= {*rows}
    assert "numpy" in read_json(tmp_path / "config.json")["made_by"][0]
    first = (tmp_path / "samples" / "0000.json").read_bytes()
    times = (tmp_path / "samples" / "0000.json").stat().st_mtime_ns
    (tmp_path / "samples" / "0001.json").unlink()
    results = compute(replace(config, workers=2))
    assert (tmp_path / "samples" / "0000.json").stat().st_mtime_ns == times
    assert (tmp_path / "samples" / "0000.json").read_bytes() == first
    assert len(results.simulation) == 2 * len(rows)
    more = compute(replace(config, samples=3))
    assert len(more.simulation) == 3 * len(rows) and more.to_frame()["n"].eq(3).all()
    with pytest.raises(ValueError, match=r"alpha is 2\.0 there and 3\.0 here"):
        compute(replace(config, alpha=3.0))


def test_a_damaged_or_orphaned_sample_is_named(tmp_path):
    config = GaussianMixtureConfig(out=tmp_path, inputs=40, samples=2, workers=1)
    seed = np.random.SeedSequence(0)
    rows = measure(config, seed)
    for i in range(2):
        write_records(tmp_path / "samples" / f"{i:04d}.json", rows)
    with pytest.raises(ValueError, match=r"holds samples but no config\.json"):
        compute(config)
    settings = {name: getattr(config, name) for name in SETTINGS}
    write_json(tmp_path / "config.json", {"title": "", "settings": settings})
    write_records(tmp_path / "theory.json", rows.assign(stable=True))
    results = load(tmp_path)
    assert repr(results) == "GaussianMixtureResults(α=2, Δ=1, ρ=0.5, N=40, 2 samples)"
    for content in ("[]", "{}", "{", '{"rows": 3}', '{"rows": [{"error": 0.1}]}'):
        (tmp_path / "samples" / "0001.json").write_text(content)
        with pytest.raises(ValueError, match=r"0001\.json.* Delete it and run the command again"):
            compute(config)
    with pytest.raises(ValueError, match=r"config\.json of a Gaussian mixture"):
        load(tmp_path / "samples")


def test_a_minimiser_that_does_not_converge_counts_as_nan(monkeypatch):
    stuck = LinearClassifier(np.ones(40), 0.0, "stuck", converged=False)
    monkeypatch.setattr(experiment, "max_flat_loss", lambda *arguments: stuck)
    rows = measure(GaussianMixtureConfig(inputs=40), np.random.SeedSequence(0))
    flat = rows["estimator"].str.startswith("flat ")
    assert rows.loc[flat, "error"].isna().all() and rows.loc[~flat].notna().all(axis=None)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x, y: fit(x, y, "hinge", 0.0), "ridge is 0"),
        (lambda x, y: fit(x, 2 * y, "hinge", 1.0), "labels contains"),
        (lambda x, y: fit(x, np.ones(len(x)), "hinge", 1.0, bias=True), "labels are all alike"),
        (lambda x, y: max_flat_classifier(x, y, [1.0, 2.0]), "decreasing"),
        (lambda x, y: max_flat_loss(x, y, "hinge", 0.0), "sigma is 0"),
        (lambda x, y: error_under_noise(np.zeros(20), x, y, [1.0]), "weights are zero"),
        (lambda x, y: sample(20, 0.0, 1), "alpha is 0"),
        (lambda x, y: GaussianMixtureConfig(samples=1), "samples is 1"),
        (lambda x, y: GaussianMixtureConfig(alpha=float("nan")), "alpha is nan"),
        (lambda x, y: GaussianMixtureConfig(alpha=1e9), "alpha is 1e[+]09, which makes 4e[+]11"),
        (lambda x, y: GaussianMixtureConfig(alpha=1e-9), "alpha is 1e-09, which makes 4e-07"),
        (lambda x, y: GaussianMixtureConfig(rho=1e-9), "rho is 1e-09, which gives all 800"),
    ],
)
def test_bad_input(call, words):
    x, y, _ = sample(20, 2, 1)
    with pytest.raises(ValueError, match=words):
        call(x, y)
