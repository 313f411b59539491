"""How many errors a machine makes under weight noise, and why: see the results page, "balanced".

    python -m tests.reference.errors_under_noise FOLDER OUT.csv [RESTARTS]

FOLDER was written by figure1. δE(σ) is the mean number of additional errors per pattern; Φ_LE is
the log-probability of no additional error. The two disagree if the errors come in crowds. The
table has one row per machine. Under the noise w∘(1 + z) of δE(1): the mean ``additional`` errors
with standard error, their ``median``, and ``none``, the fraction of noises without additional
errors. Without noise: ``constant``, units that answer alike on at least 95 % of the patterns, and
``bare_majority``, the fraction of patterns that one vote decides.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from committee.flatness import sampled_noisy_errors
from committee.machine import error_rate
from committee.results import ExperimentFolder, load_results
from message_passing.tools.files import write_table

NOISES, ALIKE = 2000, 0.95


def main(folder, out, restarts=1):
    results = load_results(folder, restarts=restarts)
    runs = results.to_frame().query("not collapsed")
    rows = []
    for run in runs.to_dict("records"):
        draw, name, restart = run["draw"], run["algorithm"], run["restart"]
        patterns = results.patterns[draw]
        X, y = patterns.train_patterns, patterns.train_labels
        weights = ExperimentFolder(Path(folder)).load_machine(draw, name, restart)["weights"]
        rng = np.random.default_rng((draw, restart))
        rates = sampled_noisy_errors(weights, X, y, np.array([1.0]), NOISES, rng)[:, 0]
        errors = np.round(len(y) * (rates - error_rate(weights, X, y)))
        answers = np.sign(weights @ X.T)
        alike = np.maximum(np.mean(answers > 0, axis=1), np.mean(answers < 0, axis=1))
        rows.append(
            {
                **{key: run[key] for key in ("algorithm", "draw", "restart")},
                "local_energy_1": run["local_energy_1"],
                "local_entropy_mc_0.3": run["local_entropy_mc_0.3"],
                "additional": errors.mean(),
                "additional_standard_error": errors.std(ddof=1) / np.sqrt(NOISES),
                "median": np.median(errors),
                "none": np.mean(errors <= 0),
                "constant": np.count_nonzero(alike >= ALIKE),
                "bare_majority": np.mean(np.abs(answers.sum(axis=0)) == 1),
            }
        )
        print(rows[-1], flush=True)
    write_table(out, pd.DataFrame(rows))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
