"""The three engines side by side on machines of all five protocols (minutes; slow)."""

import numpy as np
import pytest

from message_passing import local_entropy_curve
from message_passing.problem import ReferenceProblem
from tests.message_passing.conftest import TRAINED

DISTANCES = np.array([0.05, 0.15, 0.3])


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "restart"), TRAINED)
def test_deviations_from_monte_carlo(protocol, restart, trained_machine):
    """EP overstates |Φ_LE| by at most a third, BP by about a factor of two, and more than EP."""
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
