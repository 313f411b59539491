"""Training: compiled kernels against literal twins, limits, seeds, stopping rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from committee import PROTOCOLS, PatternSet, error_rate, train
from committee._random_bits import LANES
from committee.algorithms import RotatedPatterns
from committee.machine import unit_rows
from committee.protocols import SGD, EntropySGD
from committee.schedules import Constant, Exponential
from committee.training import train_restart
from tests.reference import training as literal

SEED = np.random.SeedSequence(7)

# Without compilation the 64-bit sums of the noise's generator wrap with a warning.
WRAPPING = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")


def pattern_set(P=60, N=31, seed=0, tests=50):
    rng = np.random.default_rng(seed)
    X = np.sign(rng.normal(size=(P + tests, N)))
    y = np.sign(X @ rng.normal(size=N))
    return PatternSet(X[:P], y[:P], X[P:], y[P:], "teacher", "i.i.d. patterns, linear teacher")


def short(name, epochs, **changes):
    protocol = PROTOCOLS[name]
    return replace(protocol, max_epochs=epochs, batch_size=20, **changes)


def same(machine, weights, atol):
    return np.allclose(machine.weights, unit_rows(weights), atol=atol, rtol=0)


@pytest.mark.parametrize("K", [1, 3, 5])
@pytest.mark.parametrize("N", [31, 90])  # fewer and more inputs than patterns
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_sgd_kernel_follows_its_twin(K, N, reduction):
    patterns = pattern_set(P=58, N=N)  # the last minibatch is smaller and padded
    protocol = short("sgd-slow", 12, lr=3e-3, reduction=reduction)
    machine = train_restart(patterns, protocol, K, SEED)
    # The literal twin divides by batch_size, the smaller last batch included, like the kernel.
    w, epochs, stopped = literal.sgd(
        patterns.train_patterns, patterns.train_labels, protocol, K, SEED
    )
    assert (machine.epochs, machine.stopped) == (epochs, stopped)
    assert same(machine, w, atol=2e-6)


def test_zero_error_rule_stops_at_the_same_epoch_as_the_twin():
    patterns = pattern_set(P=40)
    protocol = short("sgd-fast", 500, lr=2e-3)
    machine = train_restart(patterns, protocol, 3, SEED)
    w, epochs, stopped = literal.sgd(
        patterns.train_patterns, patterns.train_labels, protocol, 3, SEED
    )
    assert machine.stopped and stopped and machine.epochs == epochs
    assert machine.train_error == 0.0
    assert same(machine, w, atol=1e-4)


def test_cross_entropy_rule_is_met_by_the_machine_it_returns():
    patterns = pattern_set()
    protocol = short("sgd-slow", 4000, lr=3e-3, threshold=1e-4)
    machine = train_restart(patterns, protocol, 3, SEED)
    assert machine.stopped and machine.loss < 1e-4
    before = replace(protocol, max_epochs=machine.epochs - 1)
    assert not train_restart(patterns, before, 3, SEED).stopped


@pytest.mark.parametrize("dropout", [0.2, 0.6])
def test_dropout_kernel_follows_its_twin(dropout):
    patterns = pattern_set(P=58)
    protocol = short("sgd-slow", 8, lr=3e-3)
    machine = train_restart(patterns, protocol, 3, SEED, dropout=dropout)
    w, _, _ = literal.sgd(
        patterns.train_patterns, patterns.train_labels, protocol, 3, SEED, dropout
    )
    assert same(machine, w, atol=2e-6)


@pytest.mark.parametrize("period", [1, 3])
def test_rsgd_kernel_follows_its_twin(period):
    patterns = pattern_set()
    protocol = short("rsgd-fast", 10, lr=3e-3, replicas=4, coupling_period=period)
    machine = train_restart(patterns, protocol, 3, SEED)
    replicas, _, _ = literal.replicated_sgd(
        patterns.train_patterns, patterns.train_labels, protocol, 3, SEED
    )
    assert same(machine, replicas.mean(axis=0), atol=3e-6)


def test_collapse_rule_stops_at_the_same_epoch_as_the_twin():
    patterns = pattern_set()
    protocol = short(
        "rsgd-fast",
        60,
        lr=1e-3,
        replicas=3,
        elastic_scale=100.0,
        gamma=Exponential(0.1, 0.07),
        distance_threshold=1e-3,
    )
    machine = train_restart(patterns, protocol, 3, SEED)
    replicas, epochs, stopped = literal.replicated_sgd(
        patterns.train_patterns, patterns.train_labels, protocol, 3, SEED
    )
    assert machine.stopped and stopped and machine.epochs == epochs
    assert same(machine, replicas.mean(axis=0), atol=1e-5)


@WRAPPING
@pytest.mark.parametrize("averaging", [0.0, 0.75])
@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize("N", [31, 64])  # an odd and an even number of weights
def test_esgd_kernel_follows_its_twin(averaging, noise, N):
    patterns = pattern_set(N=N)
    protocol = short(
        "esgd", 5, lr=0.3, inner_lr=3e-3, noise=noise, inner_steps=5, averaging=averaging
    )
    machine = train_restart(patterns, protocol, 3, SEED)
    rotation = RotatedPatterns(patterns, protocol, rotate=True).rotation
    w, epochs, stopped = literal.entropy_sgd(
        patterns.train_patterns, patterns.train_labels, protocol, 3, SEED, rotation, LANES
    )
    assert (machine.epochs, machine.stopped) == (epochs, stopped)
    assert same(machine, w, atol=4e-6)


def test_esgd_stops_at_the_epoch_at_which_its_rule_is_met():
    """Whatever the place of that epoch in a call of the kernel."""
    patterns = pattern_set()
    settings = {"lr": 0.3, "inner_lr": 3e-3, "noise": 0.0, "inner_steps": 3}
    rotation = RotatedPatterns(patterns, PROTOCOLS["esgd"], rotate=True).rotation
    stops = []
    for threshold in (5.1e-4, 4.5e-4, 4.3e-4, 3e-4):
        protocol = short("esgd", 60, distance_threshold=threshold, **settings)
        machine = train_restart(patterns, protocol, 3, SEED)
        w, epochs, stopped = literal.entropy_sgd(
            patterns.train_patterns, patterns.train_labels, protocol, 3, SEED, rotation, LANES
        )
        assert machine.stopped and stopped and machine.epochs == epochs
        assert same(machine, w, atol=1e-5)
        stops.append(epochs)
    assert stops == [4, 6, 11, 23]


@pytest.mark.compiled
def test_hundreds_of_epochs_at_full_size_stay_with_the_float64_twin():
    patterns = pattern_set(P=500, N=784)
    protocol = replace(PROTOCOLS["sgd-slow"], max_epochs=400)
    machine = train_restart(patterns, protocol, 9, SEED)
    w, _, _ = literal.sgd(patterns.train_patterns, patterns.train_labels, protocol, 9, SEED)
    assert same(machine, w, atol=2e-5)


@pytest.mark.parametrize("change", [{"replicas": 1}, {"gamma": Constant(0.0)}])
def test_rsgd_without_partners_or_coupling_is_sgd(change):
    patterns = pattern_set()
    rsgd = short("rsgd-fast", 6, lr=3e-3, **{"replicas": 3, "distance_threshold": 0.0, **change})
    sgd = SGD(
        name="sgd",
        lr=rsgd.lr,
        beta=rsgd.beta,
        omega=rsgd.omega,
        max_epochs=6,
        batch_size=20,
        stop_at="cross-entropy",
        threshold=1e-300,
    )
    children = [np.random.SeedSequence(SEED.entropy, spawn_key=(a,)) for a in range(rsgd.replicas)]
    alone = [sgd_from_stream(patterns, sgd, 3, child) for child in children]
    together = train_restart(patterns, replace(rsgd, max_epochs=6), 3, SEED)
    assert same(together, np.mean(alone, axis=0), atol=3e-6)


@WRAPPING
def test_langevin_noise_has_the_stated_strength():
    """Without gradient, pull and averaging, one inner step is w' = normalise(w + √η' ε z)."""
    patterns = pattern_set(P=20, N=400)
    protocol = EntropySGD(
        name="noise",
        lr=1.0,
        beta=Constant(1e-6),
        omega=Constant(1e-6),
        max_epochs=1,
        batch_size=20,
        gamma=Constant(0.0),
        inner_lr=1e-4,
        noise=0.1,
        averaging=0.0,
        inner_steps=1,
        distance_threshold=1e-30,
    )
    start = train_restart(patterns, replace(protocol, noise=0.0), 9, SEED).weights
    kicked = train_restart(patterns, protocol, 9, SEED).weights
    size = np.sum((kicked - start) ** 2) / (9 * 399)  # the row's own direction is normalised away
    expected = protocol.inner_lr * protocol.noise**2
    assert abs(size / expected - 1) < 4 * np.sqrt(2 / (9 * 399))


@WRAPPING
@pytest.mark.parametrize(
    "protocol", [short("sgd-fast", 300, lr=2e-3), short("esgd", 3)], ids=lambda p: p.name
)
def test_same_seed_same_machines_for_any_number_of_workers_and_restarts(protocol):
    patterns = pattern_set()
    alone = train(patterns, protocol, restarts=4, hidden_units=3, seed=5, workers=1)
    both = train(patterns, protocol, restarts=4, hidden_units=3, seed=5, workers=2)
    fewer = train(patterns, protocol, restarts=2, hidden_units=3, seed=5, workers=1)
    other = train(patterns, protocol, restarts=2, hidden_units=3, seed=6, workers=1)
    assert np.array_equal(alone.weights, both.weights)
    assert np.array_equal(alone.weights[:2], fewer.weights)
    assert not np.array_equal(other.weights, fewer.weights)
    assert not np.array_equal(alone.weights[0], alone.weights[1])


def test_result_describes_the_machines():
    patterns = pattern_set()
    ensemble = train(
        patterns, short("rsgd-fast", 50, replicas=2, lr=2e-3), restarts=2, hidden_units=3, workers=1
    )
    assert ensemble.weights.shape == (2, 3, 31) and len(ensemble) == 2
    assert np.allclose(np.linalg.norm(ensemble.weights, axis=-1), 1)
    expected = error_rate(ensemble.weights, patterns.test_patterns, patterns.test_labels)
    assert np.array_equal(ensemble.test_error, expected)


def test_training_a_restart_twice_with_one_seed_sequence_gives_one_machine():
    patterns = pattern_set()
    protocol = short("sgd-fast", 20)
    first = train_restart(patterns, protocol, 3, SEED)
    second = train_restart(patterns, protocol, 3, SEED)
    assert np.array_equal(first.weights, second.weights)


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"protocol": "sgd"}, "protocol is 'sgd'; one of sgd-fast, sgd-slow"),
        ({"hidden_units": 4}, "hidden_units is 4; an odd positive number"),
        ({"restarts": 0}, "restarts is 0; a positive integer"),
        ({"dropout": 1.0}, r"dropout is 1.0; a probability in \[0, 1\)"),
        ({"dropout": 0.1, "protocol": "esgd"}, "it goes with SGD only"),
        ({"max_epochs": 0}, "max_epochs is 0; a positive integer"),
    ],
)
def test_bad_input_is_named(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        train(pattern_set(), **arguments)


def test_an_elastic_schedule_that_overshoots_is_refused():
    with pytest.raises(ValueError, match="exceeds 1 from epoch 4385 on"):
        replace(PROTOCOLS["rsgd-fast"], max_epochs=6000)


def sgd_from_stream(patterns, protocol, K, seed_sequence):
    """Literal SGD whose start and minibatches come from one stream, as a replica's do."""
    rng = np.random.default_rng(seed_sequence)
    X, y = patterns.train_patterns, patterns.train_labels
    w = literal.uniform_unit_rows(rng, K, X.shape[1])
    for epoch in range(protocol.max_epochs):
        beta, omega = float(protocol.beta(epoch)), float(protocol.omega(epoch))
        for batch in literal.shuffled_minibatches(rng, len(y), protocol.batch_size):
            w = literal.normalised(
                w - protocol.lr * literal.gradient(w, X[batch], y[batch], beta, omega)
            )
    return w
