"""The benchmark compares equal work and reports the hardware."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from committee import benchmark, train
from committee.algorithms import PUBLISHED
from committee.benchmark import (
    BenchmarkConfig,
    endless,
    machine_steps,
    measure_memory,
    plain_loop,
    random_problem,
    run,
)
from committee.figures import plot_training_costs
from committee.machine import loss_per_pattern
from message_passing.tools.hardware import peak_memory


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["sgd-fast", "rsgd-fast", "esgd"])
def test_plain_loop_trains_as_the_package_does(name):
    """With other random numbers, both lower the loss by the same amount."""
    patterns = random_problem(60, 40)
    epochs = 4 if name == "esgd" else 30
    algorithm = replace(endless(PUBLISHED[name]), batch_size=20, max_epochs=epochs)
    plain = plain_loop(patterns, algorithm, 5, epochs)
    ours = train(patterns, algorithm, restarts=10, hidden_units=5, workers=1).weights
    beta, omega = float(algorithm.beta(epochs)), float(algorithm.omega(epochs))

    def losses(weights):
        X, y = patterns.train_patterns, patterns.train_labels
        return np.array([loss_per_pattern(w, X, y, beta, omega).mean() for w in weights])

    if name == "rsgd-fast":  # the plain loop returns replicas, the package centres
        plain = plain.mean(axis=0, keepdims=True)
    found, expected = losses(plain).mean(), losses(ours)
    assert abs(found - expected.mean()) < 5 * expected.std(ddof=1) * np.sqrt(1 + 1 / 10)
    start = losses(np.random.default_rng(0).normal(size=(1, 5, 40)) / np.sqrt(40)).mean()
    assert found < start


def test_number_of_gradients_in_an_epoch():
    assert machine_steps(PUBLISHED["sgd-fast"], 500) == 5
    assert machine_steps(PUBLISHED["rsgd-fast"], 500) == 50
    assert machine_steps(PUBLISHED["esgd"], 500) == 100


@pytest.mark.compiled
def test_benchmark_prints_the_machine_and_writes_its_numbers(tmp_path, capsys):
    out = tmp_path / "speed.csv"
    config = {"epochs": 10, "plain_epochs": 1, "repeats": 1, "workers": 1, "scaling": False}
    rows = run(BenchmarkConfig(**config, out=out))
    printed = capsys.readouterr().out
    for word in ("processor", "numba", "torch", "sgemm", "peak memory", *PUBLISHED):
        assert word in printed
    assert len(out.read_text().splitlines()) == 1 + len(rows)
    speeds = rows[rows["quantity"].str.startswith("restart-epochs/s")]
    assert len(speeds) == 5 and (speeds[["package", "plain_loop"]] > 0).all(axis=None)


@pytest.mark.compiled
def test_memory_counts_every_process():
    patterns = random_problem(60, 40)
    algorithm = endless(PUBLISHED["rsgd-fast"])
    alone = measure_memory(patterns, algorithm, 3, workers=1, epochs=1)
    assert alone == peak_memory() > 50
    both = measure_memory(patterns, algorithm, 3, workers=2, epochs=1)
    assert both > alone + 50


def test_growth_is_measured_and_drawn(monkeypatch, capsys):
    def made_up_cost(patterns, algorithm, K, epochs, restarts, workers):
        P, N = patterns.train_patterns.shape
        return 1e-3 * K * P**2 * N**0.5 * algorithm.replicas * restarts

    grid = {"K": (3, 5), "N": (20, 40), "P": (20, 40), "replicas": (1, 2), "restarts": (1, 2)}
    monkeypatch.setattr(benchmark, "GRID", grid)
    monkeypatch.setattr(benchmark, "BASE", {"K": 3, "N": 20, "P": 20, "replicas": 2, "restarts": 1})
    monkeypatch.setattr(benchmark, "cost_per_epoch", made_up_cost)
    rows = benchmark.measure_scaling(epochs=2, workers=1)
    printed = capsys.readouterr().out
    for power in ("K^1.00", "N^0.50", "P^2.00", "replicas^1.00", "restarts^1.00"):
        assert power in printed
    assert [(row["growing"], row[row["growing"]]) for row in rows] == [
        (name, value) for name, values in grid.items() for value in values
    ]
    axes = plot_training_costs(pd.DataFrame(rows), Figure().subplots(1, 5))
    assert [ax.get_xlabel() for ax in axes] == list(grid)
    for ax, name in zip(axes, grid, strict=True):
        drawn = ax.lines[0].get_xydata()
        assert np.array_equal(
            drawn, [(r[name], r["package"]) for r in rows if r["growing"] == name]
        )


def test_whole_runs_end_by_their_stopping_rule(monkeypatch, capsys):
    quick = replace(PUBLISHED["sgd-fast"], lr=2e-3)
    monkeypatch.setattr(benchmark, "PUBLISHED", {"quick": quick})
    patterns = random_problem(20, 40)
    (row,) = benchmark.measure_whole_runs(patterns, workers=1)
    epochs = train(patterns, quick, restarts=1, workers=1).epochs[0]
    assert 1 < epochs < quick.max_epochs
    assert "1 × 50 whole restarts:" in capsys.readouterr().out
    assert row["epochs"] == str(epochs) and row["package"] > 0 and (row["P"], row["N"]) == (20, 40)
