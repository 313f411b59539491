"""The benchmark compares like with like, and says on what it was made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from committee import PROTOCOLS, train
from committee.benchmark import (
    BenchmarkConfig,
    endless,
    machine_steps,
    plain_loop,
    random_problem,
    run,
)
from committee.machine import loss_per_pattern


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["sgd-fast", "rsgd-fast", "esgd"])
def test_plain_loop_trains_as_the_package_does(name):
    """Other random numbers, the same decrease of the loss."""
    patterns = random_problem(60, 40)
    epochs = 4 if name == "esgd" else 30
    protocol = replace(endless(PROTOCOLS[name]), batch_size=20, max_epochs=epochs)
    plain = plain_loop(patterns, protocol, 5, epochs)
    ours = train(patterns, protocol, restarts=10, hidden_units=5, workers=1).weights
    beta, omega = float(protocol.beta(epochs)), float(protocol.omega(epochs))

    def losses(weights):
        X, y = patterns.train_patterns, patterns.train_labels
        return np.array([loss_per_pattern(w, X, y, beta, omega).mean() for w in weights])

    if name == "rsgd-fast":  # replicas of the plain loop, centres of the package
        plain = plain.mean(axis=0, keepdims=True)
    found, expected = losses(plain).mean(), losses(ours)
    assert abs(found - expected.mean()) < 5 * expected.std(ddof=1) * np.sqrt(1 + 1 / 10)
    start = losses(np.random.default_rng(0).normal(size=(1, 5, 40)) / np.sqrt(40)).mean()
    assert found < start


def test_number_of_gradients_in_an_epoch():
    assert machine_steps(PROTOCOLS["sgd-fast"], 500) == 5
    assert machine_steps(PROTOCOLS["rsgd-fast"], 500) == 50
    assert machine_steps(PROTOCOLS["esgd"], 500) == 100


@pytest.mark.compiled
def test_benchmark_prints_the_machine_and_writes_its_numbers(tmp_path, capsys):
    out = tmp_path / "speed.csv"
    rows = run(
        BenchmarkConfig(epochs=10, plain_epochs=1, repeats=1, workers=1, scaling=False, out=out)
    )
    printed = capsys.readouterr().out
    for word in ("processor", "numba", "torch", "sgemm", *PROTOCOLS):
        assert word in printed
    assert len(rows) == 5 and len(out.read_text().splitlines()) == 6
    assert all(row["package"] > 0 and row["plain_loop"] > 0 for row in rows)
