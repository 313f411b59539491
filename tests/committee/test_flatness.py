"""The local energy: exact average, samples, limits, bad input."""

from __future__ import annotations

import numpy as np
import pytest

from committee.flatness import local_energy, sampled_noisy_errors
from committee.machine import error_rate
from tests.reference.local_energy import mean_noisy_error_rate, noisy_error_rate

SIGMAS = np.array([0.0, 0.2, 0.5, 1.0, 1.5])


def problem(K: int, N: int = 31, P: int = 40, seed: int = 0, real: bool = False) -> tuple:
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(K, N))
    patterns = rng.normal(size=(P, N)) if real else rng.choice([-1.0, 1.0], size=(P, N))
    labels = rng.choice([-1.0, 1.0], size=P)
    return weights, patterns, labels


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("K", [1, 3, 5])
def test_exact_average_is_the_sum_over_hidden_outcomes(K: int, real: bool) -> None:
    weights, patterns, labels = problem(K, real=real)
    profile = local_energy(weights, patterns, labels, SIGMAS)
    expected = [mean_noisy_error_rate(weights, patterns, labels, s) for s in SIGMAS[1:]]
    own = error_rate(weights, patterns, labels)
    assert profile.local_energy[0] == 0
    np.testing.assert_allclose(profile.local_energy[1:], np.array(expected) - own, atol=1e-14)
    assert profile.reference_error == own
    assert profile.samples == 0 and np.all(profile.standard_error == 0)


def test_samples_agree_with_the_exact_average_within_their_error() -> None:
    weights, patterns, labels = problem(9, N=101, P=200)
    exact = local_energy(weights, patterns, labels, SIGMAS[1:])
    sampled = local_energy(weights, patterns, labels, SIGMAS[1:], samples=4000, seed=1)
    deviation = (sampled.local_energy - exact.local_energy) / sampled.standard_error
    assert np.all(np.abs(deviation) < 4)
    assert np.all(sampled.standard_error > 0)
    # The standard error equals the spread of independent repetitions.
    repeated = [
        local_energy(weights, patterns, labels, SIGMAS[1:], samples=50, seed=s).local_energy
        for s in range(200)
    ]
    ratio = np.std(repeated, axis=0) / (sampled.standard_error * np.sqrt(4000 / 50))
    assert np.all(np.abs(ratio - 1) < 0.2)


