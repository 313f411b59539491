"""Training: compiled kernels against literal twins, limits, seeds, stopping rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from committee import ALGORITHMS, PatternSet, error_rate, train
from committee._random import LANES
from committee.algorithms import CONTROLS, PLANNED, PUBLISHED, SGD, EntropySGD, ReplicatedSGD
from committee.entropic import equivalent_lr
from committee.machine import unit_rows
from committee.rotated_patterns import RotatedPatterns
from committee.schedules import Constant, Exponential
from committee.training import train_restart
from tests.reference import training as literal

SEED = np.random.SeedSequence(7)

# Without compilation the 64-bit sums of the noise generator wrap with a warning.
WRAPPING = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")


def pattern_set(P=60, N=31, seed=0, tests=50):
    rng = np.random.default_rng(seed)
    X = np.sign(rng.normal(size=(P + tests, N)))
    y = np.sign(X @ rng.normal(size=N))
    return PatternSet(X[:P], y[:P], X[P:], y[P:], "teacher", "i.i.d. patterns, linear teacher")


def short(name, epochs, **changes):
    algorithm = ALGORITHMS[name]
    return replace(algorithm, max_epochs=epochs, batch_size=20, **changes)


def same(machine, weights, atol):
    return np.allclose(machine.weights, unit_rows(weights), atol=atol, rtol=0)


@pytest.mark.parametrize("K", [1, 3, 5])
@pytest.mark.parametrize("N", [31, 90])  # fewer and more inputs than patterns
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_sgd_kernel_follows_its_twin(K, N, reduction):
    patterns = pattern_set(P=58, N=N)  # the last minibatch is smaller and padded
    algorithm = short("sgd-slow", 12, lr=3e-3, reduction=reduction)
    machine = train_restart(patterns, algorithm, K, SEED)
    # Twin and kernel both divide by batch_size, also for the smaller last minibatch.
    w, epochs, converged = literal.sgd(
        patterns.train_patterns, patterns.train_labels, algorithm, K, SEED
    )
    assert (machine.epochs, machine.converged) == (epochs, converged)
    assert same(machine, w, atol=2e-6)


def test_zero_error_rule_stops_at_the_same_epoch_as_the_twin():
    patterns = pattern_set(P=40)
    algorithm = short("sgd-fast", 500, lr=2e-3)
    machine = train_restart(patterns, algorithm, 3, SEED)
    w, epochs, converged = literal.sgd(
        patterns.train_patterns, patterns.train_labels, algorithm, 3, SEED
    )
    assert machine.converged and converged and machine.epochs == epochs
    assert machine.train_error == 0.0
    assert same(machine, w, atol=1e-4)


def test_cross_entropy_rule_is_met_by_the_machine_it_returns():
    patterns = pattern_set()
    algorithm = short("sgd-slow", 4000, lr=3e-3, threshold=1e-4)
    machine = train_restart(patterns, algorithm, 3, SEED)
    assert machine.converged and machine.loss < 1e-4
    before = replace(algorithm, max_epochs=machine.epochs - 1)
    assert not train_restart(patterns, before, 3, SEED).converged


@pytest.mark.parametrize("dropout", [0.2, 0.6])
def test_dropout_kernel_follows_its_twin(dropout):
    patterns = pattern_set(P=58)
    algorithm = short("sgd-slow", 8, lr=3e-3, dropout=dropout)
    machine = train_restart(patterns, algorithm, 3, SEED)
    w, _, _ = literal.sgd(patterns.train_patterns, patterns.train_labels, algorithm, 3, SEED)
    assert same(machine, w, atol=2e-6)


@pytest.mark.parametrize("period", [1, 3])
def test_rsgd_kernel_follows_its_twin(period):
    patterns = pattern_set()
    algorithm = short("rsgd-fast", 10, lr=3e-3, replicas=4, coupling_period=period)
    machine = train_restart(patterns, algorithm, 3, SEED)
    replicas, _, _ = literal.replicated_sgd(
        patterns.train_patterns, patterns.train_labels, algorithm, 3, SEED
    )
    assert same(machine, replicas.mean(axis=0), atol=3e-6)


def test_collapse_rule_stops_at_the_same_epoch_as_the_twin():
    patterns = pattern_set()
    algorithm = short(
        "rsgd-fast",
        60,
        lr=1e-3,
        replicas=3,
        elastic_scale=100.0,
        gamma=Exponential(0.1, 0.07),
        distance_threshold=1e-3,
    )
    machine = train_restart(patterns, algorithm, 3, SEED)
    replicas, epochs, converged = literal.replicated_sgd(
        patterns.train_patterns, patterns.train_labels, algorithm, 3, SEED
    )
    assert machine.converged and converged and machine.epochs == epochs
    assert same(machine, replicas.mean(axis=0), atol=1e-5)


@WRAPPING
@pytest.mark.parametrize("averaging", [0.0, 0.75])
@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize("N", [31, 64])  # an odd and an even number of weights
def test_esgd_kernel_follows_its_twin(averaging, noise, N):
    patterns = pattern_set(N=N)
    algorithm = short(
        "esgd", 5, lr=0.3, inner_lr=3e-3, noise=noise, inner_steps=5, averaging=averaging
    )
    machine = train_restart(patterns, algorithm, 3, SEED)
    rotation = RotatedPatterns(patterns, algorithm).rotation
    w, epochs, converged = literal.entropy_sgd(
        patterns.train_patterns, patterns.train_labels, algorithm, 3, SEED, rotation, LANES
    )
    assert (machine.epochs, machine.converged) == (epochs, converged)
    assert same(machine, w, atol=4e-6)


def test_esgd_stops_at_the_epoch_at_which_its_rule_is_met():
    """It does so wherever that epoch lies in a call of the kernel."""
    patterns = pattern_set()
    settings = {"lr": 0.3, "inner_lr": 3e-3, "noise": 0.0, "inner_steps": 3}
    rotation = RotatedPatterns(patterns, ALGORITHMS["esgd"]).rotation
    stops = []
    for threshold in (5.1e-4, 4.5e-4, 4.3e-4, 3e-4):
        algorithm = short("esgd", 60, distance_threshold=threshold, **settings)
        machine = train_restart(patterns, algorithm, 3, SEED)
        w, epochs, converged = literal.entropy_sgd(
            patterns.train_patterns, patterns.train_labels, algorithm, 3, SEED, rotation, LANES
        )
        assert machine.converged and converged and machine.epochs == epochs
        assert same(machine, w, atol=1e-5)
        stops.append(epochs)
    assert stops == [4, 6, 11, 23]


@pytest.mark.compiled
def test_hundreds_of_epochs_at_full_size_stay_with_the_float64_twin():
    patterns = pattern_set(P=500, N=784)
    algorithm = replace(ALGORITHMS["sgd-slow"], max_epochs=400)
    machine = train_restart(patterns, algorithm, 9, SEED)
    w, _, _ = literal.sgd(patterns.train_patterns, patterns.train_labels, algorithm, 9, SEED)
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


@pytest.mark.parametrize("name", ["rsgd-fast", "rsgd-slow"])
def test_controls_are_replicas_without_coupling_step_by_step(name):
    """At equal seeds a control equals replica 0, an uncoupled run the last. Both stop on time."""
    patterns = pattern_set()
    for epochs in (1, 2, 7):
        rsgd = short(name, epochs, lr=3e-3, replicas=10, gamma=Constant(0.0))
        X, y = patterns.train_patterns, patterns.train_labels
        replicas, _, _ = literal.replicated_sgd(X, y, rsgd, 3, SEED)
        for control, replica in ((f"control-{name}-epochs", 0), (f"{name}-uncoupled", 9)):
            machine = train_restart(patterns, short(control, epochs, lr=3e-3), 3, SEED)
            assert machine.converged and machine.epochs == epochs
            assert same(machine, replicas[replica], atol=3e-6)
        endless = short(f"control-{name}", epochs, lr=3e-3, threshold=0.0)
        machine = train_restart(patterns, endless, 3, SEED)
        assert not machine.converged and same(machine, replicas[0], atol=3e-6)


def test_controls_differ_from_their_algorithms_in_the_entropic_term_alone():
    for control, name in CONTROLS.items():
        ours, theirs = ALGORITHMS[control], PUBLISHED[name]
        passes = 20 if control == "control-esgd-sgd" else 1  # per epoch of the algorithm
        epochs = np.array([0, 1000])
        for schedule in ("beta", "omega"):
            expected = getattr(theirs, schedule)(epochs)
            np.testing.assert_allclose(getattr(ours, schedule)(passes * epochs), expected)
        assert not isinstance(ours, ReplicatedSGD) and getattr(ours, "gamma", Constant(0))(0) == 0
        assert (ours.lr == theirs.lr) == (passes == 1) and (name, control) in PLANNED
    assert {reference for _, reference in PLANNED} == {*CONTROLS, "sgd-slow"}


@pytest.mark.parametrize("averaging", [0.0, 0.75])
@pytest.mark.parametrize("strength", [0.0, 20.0])
def test_equivalent_rate_is_that_of_the_formula(averaging, strength):
    L, eta, kappa = 7, 0.3, 0.01 * strength
    path = [sum((1 - kappa) ** m for m in range(n)) for n in range(1, L + 1)]
    memory = [(1 - averaging) * averaging ** (L - n) for n in range(1, L + 1)]
    assert equivalent_lr(eta, 0.01, averaging, L, strength) == pytest.approx(
        eta * 0.01 / L * np.dot(memory, path), rel=1e-12
    )
    if averaging == strength == 0:
        assert equivalent_lr(eta, 0.01, 0.0, L) == pytest.approx(eta * 0.01)  # Lookahead


@WRAPPING
@pytest.mark.parametrize("strength", [0.0, 200.0])
def test_entropy_sgd_moves_as_sgd_at_its_equivalent_rate_under_a_constant_gradient(strength):
    """Small β and ω make the machine linear, and full minibatches are always the same."""
    patterns = pattern_set()
    constant = {"beta": Constant(0.03), "omega": Constant(1e-3), "batch_size": 60}
    esgd = replace(
        ALGORITHMS["esgd"], max_epochs=3, noise=0.0, gamma=Constant(strength), lr=0.5, **constant
    )
    L = esgd.inner_steps
    lr = equivalent_lr(esgd.lr, esgd.inner_lr, esgd.averaging, L, strength)
    sgd = SGD("sgd", 3 * L, lr, stop_at="epochs", **constant)
    start = train_restart(patterns, replace(sgd, lr=1e-30, max_epochs=1), 3, SEED).weights
    ours = train_restart(patterns, replace(esgd, distance_threshold=0.0), 3, SEED).weights - start
    theirs = train_restart(patterns, sgd, 3, SEED).weights - start
    assert np.linalg.norm(ours - theirs) < 1e-2 * np.linalg.norm(ours)
    assert np.linalg.norm(ours) > 5e-3


@pytest.mark.compiled
def test_a_single_replica_stops_where_plain_sgd_does():
    patterns = pattern_set()
    one = short("rsgd-fast", 4000, lr=3e-3, replicas=1, distance_threshold=1e-8, gamma=Constant(0))
    machine = train_restart(patterns, one, 3, SEED)
    assert machine.converged and machine.loss < 1e-7 and machine.epochs > 1
    sgd = short("sgd-slow", 4000, lr=3e-3, beta=one.beta, omega=one.omega)
    assert np.array_equal(machine.weights, train_restart(patterns, sgd, 3, SEED).weights)
    endless = replace(one, distance_threshold=0.0, max_epochs=machine.epochs + 3)
    assert train_restart(patterns, endless, 3, SEED).epochs == machine.epochs + 3


@WRAPPING
def test_langevin_noise_has_the_stated_strength():
    """Without gradient, pull and averaging, one inner step is w' = normalise(w + √η' ε z)."""
    patterns = pattern_set(P=20, N=400)
    algorithm = EntropySGD(
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
    start = train_restart(patterns, replace(algorithm, noise=0.0), 9, SEED).weights
    kicked = train_restart(patterns, algorithm, 9, SEED).weights
    size = np.sum((kicked - start) ** 2) / (9 * 399)  # the row's own direction is normalised away
    expected = algorithm.inner_lr * algorithm.noise**2
    assert abs(size / expected - 1) < 4 * np.sqrt(2 / (9 * 399))


@WRAPPING
@pytest.mark.parametrize(
    "algorithm", [short("sgd-fast", 300, lr=2e-3), short("esgd", 3)], ids=lambda p: p.name
)
def test_same_seed_same_machines_for_any_number_of_workers_and_restarts(algorithm):
    patterns = pattern_set()
    alone = train(patterns, algorithm, restarts=4, hidden_units=3, seed=5, workers=1)
    both = train(patterns, algorithm, restarts=4, hidden_units=3, seed=5, workers=2)
    fewer = train(patterns, algorithm, restarts=2, hidden_units=3, seed=5, workers=1)
    other = train(patterns, algorithm, restarts=2, hidden_units=3, seed=6, workers=1)
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
    assert repr(ensemble).startswith("TrainedEnsemble(rsgd-fast, 2 machines, K=3, N=31, ")
    table = ensemble.to_frame()
    assert table["restart"].tolist() == [0, 1] and np.array_equal(table["loss"], ensemble.loss)
    assert ensemble.plot().get_xlabel() == "test error (%)"


def test_a_constant_answer_is_flagged():
    """The first input is so large that it decides every answer."""
    patterns = pattern_set(P=20, N=5)
    large = patterns.train_patterns.copy()
    large[:, 0] = 1e6
    test = patterns.test_patterns.copy()
    blind = replace(patterns, train_patterns=large)
    options = {"restarts": 3, "hidden_units": 3, "max_epochs": 1, "workers": 1}
    ensemble = train(blind, "sgd-fast", **options)
    assert ensemble.collapsed.all() and "3 collapsed" in repr(ensemble)
    assert ensemble.to_frame()["collapsed"].all()
    test[:, 0] = 1e6
    assert train(replace(patterns, test_patterns=test), "sgd-fast", **options).collapsed.all()
    assert not train(patterns, "sgd-fast", **options).collapsed.any()
    one_label = replace(blind, train_labels=np.ones(20), test_labels=np.ones(50))
    assert not train(one_label, "sgd-fast", **options).collapsed.any()


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"algorithm": "sgd"}, "algorithm is 'sgd'; one of sgd-fast, sgd-slow"),
        ({"hidden_units": 4}, "hidden_units is 4; an odd positive number"),
        ({"restarts": 0}, "restarts is 0; a positive integer"),
        ({"algorithm": 3}, "algorithm is 3; one of sgd-fast"),
        ({"max_epochs": 0}, "max_epochs is 0; a positive integer"),
    ],
)
def test_bad_input_is_named(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        train(pattern_set(), **arguments)


def test_dropout_is_a_probability():
    with pytest.raises(ValueError, match=r"dropout is 1.0; a probability in \[0, 1\)"):
        replace(ALGORITHMS["sgd-fast"], dropout=1.0)


def test_an_elastic_schedule_that_overshoots_is_refused():
    with pytest.raises(ValueError, match="exceeds 1 from epoch 4385 on"):
        replace(ALGORITHMS["rsgd-fast"], max_epochs=6000)


def sgd_from_stream(patterns, algorithm, K, seed_sequence):
    """Literal SGD that draws its start and minibatches from one stream, as a replica does."""
    rng = np.random.default_rng(seed_sequence)
    X, y = patterns.train_patterns, patterns.train_labels
    w = literal.uniform_unit_rows(rng, K, X.shape[1])
    for epoch in range(algorithm.max_epochs):
        beta, omega = float(algorithm.beta(epoch)), float(algorithm.omega(epoch))
        for batch in literal.shuffled_minibatches(rng, len(y), algorithm.batch_size):
            w = literal.normalised(
                w - algorithm.lr * literal.gradient(w, X[batch], y[batch], beta, omega)
            )
    return w
