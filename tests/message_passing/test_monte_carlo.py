"""Monte Carlo against known answers: one pattern, quadrature, orthogonal patterns."""

import numpy as np
import pytest
from scipy.linalg import hadamard

from message_passing import MonteCarlo, local_entropy_curve
from message_passing import _kernels_monte_carlo as kernels
from message_passing.chain_statistics import jackknife, with_and_without
from message_passing.output_node import Majority
from message_passing.problem import ReferenceProblem
from tests.message_passing.machines import answers, random_machine
from tests.reference.gibbs_sampling import gibbs_sweep
from tests.reference.plain_sampling import sample_solutions

SMALL = {"draws": 1600, "steps": 60}


def orthogonal_machine(K, N, seed):
    """N orthogonal patterns of N inputs. Their preactivations are independent."""
    weights = np.random.default_rng(seed).standard_normal((K, N))
    patterns = hadamard(N).astype(float)
    return weights, patterns, answers(weights, patterns)


def exact_free_entropy(weights, patterns, labels, variances):
    """φ for orthogonal patterns: Z = Π_μ Z_μ, with Z_μ the output node's evidence at the prior."""
    problem = ReferenceProblem.from_arrays(weights, patterns, labels)
    ones = np.ones_like(problem.preactivations)
    values = [
        Majority().moments(problem.preactivations, v * ones, labels).log_evidence for v in variances
    ]
    return np.sum(values, axis=1) / problem.size


@pytest.mark.parametrize("K", [1, 3])
def test_one_pattern(K):
    weights, patterns, labels = random_machine(K, 7, 1, seed=3, real=True)
    problem = ReferenceProblem.from_arrays(weights, patterns, labels)
    variances = np.array([0.05, 0.5, 5.0])
    curve = local_entropy_curve(
        weights, patterns, labels, engine=MonteCarlo(draws=40000), variances=variances
    )
    spread = np.full((K, 1), np.sum(patterns**2) / 7)
    for i, variance in enumerate(variances):
        log_z = (
            Majority().moments(problem.preactivations, variance * spread, labels).log_evidence[0]
        )
        assert curve.free_entropy[i] * problem.size == pytest.approx(
            log_z, abs=4 * curve.standard_error[i] * problem.size
        )


@pytest.mark.parametrize("N", [2, 3])
def test_few_weights_by_quadrature(N):
    weights, patterns, labels = random_machine(1, N, 4, seed=N, real=True)
    variance = 0.8
    curve = local_entropy_curve(
        weights, patterns, labels, engine=MonteCarlo(draws=40000), variances=[variance]
    )
    axis = np.linspace(-7, 7, {2: 1401, 3: 241}[N])
    z = np.stack(np.meshgrid(*[axis] * N, indexing="ij"), axis=-1).reshape(-1, N)
    centre = weights * np.sqrt(N) / np.linalg.norm(weights)
    good = np.all((centre + np.sqrt(variance) * z) @ (patterns * labels[:, None]).T >= 0, axis=1)
    density = np.exp(-0.5 * np.sum(z**2, axis=1))
    exact = np.log(np.sum(density[good]) / np.sum(density))
    r = np.sum(np.sum(z[good] ** 2, axis=1) * density[good]) / np.sum(density[good]) / N
    assert curve.free_entropy[0] * N == pytest.approx(
        exact, abs=4 * curve.standard_error[0] * N + 0.01
    )
    error = 2 * curve.distance_error[0] / variance
    assert curve.displacement[0] == pytest.approx(r, abs=4 * error + 0.01)


@pytest.mark.compiled
@pytest.mark.parametrize("K", [1, 3])
def test_error_bars_are_honest(K):
    """Over 24 seeds, deviations from the exact answer are as large as their standard errors."""
    machine = orthogonal_machine(K, 32, seed=8)
    variances = np.array([0.05, 0.3, 1.0, 3.0])
    exact = exact_free_entropy(*machine, variances)
    assert exact[-1] * 32 * K < -8  # far below what direct sampling reaches
    scores, slopes = [], []
    for seed in range(24):
        engine = MonteCarlo(seed=seed, draws=1600, longest_burn_in=2560)
        curve = local_entropy_curve(*machine, engine=engine, variances=variances)
        assert curve.converged.all()
        scores.append((curve.free_entropy - exact) / curve.standard_error)
        step = 1e-4
        slope = (exact_free_entropy(*machine, variances * (1 + step)) - exact) / step
        slopes.append((curve.displacement - 1 - 2 * slope) * variances / 2 / curve.distance_error)
    for deviations in np.array(scores).T, np.array(slopes).T:
        for point in deviations:
            assert abs(point.mean()) < 4 * 1.1 / np.sqrt(24)
            assert 0.65 < np.sqrt(np.mean(point**2)) < 1.65  # Student's t with 15 degrees: 1.07


