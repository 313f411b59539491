"""On problems of many kinds and sizes each engine converges, or warns that it did not."""

import warnings

import numpy as np
import pytest

from committee import load_patterns
from message_passing import MonteCarlo, local_entropy_curve
from message_passing.example_machines import image_like_patterns, sharp_machine
from message_passing.problem import ReferenceProblem
from tests.message_passing.conftest import TRAINED
from tests.message_passing.machines import answers, random_machine

ENGINES = ("bp", "ep", "mc")
#: They reach distances of about 0.5.
VARIANCES = (0.01, 0.1, 0.5, 1.1)
#: These chains must warn where they are too short.
SHORT_CHAINS = MonteCarlo(draws=2000, steps=40, longest_burn_in=80)


def duplicates():
    weights, patterns, labels = random_machine(3, 40, 24, seed=1)
    return weights, np.repeat(patterns, 2, axis=0), np.repeat(labels, 2)


def contradicting_neighbours():
    """Pairs of patterns that differ in one input and have opposite labels."""
    weights, patterns, labels = random_machine(3, 40, 12, seed=2)
    pairs = []
    for pattern, label in zip(patterns, labels, strict=True):
        near = pattern.copy()
        for i in range(len(near)):
            before = near.copy()
            near[i] *= -1
            if answers(weights, near[None])[0] != label:
                pairs += [before, near]
                break
    patterns = np.array(pairs)
    labels = answers(weights, patterns)
    assert len(pairs) >= 12 and np.all(labels[::2] != labels[1::2])
    return weights, patterns, labels


def the_same_pattern_with_both_labels():
    """One training error is unavoidable."""
    weights, patterns, labels = random_machine(3, 40, 24, seed=3)
    return weights, np.vstack([patterns, patterns[:1]]), np.append(labels, -labels[0])


def zero_margin():
    rng = np.random.default_rng(0)
    weights, patterns, _ = random_machine(3, 40, 24, seed=1)
    weights = np.where(weights > 0, 1.0, -1.0)
    patterns[0] = 1.0
    weights[:, :20], weights[:, 20:] = 1.0, -1.0
    weights[1:] *= rng.choice([-1.0, 1.0], (2, 40))
    assert np.any(weights @ patterns.T == 0)
    return weights, patterns, answers(weights, patterns)


def one_label():
    weights, patterns, labels = random_machine(3, 40, 24, seed=1)
    return weights, patterns * labels[:, None], np.ones(24)


def one_percent():
    weights, patterns, labels = random_machine(3, 100, 100, seed=4)
    labels_wanted = np.where(np.arange(100) == 0, 1.0, -1.0)
    return weights, patterns * (labels * labels_wanted)[:, None], labels_wanted


def a_pattern_of_zeros():
    weights, patterns, _ = random_machine(3, 40, 24, seed=5, real=True)
    patterns[3] = 0.0
    return weights, patterns, answers(weights, patterns)


def patterns_of_all_sizes():
    """Real inputs; the norms of the patterns span a factor of 10⁴."""
    weights, patterns, labels = random_machine(3, 40, 24, seed=6, real=True)
    return weights, patterns * np.geomspace(0.01, 100, 24)[:, None], labels


def hidden_manifold():
    patterns = load_patterns("hidden-manifold", size=40, seed=0)
    X, y = patterns.train_patterns, patterns.train_labels
    return sharp_machine(X, y, 3), X, y


def images(K, N, P):
    X, y = image_like_patterns(P, N)
    return sharp_machine(X, y, K), X, y


