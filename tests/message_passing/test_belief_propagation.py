"""Belief propagation against quadrature, plain sampling and its own identities."""

import numpy as np
from scipy.special import log_ndtr

from message_passing import BeliefPropagation, local_entropy_curve
from message_passing.problem import ReferenceProblem
from tests.message_passing.machines import random_machine


def test_one_pattern_on_a_perceptron():
    """For K = P = 1, Z = Φ(|u|/√(Δ x·x/N)), up to the 1/N terms that dense messages neglect."""
    weights, patterns, labels = random_machine(1, 50, 1, seed=0, real=True)
    variances = np.array([0.05, 0.5, 3.0])
    curve = local_entropy_curve(weights, patterns, labels, engine="bp", variances=variances)
    field = abs(weights[0] @ patterns[0]) / np.linalg.norm(weights)
    spread = np.sqrt(variances * np.sum(patterns**2) / 50)
    np.testing.assert_allclose(curve.free_entropy * 50, log_ndtr(field / spread), rtol=0.05)


def test_fixed_point_solves_the_equations_in_weight_space():
    """One undamped step of the published equations leaves the fixed point unchanged."""
    weights, patterns, labels = random_machine(3, 41, 20, seed=5, real=True)
    problem = ReferenceProblem.from_arrays(weights, patterns, labels)
    engine, variance, N = BeliefPropagation(tolerance=1e-11), 0.5, 41
    start = engine.initial_messages(problem)
    messages, solution = engine.solve(problem, variance, start)
    assert solution.converged
    x = patterns / np.sqrt(N)
    w = weights * np.sqrt(N) / np.linalg.norm(weights, axis=1, keepdims=True)
    g, A = messages.gradient, messages.precision
    s = 1 / (1 / variance + A)
    m = w + variance * g @ x
    V = s @ (x**2).T
    moments = engine.node.moments(m @ x.T - V * g, V, labels)
    np.testing.assert_allclose(moments.gradient, g, atol=1e-9)
    np.testing.assert_allclose(-moments.curvature @ x**2, A, atol=1e-9)
    np.testing.assert_allclose(s * (w / variance + g @ x + A * m), m, atol=1e-9)
