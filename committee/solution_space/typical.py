"""Typical solutions: uniform samples of all machines without training errors.

Given zero training errors, the direction of each row is uniform on the sphere. The weights are
sampled as Gaussians of unit variance. Only the preactivations u_k = z_k Fᵀ on the training patterns
matter (F Fᵀ = XXᵀ/N, z_k white). The part of w_k outside the span of the patterns stays Gaussian.

Given the other units, unit k must be right on the patterns where it is decisive: u_k is a Gaussian
restricted to a cone. Exact Hamiltonian Monte Carlo samples it: u_k cos θ + v sin θ for a quarter
turn, v a fresh draw, reflected where a decisive pattern would change its answer [Pakman, Paninski,
*Exact Hamiltonian Monte Carlo for truncated multivariate Gaussians*, J. Comput. Graph. Stat. 2014,
arXiv 1208.4118]. No step is rejected. On Figure 1's patterns, the test error decorrelates in one
sweep over the units, and the share of bare majorities in about 15. Slice sampling with exact arcs
needs about a thousand.

Given z, the preactivations of a test pattern x are Gaussian too. Their mean is z_k·t, t = Ex/√N,
and their variance is the part of ‖x‖²/N outside the span. So the output node gives the expected
test error of each state exactly, and the probability of each answer for the vote.

Half of the chains start from flat machines (weight-noise), half from steep ones (sgd-fast). The
two halves must come to agree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import ndtri

from committee.algorithms import PUBLISHED, WeightNoise
from committee.machine import error_rate, unit_rows
from committee.patterns import PatternSet
from committee.solution_space._kernels_billiard import billiard_steps
from committee.solution_space.weight_noise import run_weight_noise
from committee.solution_space.white_coordinates import WhiteCoordinates
from committee.training import train_restart
from message_passing.chain_statistics import deviation, independent_states
from message_passing.output_node import Majority
from message_passing.problem import PatternGeometry, ReferenceProblem
from message_passing.tools.parallel import run_tasks
from message_passing.tools.validation import check_weights

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: Fewest sweeps of a chain.
FEWEST_STEPS = 16
#: A trajectory with more bounces is dropped; sampling stays exact. About 20 are usual.
MOST_BOUNCES = 100_000
#: Stored states of each chain, for the overlaps.
SNAPSHOTS = 16
#: Most machines trained to find one start.
ATTEMPTS = 6
#: Most epochs of sgd-fast in this search.
LONGEST_SEARCH = 5_000
#: Chains have converged if R̂ is below this value ...
LARGEST_R_HAT = 1.1
#: ... and the two halves do not differ significantly at this level.
FALSE_ALARMS = 1e-3
#: A smaller fraction of ‖x‖² outside the span is rounding.
OUTSIDE_SPAN = 1e-9


@dataclass(frozen=True, repr=False)
class SolutionSample:
    """Uniform solutions from C independent chains. The first half of each chain is burn-in.

    Attributes
    ----------
    test_error, standard_error : mean test error of a solution; its standard error from the chains.
    vote_error : test error of the vote of all samples. This vote is Bayes-optimal for a teacher
        that is a typical machine.
    r_hat : largest split R̂ of three statistics: test error, share of bare majorities, ‖z‖².
    effective_samples : smallest number of independent states, over the same three.
    converged : R̂ is below 1.1, and chains from opposite ends agree in all three.
    margins : ((K+1)/2,)
        Shares of training patterns on which (K+1)/2, ..., K hidden units are right.
    overlap : mean of w_k·w′_k/(‖w_k‖‖w′_k‖) over solutions from different chains, units matched.
    chain_test_error : (C, steps)
        Test error of the states, burn-in included. Even chains start from weight-noise, odd ones
        from sgd-fast, unless starts were given.
    test_probability : (T,)
        Share of solutions that answer +1.
    weights : (C, K, N)
        The last solution of each chain, unit rows.
    """

    test_error: float
    standard_error: float
    vote_error: float
    r_hat: float
    effective_samples: float
    converged: bool
    margins: NDArray[np.float64]
    overlap: float
    chain_test_error: NDArray[np.float64]
    test_probability: NDArray[np.float64]
    weights: NDArray[np.float64]

    def __repr__(self) -> str:
        return (
            f"SolutionSample(test error {100 * self.test_error:.2f} ± "
            f"{100 * self.standard_error:.2f} %, of the vote {100 * self.vote_error:.2f} %, "
            f"overlap {self.overlap:.3f}, R̂ = {self.r_hat:.3f}, "
            f"{self.effective_samples:.0f} effective samples of {len(self.weights)} chains, "
            f"{'' if self.converged else 'not '}converged)"
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per chain: its test error after burn-in."""
        import pandas as pd

        measured = self.chain_test_error[:, self.chain_test_error.shape[1] // 2 :]
        return pd.DataFrame({"chain": range(len(measured)), "test_error": measured.mean(axis=1)})

    def plot(self, ax: Axes | None = None) -> Axes:
        """Test error of each chain along its sweeps; chains from opposite ends must meet."""
        from committee.solution_space.figures import plot_chains

        return plot_chains(self, ax)


def typical_solutions(
    patterns: PatternSet,
    hidden_units: int = 9,
    chains: int = 8,
    steps: int = 1000,
    seed: int = 0,
    starts: ArrayLike | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> SolutionSample:
    """Sample machines without training errors, uniformly.

    Parameters
    ----------
    chains : an even number, at least 4; half of them start from each end.
    steps : sweeps of each chain over all units; half of them are burn-in.
    seed : the same seed gives the same sample, for any number of workers.
    starts : (S, K, N) solutions; chain i starts at number i mod S. Default: trained machines.

    Raises ``ValueError`` for even K, too few chains or steps, no test patterns, starts with
    training errors, contradictory patterns, and if training finds no solution to start from.
    """
    if hidden_units < 1 or hidden_units % 2 == 0:
        raise ValueError(f"hidden_units is {hidden_units}; an odd positive number was expected.")
    if chains < 4 or chains % 2:
        raise ValueError(f"chains is {chains}; an even number from 4 on was expected.")
    if steps < FEWEST_STEPS:
        raise ValueError(f"steps is {steps}; at least {FEWEST_STEPS} was expected.")
    if not len(patterns.test_labels):
        raise ValueError("patterns has no test patterns; some were expected.")
    seeds = [child.spawn(2) for child in np.random.SeedSequence(seed).spawn(chains)]
    run = partial(run_tasks, workers=workers, progress=progress)
    if starts is None:
        _check_contradictions(patterns)
        ends = [(chain % 2 == 0, seeds[chain][0]) for chain in range(chains)]
        found = dict(run(_search, ends, common=(patterns, hidden_units), description="starts"))
        machines = np.array([found[chain] for chain in range(chains)])
    else:
        machines = _check_starts(starts, patterns, hidden_units)
    tasks = [(machines[i % len(machines)], seeds[i][1]) for i in range(chains)]
    done = dict(run(_run_chain, tasks, common=(patterns, steps), description="typical solutions"))
    return _collect([done[chain] for chain in range(chains)], patterns)


def _search(
    patterns: PatternSet, K: int, task: tuple[bool, np.random.SeedSequence]
) -> NDArray[np.float64]:
    """Train a machine without errors, from the wanted end or else from the other one."""
    flat, seed_sequence = task
    steep = replace(PUBLISHED["sgd-fast"], max_epochs=LONGEST_SEARCH)
    for attempt, seed in enumerate(seed_sequence.spawn(ATTEMPTS)):
        # The second half of the attempts tries the other end.
        if flat == (attempt < ATTEMPTS // 2):
            weights, _, solved = run_weight_noise(patterns, WeightNoise(), K, seed)
        else:
            machine = train_restart(patterns, steep, K, seed)
            weights, solved = machine.weights, machine.train_error == 0
        if solved:
            return weights
    raise ValueError(
        f"patterns have no machine of {K} hidden units without training errors that {ATTEMPTS} "
        "runs of weight-noise and sgd-fast have found; patterns that can be learnt were expected."
    )


def _check_contradictions(patterns: PatternSet) -> None:
    X, y = patterns.train_patterns, patterns.train_labels
    problem = ReferenceProblem.from_arrays(np.ones((1, X.shape[1])), X, y)
    pairs = (len(y) - len(problem.without_contradictions().labels)) // 2
    if pairs:
        raise ValueError(
            f"patterns have {pairs} contradictory pairs of labels; patterns that can be learnt "
            "without errors were expected."
        )


def _check_starts(starts: ArrayLike, patterns: PatternSet, K: int) -> NDArray[np.float64]:
    machines = check_weights(starts, "starts")
    expected = (K, patterns.train_patterns.shape[1])
    if machines.ndim != 3 or machines.shape[1:] != expected:
        raise ValueError(
            f"starts has shape {machines.shape}; (S, {K}, {expected[1]}) was expected."
        )
    errors = error_rate(machines, patterns.train_patterns, patterns.train_labels)
    if np.any(errors > 0):
        raise ValueError(f"starts have training error {np.max(errors):.3g}; 0 was expected.")
    return machines


class _Chain(NamedTuple):
    """``statistics`` (3, M) are test error, share of bare majorities and ‖z‖² after each sweep.
    The other results are from after the burn-in."""

    statistics: NDArray[np.float64]
    probability: NDArray[np.float64]  # that the answer to a test pattern is +1, (T,)
    margins: NDArray[np.float64]
    snapshots: NDArray[np.float64]  # (SNAPSHOTS, K, R), the part of unit rows inside the span
    weights: NDArray[np.float64]


def _run_chain(
    patterns: PatternSet, steps: int, task: tuple[NDArray[np.float64], np.random.SeedSequence]
) -> _Chain:
    start, seed_sequence = task
    rng = np.random.default_rng(seed_sequence)
    X, y = patterns.train_patterns, patterns.train_labels
    geometry = PatternGeometry(X)
    coordinates = WhiteCoordinates(geometry)
    (K, N), E = start.shape, coordinates.directions
    tests = patterns.test_patterns @ E.T / np.sqrt(N)
    square = np.sum(patterns.test_patterns**2, axis=1) / N
    outside = square - np.sum(tests**2, axis=1)
    outside[outside < OUTSIDE_SPAN * square] = 0.0
    outside, answers = np.broadcast_to(outside, (K, len(tests))), np.ones(len(tests))
    node = Majority()
    white = np.sqrt(N) * unit_rows(start) @ E.T
    statistics = np.empty((3, steps))
    probability, margins, snapshots = np.zeros(len(tests)), np.zeros((K + 1) // 2), []
    burn_in = steps // 2
    kept = np.linspace(burn_in, steps - 1, SNAPSHOTS).round()
    for i in range(steps):
        u = white @ coordinates.factor
        billiard_steps(u, y, geometry.gram, coordinates.factor, 1, MOST_BOUNCES, rng)
        white = u @ coordinates.inverse
        positive = np.exp(node.moments(white @ tests.T, outside, answers).log_evidence)
        wrong = np.where(patterns.test_labels > 0, 1.0 - positive, positive)
        right = np.count_nonzero((u >= 0) == (y > 0), axis=0)
        shares = np.bincount(right, minlength=K + 1)[(K + 1) // 2 :] / len(y)
        statistics[:, i] = wrong.mean(), shares[0], np.sum(white**2)
        if i >= burn_in:
            probability += positive / (steps - burn_in)
            margins += shares / (steps - burn_in)
            length = np.sqrt(np.sum(white**2, axis=1, keepdims=True) + N - len(E))
            snapshots += [white / length] * np.count_nonzero(kept == i)
    free = rng.standard_normal((K, N))
    weights = unit_rows(white @ E + free - free @ E.T @ E)
    return _Chain(statistics, probability, margins, np.array(snapshots), weights)


def _collect(chains: list[_Chain], patterns: PatternSet) -> SolutionSample:
    statistics = np.array([chain.statistics for chain in chains])  # (C, 3, M)
    C, burn_in = len(chains), statistics.shape[2] // 2
    measured = statistics[:, :, burn_in:]
    half = measured.shape[2] // 2
    halves = np.stack([measured[:, :, :half], measured[:, :, half : 2 * half]], axis=2)
    moments = np.stack([halves.mean(axis=-1), (halves**2).mean(axis=-1)], axis=-1)
    independent = min(independent_states(moments[:, i]) for i in range(3))
    r_hat = float(np.sqrt(1 + 1 / independent))
    means = measured.mean(axis=2)  # (C, 3)
    gap = means[::2] - means[1::2]
    error = gap.std(axis=0, ddof=1) / np.sqrt(C // 2)
    apart = max(deviation(*pair, C // 2) for pair in zip(gap.mean(axis=0), error, strict=True))
    probability = np.mean([chain.probability for chain in chains], axis=0)
    votes = np.where(probability > 0.5, 1.0, -1.0)
    return SolutionSample(
        test_error=float(means[:, 0].mean()),
        standard_error=float(means[:, 0].std(ddof=1) / np.sqrt(C)),
        vote_error=float(np.mean(votes != patterns.test_labels)),
        r_hat=r_hat,
        effective_samples=float(2 * C * independent),
        converged=bool(r_hat < LARGEST_R_HAT and apart < -ndtri(FALSE_ALARMS / 6)),
        margins=np.mean([chain.margins for chain in chains], axis=0),
        overlap=_overlap([chain.snapshots for chain in chains]),
        chain_test_error=statistics[:, 0],
        test_probability=probability,
        weights=np.array([chain.weights for chain in chains]),
    )


def _overlap(snapshots: list[NDArray[np.float64]]) -> float:
    """Mean over pairs of chains. Units can be permuted: the matching of largest overlap counts."""
    overlaps = []
    for second in range(1, len(snapshots)):
        for first in range(second):
            for one, two in zip(snapshots[first], snapshots[second], strict=True):
                between = one @ two.T
                overlaps.append(between[linear_sum_assignment(-between)].mean())
    return float(np.mean(overlaps))
