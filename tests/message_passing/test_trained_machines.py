"""Trained machines: samplers (slices, Gibbs, whole weights) and deterministic engines agree."""

import numpy as np
import pytest

from message_passing import MonteCarlo, local_entropy_curve
from message_passing.problem import ReferenceProblem
from tests.message_passing.conftest import TRAINED
from tests.message_passing.machines import random_machine
from tests.reference.gibbs_sampling import displacement, gibbs_sweep
from tests.reference.plain_sampling import sample_solutions

#: Distances of about 0.005, 0.05, 0.15 and 0.3. Gibbs sampling uses the last three.
VARIANCES = np.array([0.01, 0.1, 0.3, 0.6])
DISTANCES = np.array([0.05, 0.15, 0.3])


@pytest.mark.compiled
@pytest.mark.parametrize("errors", [0, 2])
def test_compiled_gibbs_sampling_is_gibbs_sampling(errors):
    weights, patterns, labels = random_machine(3, 11, 24, seed=7, correlation=0.4)
    labels = labels.copy()
    labels[:errors] *= -1
    variance = 0.15
    r, r_error = displacement(weights, patterns, labels, variance, 8000, seed=0, errors=errors)
    _, _, plain, plain_error = sample_solutions(
        weights, patterns, labels, variance, 8000, seed=2, errors=errors
    )
    assert max(r_error, plain_error) < 0.02 and abs(r - plain) < 4 * np.hypot(r_error, plain_error)
    centre = weights * np.sqrt(11) / np.linalg.norm(weights, axis=1, keepdims=True)
    rng, state, values = np.random.default_rng(1), centre.copy(), []
    for _ in range(600):
        gibbs_sweep(state, centre, patterns, labels, variance, rng, errors)
        values.append(np.sum((state - centre) ** 2) / (33 * variance))
    batches = np.reshape(values[100:], (20, 25)).mean(axis=1)
    slow_error = batches.std(ddof=1) / np.sqrt(20)
    assert slow_error < 0.03 and abs(r - batches.mean()) < 4 * np.hypot(r_error, slow_error)
    assert 1 - r > 4 * np.hypot(r_error, plain_error)  # the constraints matter


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.parametrize(("protocol", "restart"), TRAINED)
def test_samplers_agree_on_trained_machines(protocol, restart, trained_machine):
    weights, geometry, labels = trained_machine(protocol, restart)
    patterns, size = geometry.patterns, weights.size
    errors = ReferenceProblem.from_arrays(weights, geometry, labels).training_errors
    mc = local_entropy_curve(
        weights, geometry, labels, engine=MonteCarlo(draws=20000), variances=VARIANCES
    )
    assert mc.converged.all()
    log_z, log_z_error = mc.free_entropy * size, mc.standard_error * size
    print(f"\n{protocol} {restart}: {errors} errors, log Z = {log_z}")

    # Whole weights, at the largest Δ where enough of them are solutions.
    point = np.flatnonzero(log_z > -3.5)[-1]
    direct, direct_error, *_ = sample_solutions(
        weights, patterns, labels, VARIANCES[point], 8000, seed=3, errors=errors
    )
    total = np.hypot(direct_error, log_z_error[point])
    print(f"  log Z at Δ={VARIANCES[point]}: direct {direct:.3f} ± {direct_error:.3f}")
    assert total < 0.1 * abs(direct)
    assert abs(direct - log_z[point]) < 4 * total

    # Gibbs sampling gives the displacement at each Δ.
    found = [
        displacement(weights, patterns, labels, variance, 2400, seed=4, errors=errors)
        for variance in VARIANCES[1:]
    ]
    gibbs, gibbs_error = np.transpose(found)
    total = np.hypot(gibbs_error, 2 * mc.distance_error[1:] / VARIANCES[1:])
    print(f"  r − 1: Gibbs {gibbs - 1} ± {gibbs_error}, slices {mc.displacement[1:] - 1} ± {total}")
    assert np.all(total < 2e-3)
    assert np.all(np.abs(gibbs - mc.displacement[1:]) < 4 * total)

    # Sharper: its integral gives the change of log Z, by ∂log Z/∂log Δ = KN (r − 1)/2 (trapezoid).
    weight = 0.5 * size * np.convolve(np.diff(np.log(VARIANCES[1:])), [0.5, 0.5])
    integral = weight @ (gibbs - 1)
    change = log_z[3] - log_z[1]
    total = np.sqrt(
        np.sum((weight * gibbs_error) ** 2) + log_z_error[3] ** 2 + (0.02 * change) ** 2
    )
    print(f"  log Z(Δ=0.6) − log Z(Δ=0.1): Gibbs {integral:.3f}, slices {change:.3f} ± {total:.3f}")
    assert total < 0.12 * abs(change)
    assert abs(integral - change) < 4 * total


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "restart"), TRAINED)
def test_deviations_from_monte_carlo(protocol, restart, trained_machine):
    """EP overstates |Φ_LE| by at most a third. BP overstates it more, by about a factor of two."""
    machine = trained_machine(protocol, restart)
    errors = ReferenceProblem.from_arrays(*machine).training_errors
    mc, ep, bp = (local_entropy_curve(*machine, engine=engine) for engine in ("mc", "ep", "bp"))
    assert mc.converged.all() and ep.converged.all() and bp.converged.all()
    exact = mc.at(DISTANCES)
    error = 3 * mc.standard_error_at(DISTANCES) / np.abs(exact)
    assert np.all(error < 0.15)
    from_ep, from_bp = (curve.at(DISTANCES) / exact - 1 for curve in (ep, bp))
    print(f"\n{protocol} {restart}, {errors} errors: mc {exact} ± {error / 3} (relative)")
    print(f"  ep/mc − 1 {from_ep}, bp/mc − 1 {from_bp}")
    assert np.all(from_ep < (0.08 if protocol == "sgd-fast" else 0.35) + error)
    assert np.all(from_ep > -error - (0.35 if errors else 0.0))
    if not errors:
        assert np.all(from_bp > from_ep) and np.all(from_bp < 1.5 + error)