@pytest.mark.parametrize("count", [3, 130])  # within one block, over several blocks
def test_samples_are_those_of_the_obvious_loop(count: int) -> None:
    weights, patterns, labels = problem(3, N=21, P=15)
    found = sampled_noisy_errors(weights, patterns, labels, SIGMAS, count, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    z = np.concatenate(
        [
            rng.standard_normal((min(64, count - first), 3, 21), dtype=np.float32)
            for first in range(0, count, 64)
        ]
    )
    expected = [[noisy_error_rate(weights, patterns, labels, s, one) for s in SIGMAS] for one in z]
    np.testing.assert_array_equal(found, expected)


def test_large_noise_forgets_the_machine() -> None:
    weights, patterns, labels = problem(9)
    profile = local_energy(weights, patterns, labels, [1e9])
    assert profile.local_energy + profile.reference_error == pytest.approx(0.5, abs=1e-6)


def test_norm_of_a_row_and_order_of_the_rows_do_not_matter() -> None:
    weights, patterns, labels = problem(5)
    changed = (weights * np.array([[0.1], [7.0], [1.0], [3.0], [1e-4]]))[::-1]
    one = local_energy(weights, patterns, labels, SIGMAS).local_energy
    np.testing.assert_allclose(
        local_energy(changed, patterns, labels, SIGMAS).local_energy, one, atol=1e-14
    )


def test_zero_preactivation_counts_as_plus_one() -> None:
    weights, patterns = np.array([[1.0, 0.0]]), np.array([[0.0, 5.0]])
    for label, energy in ((1.0, 0.0), (-1.0, 1.0)):
        profile = local_energy(weights, patterns, [label], SIGMAS)
        np.testing.assert_array_equal(profile.reference_error + profile.local_energy, energy)
        assert not np.signbit(profile.local_energy).any() and not np.signbit(profile.at(0.3))


def test_several_machines_at_once() -> None:
    weights, patterns, labels = problem(3)
    many = np.stack([weights, weights[:, ::-1], -weights])[:, None]
    profile = local_energy(many, patterns, labels, SIGMAS)
    assert profile.local_energy.shape == (3, 1, 5) and profile.reference_error.shape == (3, 1)
    alone = local_energy(many[1, 0], patterns, labels, SIGMAS)
    np.testing.assert_array_equal(profile.local_energy[1, 0], alone.local_energy)


def test_seed_decides_the_samples() -> None:
    weights, patterns, labels = problem(3)
    draws = [
        local_energy(weights, patterns, labels, SIGMAS, samples=20, seed=s).local_energy
        for s in (1, 1, 2)
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert np.any(draws[0] != draws[2])


def test_interpolation_of_many_machines_at_many_intensities() -> None:
    weights, patterns, labels = problem(3)
    many = local_energy(np.stack([weights, -weights])[:, None], patterns, labels, SIGMAS)
    middle = (many.local_energy[..., 2] + many.local_energy[..., 3]) / 2
    np.testing.assert_allclose(many.at(0.75), middle)
    with pytest.raises(ValueError, match=r"sigma is 2\.0; numbers in \[0, 1\.5\]"):
        many.at(2.0)
    wanted = np.array([[0.0, 0.3, 1.5], [0.2, 0.9, 1.0]])
    values = many.at(wanted)
    assert values.shape == (2, 1, 2, 3)
    np.testing.assert_array_equal(values[:, :, 1, 1], many.at(0.9))
    np.testing.assert_array_equal(values[:, :, 0, 2], many.local_energy[..., -1])
    one = local_energy(weights, patterns, labels, [0.5])
    assert one.at(0.5) == one.local_energy[0] and one.at([0.5, 0.5]).shape == (2,)
    with pytest.raises(ValueError, match="sigma is 0"):
        one.at(0.4)


@pytest.mark.parametrize("samples", [None, 20])
@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_tiny_and_huge_weights(scale: float, samples: int | None) -> None:
    weights, patterns, labels = problem(3)
    plain = local_energy(weights, patterns, labels, SIGMAS, samples=samples)
    scaled = local_energy(scale * weights, patterns, labels, SIGMAS, samples=samples)
    np.testing.assert_allclose(scaled.local_energy, plain.local_energy, atol=1e-14)
    np.testing.assert_array_equal(scaled.reference_error, plain.reference_error)


def test_profile_as_a_table_and_a_line() -> None:
    weights, patterns, labels = problem(3)
    profile = local_energy(np.stack([weights, -weights]), patterns, labels, SIGMAS)
    assert repr(profile) == "LocalEnergyProfile(2 machines, 5 σ from 0 to 1.5, exact)"
    table = profile.to_frame()
    assert list(table)[2:] == ["local_energy", "local_energy_standard_error"]
    second = table[table["machine"] == 1]
    np.testing.assert_array_equal(second["local_energy"], profile.local_energy[1])
    line = profile.plot().get_lines()[0]
    np.testing.assert_allclose(line.get_ydata(), profile.local_energy.mean(axis=0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": np.ones((2, 4))}, "weights has K = 2 hidden units"),
        ({"patterns": np.ones((3, 5))}, "patterns has N = 5 inputs"),
        ({"labels": np.zeros(3)}, "labels contains 0"),
        ({"labels": np.ones(4)}, r"labels has shape \(4,\)"),
        ({"weights": np.full((1, 4), np.nan)}, "weights contains nan"),
        ({"sigmas": [-0.1]}, "sigmas is"),
        ({"sigmas": []}, "sigmas is"),
        ({"sigmas": [0.5, 0.1]}, "strictly increasing"),
        ({"samples": 1}, "samples is 1"),
    ],
)
def test_bad_input(change: dict, message: str) -> None:
    arguments = {
        "weights": np.ones((1, 4)),
        "patterns": np.ones((3, 4)),
        "labels": np.ones(3),
        "sigmas": [0.1],
    }
    with pytest.raises(ValueError, match=message):
        local_energy(**{**arguments, **change})
