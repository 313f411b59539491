"""Accuracy and cost of joint sites on trained machines; see :mod:`tests.reference.joint_sites`.

    python -m tests.reference.joint_sites_experiment DRAW OUT.csv ALGORITHM/RESTART…

DRAW is the folder of a draw that figure1 wrote, such as `draws/00`. ALGORITHM/RESTART names a
machine without training errors, such as `rsgd-fast/000`. The table has one row per machine and Δ:
log Z by Monte Carlo with its standard error, by the engine "ep", with joint sites, and by "ep"
with the pair correction. It also has their CPU seconds; Monte Carlo's cover the whole ladder. Run
it on one thread.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from message_passing import ExpectationPropagation, MonteCarlo, PatternGeometry
from message_passing.problem import ReferenceProblem
from message_passing.tools.files import write_table
from tests.reference import joint_sites
from tests.reference.pair_correction import pair_correction

VARIANCES = np.array([0.1, 0.3, 0.6])  # d = 0.05, 0.15, 0.3


def main(draw, out, names):
    rows, problems = [], {}
    data = np.load(Path(draw) / "patterns.npz")
    geometry, labels = PatternGeometry(data["train_patterns"]), data["train_labels"]
    for name in names:
        weights = np.load(Path(draw) / "machines" / f"{name}.npz")["weights"]
        problem = ReferenceProblem.from_arrays(weights, geometry, labels)
        if problem.training_errors:
            raise ValueError(f"{name} makes {problem.training_errors} training errors.")
        problems[name] = problem
    joint_sites.correlated_majority(np.zeros(9), np.eye(9) + 0.1, 1.0, np.ones((2, 9)))  # compile
    for name, problem in problems.items():
        started = time.process_time()
        mc = MonteCarlo(draws=16000).ladder(problem, VARIANCES)
        mc_seconds = time.process_time() - started
        plain, joint = [], None
        for i, variance in enumerate(VARIANCES):
            times = [time.process_time()]
            sites, ep = ExpectationPropagation().solve(problem, variance, plain)
            times.append(time.process_time())
            pairs = pair_correction(problem, variance, sites)
            times.append(time.process_time())
            joint = joint_sites.solve(problem, variance, joint.sites if joint else None)
            times.append(time.process_time())
            plain, seconds = [sites], np.diff(times)
            exact, log_z = mc.free_entropy[i] * problem.size, ep.free_entropy * problem.size
            spread = np.sqrt(np.einsum("pkk->pk", joint.covariance))
            correlation = joint.covariance / (spread[:, :, None] * spread[:, None, :])
            rows.append(
                {
                    "machine": name,
                    "variance": variance,
                    "log_z_mc": exact,
                    "log_z_mc_standard_error": mc.free_entropy_error[i] * problem.size,
                    "log_z_ep": log_z,
                    "log_z_joint": joint.log_z,
                    "log_z_pairs": log_z + pairs,
                    "deviation_ep": log_z / exact - 1,
                    "deviation_joint": joint.log_z / exact - 1,
                    "deviation_pairs": (log_z + pairs) / exact - 1,
                    "seconds_mc": mc_seconds,
                    "seconds_ep": seconds[0],
                    "seconds_pairs": seconds[1],
                    "seconds_joint": seconds[2],
                    "sweeps_joint": joint.sweeps,
                    "residual_joint": joint.residual,
                    "least_correlation": correlation.min(),
                }
            )
            write_table(out, pd.DataFrame(rows))
            print(rows[-1], flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
