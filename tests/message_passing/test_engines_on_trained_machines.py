"""The three engines side by side on machines of all five protocols (minutes; slow)."""

import pytest

import committee
from message_passing import PatternGeometry, local_entropy_curve


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["sgd-fast", "sgd-slow", "rsgd-fast", "rsgd-slow", "esgd"])
def test_deviations_from_monte_carlo(protocol, fashion_mnist_directory):
    """EP overstates |Φ_LE| by at most a third, BP by up to a factor of two and more than EP."""
    patterns = committee.load_patterns(
        "fashion-mnist", size=500, seed=0, directory=fashion_mnist_directory
    )
    trained = committee.train(patterns, protocol=protocol, restarts=4, seed=0)
    solutions = trained.weights[trained.train_error == 0]
    if not len(solutions):
        pytest.skip(f"no restart of {protocol} ended without training errors")
    geometry = PatternGeometry(patterns.train_patterns)
    mc, ep, bp = (
        local_entropy_curve(solutions[0], geometry, patterns.train_labels, engine=engine)
        for engine in ("mc", "ep", "bp")
    )
    assert mc.converged.all() and ep.converged.all() and bp.converged.all()
    for distance in (0.05, 0.15, 0.3):
        exact = mc.at(distance)
        error = 3 * mc.standard_error_at(distance) / abs(exact)
        deviation = ep.at(distance) / exact - 1
        print(f"{protocol} d={distance}: mc {exact:.3e}, ep {deviation:+.1%}")
        assert -error < deviation < 0.35 + error
        assert bp.at(distance) < ep.at(distance)
    if protocol == "sgd-fast":
        assert ep.at(0.3) / mc.at(0.3) - 1 < 0.08 + 3 * mc.standard_error_at(0.3) / abs(mc.at(0.3))


@pytest.mark.slow
def test_a_trained_machine_with_a_training_error(fashion_mnist_directory):
    """The pattern that esgd leaves wrong stays wrong nearby; every engine converges and counts."""
    patterns = committee.load_patterns(
        "fashion-mnist", size=500, seed=0, directory=fashion_mnist_directory
    )
    trained = committee.train(patterns, protocol="esgd", restarts=1, seed=0)
    if trained.train_error[0] != 1 / 500:
        pytest.skip(f"the machine makes {500 * trained.train_error[0]:.0f} training errors, not 1")
    geometry = PatternGeometry(patterns.train_patterns)
    mc, ep, bp = (
        local_entropy_curve(trained.weights[0], geometry, patterns.train_labels, engine=engine)
        for engine in ("mc", "ep", "bp")
    )
    assert mc.converged.all() and ep.converged.all() and bp.converged.all()
    for distance in (0.05, 0.15, 0.3):
        exact = mc.at(distance)
        error = 3 * mc.standard_error_at(distance) / abs(exact)
        deviation = ep.at(distance) / exact - 1
        print(f"esgd d={distance}: mc {exact:.3e}, ep {deviation:+.1%}")
        assert abs(deviation) < 0.35 + error
