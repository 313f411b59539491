"""The benchmark: its example machines, measurements, table and figure."""

from __future__ import annotations

import csv

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from message_passing import local_entropy_curve
from message_passing.__main__ import main
from message_passing.benchmark import GRID, Machine, growth, measure_engine
from message_passing.example_machines import flat_machine, image_like_patterns, sharp_machine
from message_passing.figures import plot_costs
from message_passing.local_entropy import resolve_engine
from message_passing.problem import ReferenceProblem
from tests.message_passing.machines import random_machine


def test_the_sharp_machine_is_sharp_and_the_flat_one_flat():
    patterns, labels = image_like_patterns(120, 101, seed=2)
    assert np.sum(labels > 0) == 12
    curves = []
    for maker in (sharp_machine, flat_machine):
        weights = maker(patterns, labels, 5, seed=2)
        np.testing.assert_allclose(np.linalg.norm(weights, axis=1), np.sqrt(101))
        assert ReferenceProblem.from_arrays(weights, patterns, labels).training_errors == 0
        curves.append(local_entropy_curve(weights, patterns, labels, engine="bp"))
    for d in (0.02, 0.1, 0.2):
        assert curves[0].at(d) < 2 * curves[1].at(d) < 0
    again = sharp_machine(patterns, labels, 5, seed=2)
    np.testing.assert_array_equal(again, sharp_machine(patterns, labels, 5, seed=2))


def test_example_patterns_are_as_correlated_as_images():
    """The mean overlap is 0.63 and the mean squared overlap 0.41, as in reduced Fashion-MNIST."""
    patterns, _ = image_like_patterns(500, 784)
    overlap = (patterns @ patterns.T / 784)[np.triu_indices(500, 1)]
    assert abs(overlap.mean() - 0.63) < 0.05
    assert abs((overlap**2).mean() - 0.41) < 0.06


@pytest.mark.parametrize("engine", ["bp", "ep", "mc"])
def test_a_row_is_what_the_engine_gives(engine):
    machine = Machine("flat", {"K": 3, "N": 40, "P": 30}, seed=1)
    row = measure_engine(machine, engine, repeats=2, seed=0)
    assert 0 < row["seconds_min"] <= row["seconds"] <= row["seconds_max"]
    assert row["points"] == 16 and row["iterations"] > 0
    assert row["peak_memory_mib"] >= row["idle_memory_mib"] > 10
    assert (row["relative_error"] > 0) == (engine == "mc")
    problem = machine.problem()
    values = [
        local_entropy_curve(*problem, engine=resolve_engine(engine, seed)).at(row["distance"])
        for seed in (0, 1)  # one for each repeat
    ]
    assert (values[0] == values[1]) == (engine != "mc")
    assert row["local_entropy"] == pytest.approx(np.mean(values))


def test_benchmark_of_ones_own_machine(tmp_path, capsys):
    """Machines with training errors are skipped. Hardware and versions are printed."""
    weights, patterns, labels = random_machine(3, 25, 10, seed=0)
    np.savez(
        tmp_path / "mine.npz", weights=np.stack([-weights, weights]), patterns=patterns,
        labels=labels,
    )  # fmt: skip
    main(
        f"benchmark --weights {tmp_path}/mine.npz --engines bp --repeats 1 --no-scaling "
        f"--out {tmp_path}/speed".split()
    )
    printed = capsys.readouterr().out
    for word in ("processor", "numpy", "dgemm", "K=3, N=25, P=10", "mine"):
        assert word in printed
    rows = list(csv.DictReader((tmp_path / "speed" / "benchmark.csv").open()))
    curve = local_entropy_curve(weights, patterns, labels, engine="bp")
    assert len(rows) == 1
    assert float(rows[0]["local_entropy"]) == pytest.approx(
        curve.at(min(0.3, curve.distance.max())), rel=1e-4
    )
    np.savez(tmp_path / "mine.npz", weights=-weights, patterns=patterns, labels=labels)
    with pytest.raises(SystemExit, match="every machine makes training errors"):
        main(f"benchmark --weights {tmp_path}/mine.npz --engines bp".split())


def made_up_rows():
    rows = []
    for name, values in GRID.items():
        for engine in ("bp", "mc"):
            for value in values:
                size = {"K": 9, "N": 784, "P": 500, name: value}
                rows.append(
                    {"machine": f"sharp, growing {name}", "engine": engine, **size,
                     "seconds": value**2 / 1e4, "iterations": 10 * value,
                     "peak_memory_mib": 200 + value / 10}
                )  # fmt: skip
    return rows


def test_growth_is_the_exponent_between_the_last_two_sizes():
    for name in GRID:
        assert f"{name}^2.0 (per iteration as {name}^1.0)" in growth(made_up_rows(), "mc", name)


def test_costs_are_drawn():
    axes = plot_costs(pd.DataFrame(made_up_rows()), Figure().subplots(2, 3))
    for column, (name, values) in zip(axes.T, GRID.items(), strict=True):
        time, memory = column
        assert [line.get_label() for line in time.get_lines()] == [
            "belief propagation",
            "Monte Carlo",
        ]
        np.testing.assert_allclose(time.get_lines()[0].get_xdata(), values)
        np.testing.assert_allclose(time.get_lines()[1].get_ydata(), np.square(values) / 1e4)
        assert memory.get_xlabel() == name


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--engines nonsense", "engine is 'nonsense'"),
        ("--repeats 0", "repeats is 0"),
        ("--seed -1", "seed is -1"),
        ("--weights nowhere.npz", "nowhere.npz does not exist"),
    ],
)
def test_impossible_settings(options, sentence, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["benchmark", *options.split()])
    assert sentence in f"{stopped.value} {capsys.readouterr().err}"