SMALL = {
    "one pattern, perceptron": lambda: random_machine(1, 10, 1, seed=1),
    "one pattern": lambda: random_machine(3, 10, 1, seed=1),
    "one pattern, many units": lambda: random_machine(21, 10, 1, seed=1),
    "more patterns than inputs": lambda: random_machine(3, 10, 60, seed=1, correlation=0.3),
    "many units": lambda: random_machine(21, 30, 20, seed=1),
    "nine units": lambda: random_machine(9, 40, 30, seed=1, correlation=0.6),
    "perceptron": lambda: random_machine(1, 100, 60, seed=1, real=True),
    "many inputs": lambda: random_machine(3, 3000, 20, seed=1, correlation=0.5),
    "hidden manifold": hidden_manifold,
    "duplicates": duplicates,
    "contradicting neighbours": contradicting_neighbours,
    "both labels": the_same_pattern_with_both_labels,
    "zero margin": zero_margin,
    "one label": one_label,
    "one percent": one_percent,
    "pattern of zeros": a_pattern_of_zeros,
    "patterns of all sizes": patterns_of_all_sizes,
}

BIG = {
    "many patterns": lambda: images(3, 784, 2000),
    "many patterns, few inputs": lambda: random_machine(9, 10, 2000, seed=1, real=True),
    "many inputs": lambda: images(9, 3000, 500),
    "twenty-one units": lambda: images(21, 784, 500),
    "perceptron": lambda: random_machine(1, 3000, 500, seed=1),
    "teacher": lambda: random_machine(9, 784, 500, seed=1),
}

#: Here log Z is below −200: Monte Carlo gets fewer patterns, and its short chains warn.
FEWER_FOR_MC = {
    "many patterns, few inputs": lambda: random_machine(9, 10, 300, seed=1, real=True),
    "teacher": lambda: random_machine(9, 784, 250, seed=1),
}


def measured(machine, engine, variances=VARIANCES):
    """The curve, after checks: finite numbers, right signs, a warning only if it is due."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        curve = local_entropy_curve(*machine, engine=engine, variances=variances)
    said = [str(warning.message) for warning in caught]
    assert any("did not converge" in text for text in said) == (not curve.converged.all())
    assert all("did not converge" in text for text in said)  # no other warning
    for name in ("distance", "local_entropy", "free_entropy", "residual", "standard_error"):
        assert np.all(np.isfinite(getattr(curve, name)))
    good = curve.converged
    assert np.all(curve.free_entropy[good] <= 1e-12)
    # Φ_LE ≤ 0, up to noise and corrections of order 1/N.
    allowed = 4 * curve.standard_error + 0.02 * np.abs(curve.free_entropy) + 1e-7
    assert np.all(curve.local_entropy[good] < allowed[good])
    print(
        f"{curve.engine}: {np.sum(good)} of {len(good)} converged, Φ_LE {curve.local_entropy}, "
        f"residual {curve.residual.max():.1g}"
    )
    return curve


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", SMALL)
def test_small_problems(case, engine):
    curve = measured(SMALL[case](), SHORT_CHAINS if engine == "mc" else engine)
    assert curve.converged[0]
    assert engine != "ep" or curve.converged.all()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", BIG)
def test_big_problems(case, engine):
    if engine == "mc":
        measured((BIG | FEWER_FOR_MC)[case](), SHORT_CHAINS)
    else:
        measured(BIG[case](), engine)


@pytest.mark.slow
def test_monte_carlo_converges_with_many_patterns():
    """The default configuration converges on the default ladder, down to log Z = −60."""
    curve = measured(images(9, 784, 2000), "mc", None)
    assert curve.distance[-1] > 0.3
    assert curve.converged.all()
    assert np.all(curve.standard_error < 0.03 * np.abs(curve.local_entropy))


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "restart"), TRAINED)
def test_trained_machines_up_to_half(protocol, restart, trained_machine):
    """Up to d = 0.5 every engine converges on machines without training errors."""
    machine = trained_machine(protocol, restart)
    errors = ReferenceProblem.from_arrays(*machine).training_errors
    for engine in ENGINES:
        curve = measured(machine, engine, np.geomspace(0.02, 1.1, 8))
        assert curve.distance[-1] > 0.5
        assert errors or curve.converged.all()
