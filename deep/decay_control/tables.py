"""Tables and figures of ``decay-control``, from its stored runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deep.decay_control.design import (
    ARMS,
    BATCHNORM_ARMS,
    COMPARISONS,
    STAGES,
    DecayControlCommand,
    Stage,
    Unit,
)
from deep.linear_response import equivalent_sgd
from deep.run import Run
from message_passing.tools.files import save_figure, write_atomically, write_table
from message_passing.tools.tables import ERROR, means, to_markdown

if TYPE_CHECKING:
    import pandas as pd

HYPER_PARAMETERS = ("lr", "weight_decay", "batch_size", "dropout")
PUBLISHED_R = "PGDL's task 1 in the paper: Pearson's r = 0.90 of δE(0.5) and the test error"


def write(command: DecayControlCommand, stage: Stage, chosen: Sequence[Unit]) -> str:
    """Write the tables and figures of a stage. Returns its summary in Markdown."""
    from deep.decay_control.stages import state_of

    states = [state_of(unit, command) for unit in chosen]
    done = [unit for unit, state in zip(chosen, states, strict=True) if state == "done"]
    lines = [f"## {stage}", "", f"{len(done)} of {len(chosen)} runs are complete."]
    if diverged := states.count("diverged"):
        lines.append(f"{diverged} diverged.")
    if "left" in states:
        lines.append("UNFINISHED: these numbers are preliminary.")
    make = {"tune": _tune, "final": _arms, "batchnorm": _arms, "gap": _gap}[stage]
    text = "\n".join([*lines, "", *(make(command, done) if done else ())]) + "\n"
    path = command.out / f"{stage}.md"
    write_atomically(path, lambda file: file.write(text.encode()))
    return text


def _tune(command: DecayControlCommand, done: Sequence[Unit]) -> list[str]:
    """The best point of each family. ``at_the_edge`` names settings at the edge of the grid."""
    from message_passing.tools.files import read_table

    table = read_table(command.out / "tune.csv").dropna(subset="validation_error")
    best = table.loc[table.groupby("family", sort=False)["validation_error"].idxmin()].copy()
    edges = []
    for _, row in best.iterrows():
        own = table[table["family"] == row["family"]]
        names = ("lr", "weight_decay")
        edges.append(
            " ".join(name for name in names if row[name] in (own[name].min(), own[name].max()))
        )
    best["at_the_edge"] = edges
    return [to_markdown(best, {"validation_error": 100}, {"validation_error": 2})]


# -- the arms ---------------------------------------------------------------------------


def arm_table(command: DecayControlCommand, done: Sequence[Unit]) -> pd.DataFrame:
    """One row per run of the arms.

    Columns: stage, arm, what (the arm in words), algorithm, seed, lr, weight_decay, passes;
    equivalent_lr and effective_decay (λ_eff), with which SGD learns and decays weights as fast;
    weight_norm (‖w‖₂); train_error, validation_error, test_error; ``local_energy_<σ>``; hours;
    matched_train_error, the largest final training error of the stage's runs; and
    ``local_energy_<σ>_matched``, interpolated along training at that error. Both matched quantities
    are measured on the images of the flatness.
    """
    import pandas as pd

    rows, paths = [], []
    for unit in done:
        run = Run(unit.folder(command.out))
        config, result, test = run.config, run.result, run.measured(kind="test")
        measured = run.measured()
        assert result is not None and test is not None and measured is not None
        arm, same = int(unit.name.removeprefix("arm-")), equivalent_sgd(config)
        # Only the final stage has tuned arms.
        what = ARMS[arm] if unit.stage == "final" else ARMS[arm].removesuffix(", tuned")
        profiles = [p for name in run.networks if (p := run.flatness(name)) is not None]
        paths.append(
            (
                np.array([profile.reference_error for profile in profiles]),
                np.array([profile.local_energy for profile in profiles]),
            )
        )
        rows.append(
            {
                "stage": unit.stage, "arm": arm, "what": what,
                "algorithm": config.algorithm.name, "seed": config.seed, "lr": config.lr,
                "weight_decay": config.weight_decay, "passes": config.passes,
                "equivalent_lr": same.lr, "effective_decay": same.weight_decay,
                "weight_norm": measured["weight_norm"], "train_error": result["train_error"],
                "validation_error": result["test_error"], "test_error": test["test_error"],
                **{
                    f"local_energy_{sigma:g}": value
                    for sigma, value in zip(profiles[-1].sigma, paths[-1][1][-1], strict=True)
                },
                "hours": result["seconds"] / 3600,
            }
        )  # fmt: skip
    table = pd.DataFrame(rows)
    level = max(float(errors[-1]) for errors, _ in paths)
    matched = np.array([at_error(errors, energies, level) for errors, energies in paths])
    table["matched_train_error"] = level
    for column, sigma in enumerate(profiles[-1].sigma):
        table[f"local_energy_{sigma:g}_matched"] = matched[:, column]
    return table


def at_error(
    errors: NDArray[np.float64], energies: NDArray[np.float64], level: float
) -> NDArray[np.float64]:
    """Interpolate δE (networks, σ) to where the training error (networks,) last falls to ``level``.

    Linear between networks. NaN if the errors do not reach ``level`` from above.
    """
    above = np.flatnonzero(errors[:-1] > level)
    if errors[-1] > level or (len(above) == 0 and errors[0] != level):
        return np.full(energies.shape[1], np.nan)
    if len(above) == 0:
        return energies[0]
    first = above[-1]
    share = (errors[first] - level) / (errors[first] - errors[first + 1])
    return energies[first] + share * (energies[first + 1] - energies[first])


def comparisons(table: pd.DataFrame) -> pd.DataFrame:
    """The planned comparisons of the arms' test errors, paired over the seeds.

    Columns: stage, first, second, n, difference (first minus second) and its standard error,
    p_value (two-sided paired t-test), p_holm (corrected for all comparisons of the stage).
    """
    import pandas as pd
    from scipy import stats

    from committee.statistics import holm

    parts = []
    for stage, runs in table.groupby("stage", sort=False):
        errors = runs.pivot(index="seed", columns="arm", values="test_error")
        errors = errors.reindex(columns=[*ARMS])
        pairs = [pair for pair in COMPARISONS if stage == "final" or {*pair} <= {*BATCHNORM_ARMS}]
        rows = []
        for first, second in pairs:
            d = (errors[first] - errors[second]).dropna().to_numpy()
            some = len(d) > 1 and np.ptp(d) > 0
            rows.append(
                {
                    "stage": stage, "first": first, "second": second, "n": len(d),
                    "difference": d.mean() if len(d) else np.nan,
                    "difference" + ERROR: stats.sem(d) if some else np.nan,
                    "p_value": stats.ttest_1samp(d, 0).pvalue if some else np.nan,
                }
            )  # fmt: skip
        compared = pd.DataFrame(rows)
        parts.append(compared.assign(p_holm=holm([*compared["p_value"]])))
    return pd.concat(parts, ignore_index=True)


def _arms(command: DecayControlCommand, done: Sequence[Unit]) -> list[str]:
    """Add the runs of this stage to runs.csv; write means, comparisons and the figure."""
    import pandas as pd

    from deep.decay_control.figures import plot_arms
    from message_passing.tools.files import read_table

    path, stage = command.out / "runs.csv", done[0].stage
    own = arm_table(command, done)
    before = read_table(path) if path.exists() else own[:0]
    both = pd.concat([before[before["stage"] != stage], own], ignore_index=True)
    both = both.sort_values("stage", key=lambda names: names.map(STAGES.index), kind="stable")
    write_table(path, both)
    # The columns before are settings; a mean over ``seed`` has no meaning.
    numbers = [*own.columns[own.columns.get_loc("equivalent_lr") :]]
    summary = means(both.sort_values(["stage", "arm"]), ["stage", "arm", "what"], numbers)
    compared = comparisons(both)
    write_table(command.out / "summary.csv", summary)
    write_table(command.out / "comparisons.csv", compared)
    save_figure(plot_arms(own), command.out / f"{stage}")
    here = summary[summary["stage"] == stage].drop(columns=["stage", "matched_train_error"])
    here = here.drop(columns=[name for name in here if str(name).endswith("_n")])
    percent = [n for n in numbers if n.endswith("_error") or n.startswith("local_energy")]
    level = 100 * float(own["matched_train_error"].iloc[0])
    planned = compared[compared["stage"] == stage].drop(columns="stage")
    return [
        to_markdown(here, dict.fromkeys(percent, 100)),
        "",
        "Errors and local energies in percent, mean ± standard error over the seeds; matched: "
        f"at the training error {level:.1f} %.",
        "",
        to_markdown(planned, {"difference": 100}),
    ]


# -- the gap ----------------------------------------------------------------------------


def gap_table(command: DecayControlCommand, done: Sequence[Unit]) -> pd.DataFrame:
    """One row per network: hyper-parameters, errors, gap, and the measures of flatness.

    ``reached`` tells whether training reached the target loss.
    """
    import pandas as pd

    rows: list[Mapping[str, Any]] = []
    for unit in done:
        run = Run(unit.folder(command.out))
        test, result, row = run.measured(kind="test"), run.result, run.row(command.flatness.sigmas)
        assert test is not None and result is not None
        kept = [n for n in row if n.startswith(("local_energy", "weight_norm", "hessian_trace"))]
        entropy = {}
        if (stored := run.measured(kind="local_entropy")) is not None:
            # The middle variance, where about half of the neighbours make few enough errors.
            values = stored["curve"]["local_entropy"]
            entropy = {"local_entropy": values[len(values) // 2]}
        loss = run.log["fixed_images_loss"].iloc[-1]
        options = {name: row[name] for name in HYPER_PARAMETERS if name != "dropout"}
        rows.append(
            {
                "network": unit.name, **options, "dropout": run.config.model_options["dropout"],
                "passes": result["passes"], "train_loss": result["train_loss"],
                "reached": bool(loss <= run.config.stop_loss),
                "train_error": result["train_error"], "test_error": test["test_error"],
                "gap": test["test_error"] - result["train_error"],
                **{name: row[name] for name in kept}, **entropy,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def gap_correlations(table: pd.DataFrame) -> pd.DataFrame:
    """``correlation_report`` of all networks, and of the networks at the target loss."""
    import pandas as pd

    from deep.correlations import correlation_report

    measures = [
        str(name)
        for name in table.columns[[*table].index("gap") + 1 :]
        if not str(name).endswith(ERROR) and table[name].notna().any()
    ]
    groups = {"all": table}
    if not table["reached"].all():
        groups["at the same loss"] = table[table["reached"]]
    reports = [
        correlation_report(some, measures, ("gap", "test_error"), HYPER_PARAMETERS).assign(
            networks=name
        )
        for name, some in groups.items()
        if len(some)
    ]
    return pd.concat(reports, ignore_index=True)


def _gap(command: DecayControlCommand, done: Sequence[Unit]) -> list[str]:
    """Write the networks, the correlations and the figure."""
    from deep.decay_control.figures import plot_gap

    table = gap_table(command, done)
    report = gap_correlations(table)
    write_table(command.out / "gap.csv", table)
    write_table(command.out / "gap_correlations.csv", report)
    save_figure(plot_gap(table, command.flatness.sigmas[-1]), command.out / "gap")
    kinds = ("pearson", "kendall", "granulated kendall")
    shown = report[report["kind"].isin(kinds)]
    order = ["networks", "measure", "error", "kind", "n", "correlation", "low", "high", "p_value"]
    reached = int(table["reached"].sum())
    return [
        f"{reached} of {len(table)} networks reached the training loss {command.gap.loss:g}.",
        "",
        to_markdown(shown[order]),
        "",
        f"low, high: 95 % confidence limits. {PUBLISHED_R}.",
    ]