@pytest.mark.parametrize("errors", [0, 1, 3])
def test_agrees_with_plain_sampling_of_whole_weights(errors):
    """A reference with E errors counts machines with at most E errors."""
    weights, patterns, labels = random_machine(3, 15, 20, seed=2, correlation=0.4)
    machine = weights, patterns, labels * np.where(np.arange(20) < errors, -1.0, 1.0)
    variance = 0.2
    curve = local_entropy_curve(*machine, engine="mc", variances=[variance / 2, variance])
    log_z, error, r, r_error = sample_solutions(*machine, variance, 30000, seed=5, errors=errors)
    assert curve.free_entropy[1] * 45 == pytest.approx(
        log_z, abs=4 * np.hypot(error, curve.standard_error[1] * 45)
    )
    r_mc_error = 2 * curve.distance_error[1] / variance
    assert curve.displacement[1] == pytest.approx(r, abs=4 * np.hypot(r_error, r_mc_error))


@pytest.mark.compiled
def test_slices_agree_with_gibbs_sampling_of_single_weights():
    """The mean squared displacements agree where log Z is too small for plain sampling."""
    weights, patterns, labels = random_machine(3, 15, 40, seed=7, correlation=0.4)
    variance = 1.0
    curve = local_entropy_curve(
        weights, patterns, labels, engine=MonteCarlo(steps=400), variances=[0.02, 0.2, variance]
    )
    centre = weights * np.sqrt(15) / np.linalg.norm(weights, axis=1, keepdims=True)
    rng, state, values = np.random.default_rng(0), centre.copy(), []
    for sweep in range(600):
        gibbs_sweep(state, centre, patterns, labels, variance, rng)
        if sweep >= 80:
            values.append(np.sum((state - centre) ** 2) / (45 * variance))
    blocks = np.reshape(values, (20, 26)).mean(axis=1)
    error = blocks.std(ddof=1) / np.sqrt(len(blocks))
    total = np.hypot(error, 2 * curve.distance_error[2] / variance)
    assert total < 0.05
    assert curve.displacement[2] == pytest.approx(blocks.mean(), abs=4 * total)
    assert curve.free_entropy[2] * 45 < -4


@pytest.mark.parametrize("allowed", [0, 2])
def test_arcs_are_where_at_most_the_allowed_patterns_are_wrong(allowed):
    rng = np.random.default_rng(1)
    P = 12
    for _ in range(20):
        offsets, fresh = rng.standard_normal((2, P))
        fields = 1.5 * rng.standard_normal(P)
        labels = np.where(fields + offsets >= 0, 1.0, -1.0)
        decisive = rng.random(P) < 0.7
        angles, changes = np.empty(2 * P), np.empty(2 * P, dtype=np.int64)
        found, wrong = kernels.wrong_events(
            fields, offsets, fresh, labels, decisive, angles, changes
        )
        starts, stops = np.empty(2 * P + 1), np.empty(2 * P + 1)
        arcs = kernels.allowed_arcs(angles[:found], changes[:found], wrong, allowed, starts, stops)
        grid = np.linspace(1e-4, 2 * np.pi - 1e-4, 3000)
        inside = np.zeros(len(grid), dtype=bool)
        near = np.zeros(len(grid), dtype=bool)
        for start, stop in zip(starts[:arcs], stops[:arcs], strict=True):
            inside |= (grid >= start) & (grid < stop)
            near |= (abs(grid - start) < 1e-9) | (abs(grid - stop) < 1e-9)
        u = fields[:, None] + np.outer(offsets, np.cos(grid)) + np.outer(fresh, np.sin(grid))
        mistaken = np.where(u >= 0, 1, -1) != labels[:, None]
        expected = np.sum(mistaken & decisive[:, None], axis=0) <= allowed
        assert wrong == 0 and np.all((inside == expected) | near)


def test_states_with_more_errors_than_allowed_are_told_apart():
    """P is below, at and above the kernel's group size. A zero preactivation counts as +1."""
    rng = np.random.default_rng(3)
    K, G = 3, kernels.PATTERNS_AT_ONCE
    for P in (1, G - 1, G, G + 1, 3 * G + 5):
        preactivations, offsets = rng.integers(-2, 3, (2, K, P)).astype(float)
        u = preactivations + 0.5 * offsets
        assert P == 1 or np.any(u == 0)
        labels = np.where(np.sum(u >= 0, axis=0) > K / 2, 1.0, -1.0)
        for errors in range(min(P, 4)):
            wrong = rng.choice(P, errors, replace=False)
            mistaken = labels * np.where(np.isin(np.arange(P), wrong), -1.0, 1.0)
            for allowed in range(4):
                found = kernels.is_allowed(preactivations, offsets, 0.5, mistaken, allowed)
                assert found == (errors <= allowed)


