"""``python -m deep estimators``: compare estimators of flatness with the local entropy.

The algorithms of Figure 1 of [P21] train committees of signs. Monte Carlo with exact arcs gives
their log Z(Δ) with an error bar: the truth. :mod:`deep.volume_estimates` has the estimators that
are compared with it.
"""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from committee.algorithms import PUBLISHED
from committee.correlations import correlation_with_interval
from committee.experiments import AlgorithmName, DataName
from committee.patterns import PatternSet, load_patterns
from committee.results import small_arrays
from committee.training import check_hidden_units, resolve_algorithm, train_restart
from message_passing.ladder import LadderSettings
from message_passing.tools.files import (
    content_hash,
    read_records,
    save_figure,
    write_records,
    write_table,
)
from message_passing.tools.run_folder import RunFolder, as_json, make_missing
from message_passing.tools.tables import ERROR, to_markdown
from message_passing.tools.validation import check_least, check_numbers

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class EstimatorsCommand:
    """Compare estimators of flatness with the exact local entropy of committee machines.

    Writes machines.csv (one row per machine and estimator), estimators.csv (one row per estimator)
    and a figure. No machine is measured twice. The package devinterp computes the learning
    coefficient if it is installed (extra `estimators`).
    """

    machines: int = 50
    """Number of committees. They take the algorithms in turn. You can add more later."""
    algorithms: tuple[AlgorithmName, ...] = tuple(PUBLISHED)
    """Algorithms that train them."""
    data: DataName = "auto"
    """Patterns. auto: Fashion-MNIST if it is available, else the hidden manifold."""
    data_dir: Path | None = None
    """Folder with the four files of Fashion-MNIST."""
    size: int = 500
    """Number of training patterns."""
    hidden_units: int = 9
    """Number K of hidden units; odd."""
    max_epochs: int | None = None
    """Epochs after which training gives up. Default: the algorithm's own number."""
    variance: float = 0.2
    """Relative variance Δ of log Z(Δ). The distance d is about Δ/2."""
    beta: float = 2.0
    """Slope β of the smooth committee."""
    omega: float = 1.0
    """Scale ω of the smooth committee's loss."""
    ladder: LadderSettings = field(default_factory=lambda: LadderSettings(draws=4000))
    seed: int = 0
    """Seed of the patterns, the training and all estimators."""
    workers: int | None = None
    """Number of processes. Default: one per core."""
    out: Path = Path("results/estimators")
    """Folder for the results. The same command resumes an interrupted run."""

    def __post_init__(self) -> None:
        check_least(self, machines=1, size=1, workers=1, max_epochs=1, seed=0)
        check_hidden_units(self.hidden_units)
        check_numbers(self, positive=("variance", "beta", "omega"))
        if not self.algorithms:
            raise ValueError("algorithms is empty; at least one was expected.")


def measure(command: EstimatorsCommand, patterns: PatternSet, machine: int) -> pd.DataFrame:
    """Unit of work: train one machine. Returns one row per estimator, with CPU seconds."""
    import pandas as pd

    from deep.volume_estimates import ESTIMATORS, Case

    kinds, X, y = command.algorithms, patterns.train_patterns, patterns.train_labels
    restart = machine // len(kinds)
    algorithm = resolve_algorithm(kinds[machine % len(kinds)], command.max_epochs)
    training = np.random.SeedSequence(command.seed).spawn(restart + 1)[restart]
    trained = train_restart(patterns, algorithm, command.hidden_units, training)
    own = np.random.SeedSequence(command.seed, spawn_key=(machine,)).generate_state(1)
    case = Case(
        trained.weights * math.sqrt(X.shape[1]), X, y, command.variance, command.beta,
        command.omega, command.ladder, int(own[0]),
    )  # fmt: skip
    about = {
        "machine": machine, "algorithm": algorithm.name, "restart": restart,
        "train_error": trained.train_error, "test_error": trained.test_error,
    }  # fmt: skip
    rows = []
    for name, (estimate, _) in ESTIMATORS.items():
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*did not converge", category=UserWarning)
            found = estimate(case)
        seconds = time.process_time() - start
        rows.append({**about, "estimator": name, **found._asdict(), "seconds": seconds})
    return pd.DataFrame(rows).rename(columns={"standard_error": "value" + ERROR})


