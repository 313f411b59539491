"""Are the error bars of the local entropy of networks right? Slow; run with

pytest -n 0 -s -m slow tests/deep/test_local_entropy_validation.py
"""

import numpy as np
import pytest
import torch
from scipy.stats import binom, multivariate_normal
from torch import nn
from torch.nn.functional import soft_margin_loss

import message_passing
from deep.local_entropy import local_entropy_curve
from message_passing import MonteCarlo
from message_passing.example_machines import image_like_patterns
from message_passing.ladder import LadderSettings
from tests.deep.test_local_entropy import SignCommittee
from tests.message_passing.machines import random_machine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:engine slices did not converge"),
]

SEEDS = 100
#: How many of the intervals must hold the truth, at a risk of one in a thousand. One interval
#: holds it with probability 0.95, or 0.93 if its error comes from 16 chains.
FEWEST, MOST = int(binom.ppf(5e-4, SEEDS, 0.93)), int(binom.ppf(1 - 5e-4, SEEDS, 0.95))


def test_many_committees_and_perceptrons_as_black_boxes():
    """The mean z² between two estimates is near 1 for 20 machines at three distances."""
    settings = LadderSettings(draws=800, steps=30, burn_in=15)
    variances = [0.01, 0.05, 0.2]
    z = []
    for machine in range(20):
        K, errors = (1, 3)[machine % 2], (0, 0, 1, 3)[machine % 4]
        weights, patterns, labels = random_machine(K, 30 // K, 30, seed=100 + machine)
        labels[:errors] *= -1
        exact = message_passing.local_entropy_curve(
            weights, patterns, labels, variances=variances,
            engine=MonteCarlo(draws=64000, steps=640),
        )  # fmt: skip
        curve = local_entropy_curve(
            SignCommittee(weights), torch.tensor(patterns), torch.tensor(labels), scale="filter",
            variances=variances, sampler=settings, progress=False, seed=machine,
        )  # fmt: skip
        assert exact.converged.all() and curve.converged.all()
        total = np.hypot(exact.standard_error, curve.standard_error)
        z.append((curve.local_entropy - exact.local_entropy) / total)
        print(machine, weights.size * curve.free_entropy, z[-1], flush=True)
    mean_squares = np.mean(np.square(z), axis=0)
    print(f"mean z² {mean_squares.mean():.2f}, at each distance {mean_squares.round(2)}")
    assert 0.7 < mean_squares.mean() < 1.4


@pytest.mark.parametrize(
    ("P", "overlap", "chains_below"), [(1, 0.0, 0), (2, -0.9, 0), (3, -0.3, 0), (3, -0.3, 0.1)]
)
def test_coverage_of_the_error_bars(P, overlap, chains_below, monkeypatch):
    """For a linear classifier with P constraints, Z is an orthant probability.

    The last case uses chains below Z = 0.1, where direct draws would suffice.
    """
    for module in ("sampler", "elliptical_slices"):
        monkeypatch.setattr(f"message_passing.{module}.SMALLEST_DIRECT", chains_below or 0.015)
    covariance = np.full((P, P), overlap) + (1 - overlap) * np.eye(P)
    inputs = np.pad(np.linalg.cholesky(covariance), ((0, 0), (0, 8 - P)))
    model = nn.Linear(8, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():  # margins of 0.1
        model.weight[:] = torch.tensor(np.linalg.lstsq(inputs, np.full(P, 0.1))[0])
    variances = np.array([1.0] if chains_below else [0.05, 1.0])
    margins = 0.1 / np.sqrt(variances)
    orthant = multivariate_normal(np.zeros(P), covariance, abseps=1e-9, maxpts=10**6)
    exact = np.log([orthant.cdf(np.full(P, m)) for m in margins])
    z = []
    for seed in range(SEEDS):
        curve = local_entropy_curve(
            model, torch.tensor(inputs), torch.ones(P), scale=1.0, variances=variances,
            sampler=LadderSettings(draws=1280, steps=24, burn_in=12), chains_at_once=64,
            seed=seed, progress=False,
        )  # fmt: skip
        assert curve.converged.all() and curve.training_errors == 0
        assert (curve.iterations[-1] <= 1280) == (not chains_below)
        z.append((curve.free_entropy - exact / 8) / curve.standard_error)
    inside = np.count_nonzero(np.abs(z) < 1.96, axis=0)
    print(f"P = {P}, log Z = {exact.round(2)}: {inside} of {SEEDS} within 1.96 standard errors, "
          f"mean z² {np.mean(np.square(z), axis=0).round(2)}")  # fmt: skip
    assert np.all((inside >= FEWEST) & (inside <= MOST))


@pytest.mark.parametrize(
    ("random", "variances"), [(False, [0.25, 1.0]), (True, [0.064, 0.13, 0.26, 0.5])]
)
def test_two_seeds_agree_or_say_that_they_did_not_converge(random, variances):
    """The tanh network 196-12-12-1 has 512 inputs. Random labels reach log Z ≈ −40."""
    patterns, labels = image_like_patterns(512, 196, seed=0)
    if random:
        labels = np.random.default_rng(1).choice([-1.0, 1.0], 512)
    inputs, targets = torch.tensor(patterns).float(), torch.tensor(labels).float()
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(196, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(1000):
        optimizer.zero_grad()
        soft_margin_loss(model(inputs).squeeze(1), targets).backward()
        optimizer.step()
    settings = LadderSettings(draws=1600, steps=40, burn_in=20, longest_burn_in=160)
    curves = [
        local_entropy_curve(
            model, inputs, targets, variances=variances, sampler=settings, seed=seed, progress=False
        )
        for seed in range(2)
    ]
    log_z, errors = (
        2533 * np.array([getattr(curve, name) for curve in curves])
        for name in ("free_entropy", "standard_error")
    )
    converged = np.array([curve.converged for curve in curves])
    for row in zip(log_z.round(2), errors.round(2), converged, strict=True):
        print(*row, flush=True)
    assert [curve.training_errors for curve in curves] == [0, 0]
    assert curves[0].parameters == 2533 and log_z[0, -1] < (-30 if random else -3)
    z = np.subtract(*log_z) / np.hypot(*errors)
    assert np.all(np.abs(z[converged.all(axis=0)]) < 3.5)
    assert random or converged.all()