def test_state_of_a_chain_stays_a_solution_and_matches_its_offsets():
    machine = random_machine(3, 15, 12, seed=4)
    problem = ReferenceProblem.from_arrays(*machine)
    factor = np.ascontiguousarray(problem.geometry.factor.T)
    white, survivor = np.zeros((2, 3, len(factor)))
    scales = np.array([1.5, 1.0])
    for seed in range(3):
        survivals = np.zeros((2, 2))
        kernels.slice_steps(
            problem.preactivations, problem.labels, factor, 0.5, 0, 20, white, scales,
            np.random.default_rng(seed), survivals, np.zeros((2, 2)), survivor,
        )  # fmt: skip
        assert np.any(white != 0)
        assert np.all(survivals[:, 1] == 10)
        assert 0 < survivals[:, 0].sum() < 20
        for state, scale in ((white, 1.0), (survivor, 1.0), (survivor, 1.5)):
            offsets = np.sqrt(0.5) * state @ factor
            assert kernels.is_allowed(problem.preactivations, offsets, scale, problem.labels, 0)
    # A chain without a survivor keeps the given one.
    survivor = np.full((3, len(factor)), 7.0)
    kernels.slice_steps(
        problem.preactivations, problem.labels, factor, 0.5, 0, 20, np.zeros((3, len(factor))),
        np.array([-1e9]), np.random.default_rng(0), np.zeros((2, 1)), np.zeros((2, 2)), survivor,
    )  # fmt: skip
    assert np.all(survivor == 7.0)


def test_same_seed_same_result():
    machine = random_machine(3, 15, 20, seed=2, correlation=0.4)
    engine = MonteCarlo(seed=5, **SMALL)
    first, second = (
        local_entropy_curve(*machine, engine=engine, variances=[0.1, 2.0]) for _ in range(2)
    )
    np.testing.assert_array_equal(first.local_entropy, second.local_entropy)
    other = local_entropy_curve(*machine, engine=MonteCarlo(seed=6, **SMALL), variances=[0.1, 2.0])
    assert np.all(other.local_entropy != first.local_entropy)


def test_jackknife_of_a_mean_is_the_standard_error():
    blocks = np.random.default_rng(0).standard_normal(12)
    estimate, error = jackknife(with_and_without(blocks))
    assert estimate == pytest.approx(blocks.mean())
    assert error == pytest.approx(blocks.std(ddof=1) / np.sqrt(12))


@pytest.mark.slow
def test_errors_of_distances_on_independent_systems():
    """r deviates from 1 + (2/KN) ∂log Z/∂log Δ by Student's t with 15 degrees: E[t²] = 15/13.

    A point gives a false alarm about convergence with probability 1e-3. More than three alarms in
    480 points occur with probability 0.002. Points with an alarm stay in the mean.
    """
    squares, alarms = [], 0
    for seed in range(240):
        K, N = (1, 3, 5, 9)[seed % 4], (8, 16, 32)[seed % 3]
        weights, patterns, labels = orthogonal_machine(K, N, seed)
        problem = ReferenceProblem.from_arrays(weights, patterns, labels)
        variances = np.array([1.5, 4.0])
        found = MonteCarlo(seed=seed, draws=1600).ladder(problem, variances)
        alarms += np.count_nonzero(~found.converged)
        step = 1e-4
        low, high = (
            exact_free_entropy(weights, patterns, labels, variances * (1 + s))
            for s in (-step, step)
        )
        exact = 1 + 2 * (high - low) / (2 * step)
        chains = found.iterations != 1600
        squares += (((found.displacement - exact) / found.displacement_error)[chains] ** 2).tolist()
    assert len(squares) > 200 and alarms <= 3
    error = np.std(squares) / np.sqrt(len(squares))
    print(f"mean z² {np.mean(squares):.2f} ± {error:.2f} on {len(squares)} points, {alarms} alarms")
    assert abs(np.mean(squares) - 15 / 13) < 4 * error


def test_a_bar_shows_the_points_of_a_curve(capsys):
    machine = random_machine(3, 31, 20, seed=2)
    for engine in ("ep", MonteCarlo(**SMALL)):
        local_entropy_curve(*machine, engine=engine, variances=[0.5, 4.0], progress=True)
    shown = capsys.readouterr().err
    assert "ep" in shown and "2/2" in shown and "mc" in shown