def compare(rows: pd.DataFrame) -> pd.DataFrame:
    """Compare each estimator with the truth, over the machines where both converged.

    Columns: ``by`` (who computed it), ``n``, ``not_converged``; ``kendall`` with 95 % bootstrap
    limits ``low`` and ``high``, +1 if the estimator ranks as log Z does; ``seconds``, the median.
    Entropies also have, in nats, ``bias``, ``error`` (root mean square) and ``claimed`` (root mean
    square of the standard errors). Their ``ratio`` is the root mean square of the deviations in
    units of both claimed errors; it is 1 if the claims are right.
    """
    import pandas as pd

    from deep.volume_estimates import ENTROPIES, ESTIMATORS, TRUTH

    truth = rows[rows["estimator"] == TRUTH].set_index("machine")
    found = []
    for name, (_, sign) in ESTIMATORS.items():
        own = rows[rows["estimator"] == name].set_index("machine")
        both = own.join(truth[["value", "value" + ERROR, "converged"]].add_suffix("_true"))
        good = both["converged"] & both["converged_true"] & np.isfinite(both["value"])
        x, error, exact, exact_error = both.loc[
            good, ["value", "value" + ERROR, "value_true", f"value{ERROR}_true"]
        ].to_numpy(np.float64).T  # fmt: skip
        row: dict[str, Any] = {"estimator": name, "by": ", ".join(sorted(set(own["by"])))}
        row |= {"n": len(x), "not_converged": int((~own["converged"]).sum())}
        if name != TRUTH:
            limits = correlation_with_interval("kendall", sign * x, exact)
            row |= dict(zip(("kendall", "low", "high"), limits, strict=True))
        if name in ENTROPIES and len(x):
            row["claimed"] = np.sqrt(np.mean(error**2))
            if name != TRUTH:
                row |= {"bias": np.mean(x - exact), "error": np.sqrt(np.mean((x - exact) ** 2))}
                row["ratio"] = np.sqrt(np.mean((x - exact) ** 2 / (error**2 + exact_error**2)))
        found.append(row | {"seconds": own["seconds"].median()})
    first = ["estimator", "by", "n", "not_converged", "kendall", "low", "high"]
    return pd.DataFrame(found)[[*first, "bias", "error", "claimed", "ratio", "seconds"]]


def plot_estimators(rows: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """One panel per estimator, against the exact log Z. Colours are algorithms."""
    from matplotlib.figure import Figure

    from deep.volume_estimates import ENTROPIES, TRUTH

    values = rows.pivot(index="machine", columns="estimator", values="value")
    kinds = rows.drop_duplicates("machine").set_index("machine")["algorithm"]
    figure = Figure(figsize=(14, 7.5), layout="constrained")
    others = table[table["estimator"] != TRUTH]
    axes = figure.subplots(2, -(-len(others) // 2)).flat
    for ax, (_, row) in zip(axes, others.iterrows(), strict=False):
        name = row["estimator"]
        for kind in dict.fromkeys(kinds):
            own = values[kinds == kind]
            ax.plot(own[TRUTH], own[name], ".", label=kind)
        if name in ENTROPIES:
            ax.axline((0, 0), slope=1, color="0.7", linewidth=0.8, zorder=0)
        ax.set(title=f"{name}: τ = {row['kendall']:.2f}", xlabel="log Z, exact arcs", ylabel=name)
    for ax in axes:  # left over
        ax.set_axis_off()
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right upper")
    return figure


def compare_estimators(command: EstimatorsCommand) -> None:
    """Measure the missing machines; write and print the tables, draw the figure."""
    import pandas as pd

    folder = RunFolder(command.out, units=("machines",))
    stored = (folder.config() or {}).get("patterns", {}).get("name")
    data = stored if stored and command.data == "auto" else command.data
    patterns = load_patterns(data, command.size, command.seed, command.data_dir)
    content = content_hash(*small_arrays(patterns).values())
    about = {"name": patterns.name, "description": patterns.description, "content": content}
    free = ("machines", "data", "data_dir", "workers", "out")
    settings = {k: as_json(v) for k, v in vars(command).items() if k not in free}
    settings["patterns"] = content
    folder.store_config("Estimators of flatness", settings, patterns=about)
    print(f"Data: {patterns.description}", flush=True)
    paths = [command.out / "machines" / f"{i:03d}.json" for i in range(command.machines)]
    make_missing(
        measure, dict(zip(paths, range(command.machines), strict=True)), write_records,
        progress=True, common=(command, patterns), workers=command.workers, description="machines",
    )  # fmt: skip
    rows = pd.concat([read_records(path) for path in paths], ignore_index=True)
    table = compare(rows)
    written = [
        write_table(command.out / "machines.csv", rows),
        write_table(command.out / "estimators.csv", table),
        *save_figure(plot_estimators(rows, table), command.out / "estimators"),
    ]
    print(to_markdown(table), "Written: " + ", ".join(map(str, written)), sep="\n")
