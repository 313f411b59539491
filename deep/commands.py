"""Commands on runs: train, runs, flatness, correlations.

The options of a command are a dataclass. torch and pandas are imported when a command runs, so that
``--help`` is quick.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import tyro

from deep.algorithms import KINDS
from deep.config import CompileMode, Hardware, TrainingConfig
from deep.measurements import FlatnessOptions, HessianOptions, LocalEntropyOptions
from deep.recipes import recipe
from deep.run import cell_folder, differing, open_runs, runs
from message_passing.tools.files import save_figure, write_table
from message_passing.tools.tables import ERROR, means, to_markdown, with_error
from message_passing.tools.validation import check_seeds

# One dataclass holds the settings of a run and of all algorithms, so that --help shows all of them
# with their docstrings. Its defaults are None, which marks the settings that were not given.
_KINDS = [*reversed(KINDS.values()), TrainingConfig]
_SPECIAL: dict[str, tuple[Any, Any]] = {
    "dataset": (str, "cifar10"),
    "model": (str, "smallconvnet"),
    "algorithm": (Literal[tuple(KINDS)], "sgd"),
    "model_options": (dict[str, int | float | str], field(default_factory=dict)),
    "seed": (Annotated[int, tyro.conf.Suppress], 0),
}
Settings = make_dataclass(
    "Settings",
    [
        (name, *_SPECIAL.get(name, (hint | None, None)))
        for name, hint in {
            f.name: get_type_hints(kind)[f.name] for kind in _KINDS for f in fields(kind)
        }.items()
    ],
    bases=tuple(_KINDS),
    namespace={"__post_init__": lambda self: None},
    frozen=True,
)


@dataclass(frozen=True)
class TrainCommand:
    """Train a network, with the published settings unless you give others.

    A setting that you leave at None takes the published value for the data set, the model and the
    algorithm. A setting of another algorithm is an error. Several --seeds are trained one after the
    other. An interrupted run resumes when you repeat the command, bit for bit on CPUs. On a CPU,
    start one run per core with OMP_NUM_THREADS=1.

    torchrun spreads the replicas of rsgd and rsgd-xy over processes, one GPU each:
    torchrun --nproc-per-node 3 -m deep train --model resnet18 --algorithm rsgd-xy.
    On several hosts, run the same line on each, with a folder that all share:
    torchrun --nnodes 3 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint HOST:29400
    --rdzv-id rsgd -m deep train --model resnet18 --algorithm rsgd-xy --runs /shared/runs.
    If a process is lost, the others stop, and the same line resumes from the last checkpoint.
    """

    settings: Annotated[Settings, tyro.conf.arg(name="")]  # type: ignore[valid-type]
    seeds: tuple[int, ...] = (0,)
    """Seeds of the runs, one run each."""
    runs: Path = Path("runs")
    """Folder for the runs: RUNS/DATASET-MODEL-ALGORITHM/seed-N."""
    hardware: Annotated[Hardware, tyro.conf.arg(name="")] = field(default_factory=Hardware)
    compile: CompileMode = "off"
    """Mode of torch.compile: off, default, or reduce-overhead (with CUDA graphs on a GPU)."""


def chosen_config(settings: Any) -> TrainingConfig:
    """The recipe, with the given settings replacing its own."""
    given = {k: v for k, v in vars(settings).items() if v is not None and k not in _SPECIAL}
    config = recipe(settings.dataset, settings.model, settings.algorithm)
    if "passes" in given:
        config = config.stretched(given["passes"])
    return config.changed(**given, model_options=settings.model_options)


def train_networks(chosen: TrainCommand) -> None:
    """Train one network per seed, write a table and a figure, print the mean test error."""
    from deep.device import first_process
    from deep.figures import plot_training
    from deep.training import train_all

    check_seeds(chosen.seeds)
    config = chosen_config(chosen.settings)
    seeds = [config.changed(seed=seed) for seed in chosen.seeds]
    done = train_all(seeds, chosen.runs, **vars(chosen.hardware), compile_mode=chosen.compile)
    if not first_process():
        return
    folder, table = cell_folder(chosen.runs, config), runs(run.folder for run in done)
    table["seconds"] = [(run.result or {})["seconds"] for run in done]
    write_table(folder / "summary.csv", table[["seed", "train_error", "test_error", "seconds"]])
    logs = {f"seed {run.config.seed}": run.log for run in done}
    save_figure(plot_training(logs).figure, folder / "training")
    (mean,) = means(table, "algorithm", ["test_error"]).to_dict("records")
    error = with_error(mean["test_error"], mean["test_error" + ERROR], 2, 100)
    name = f"{config.dataset_name}, {config.model}, {config.algorithm.name}"
    print(f"{name}, {config.passes:g} passes: test error {error} %, n = {len(done)}")


# -- runs, flatness, correlations -------------------------------------------------------


@dataclass(frozen=True)
class RunsCommand:
    """Compare finished runs: the settings in which they differ, errors, flatness.

    Prints a table with one row per choice of settings: means ± standard errors over the seeds.
    Flatness, weight norms and Hessians are shown for runs that python -m deep flatness --hessian
    has measured.
    """

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of runs, or of the seeds of a run."""
    sigmas: tuple[float, ...] = (0.3, 0.5)
    """Noise intensities σ of the local energy."""
    out: Path = Path("runs.csv")
    """File for the table, one row per run."""


def show_runs(chosen: RunsCommand) -> None:
    """Write the table of runs and print the means over seeds."""
    from deep.run import SETTINGS
    from deep.tables import in_markdown, over_seeds

    table = runs(chosen.folders, chosen.sigmas)
    text = in_markdown(over_seeds(table))
    same = [name for name in SETTINGS if name not in differing(table)]
    unfinished = table[table["state"] != "complete"]
    for folder, state in zip(unfinished["run"], unfinished["state"], strict=True):
        print(f"Not counted: {folder} is {state}.", file=sys.stderr)
    write_table(chosen.out, table.drop(columns=same))
    print(f"{text}\nWritten: {chosen.out}")


@dataclass(frozen=True)
class FlatnessCommand:
    """Measure the local energy of stored networks, along training and at the end.

    Runs may be finished or still running. Writes flatness.csv (also the norms of the weights) and
    the figures flatness.pdf/.png (final networks of all runs) and along-training-RUN for each run.
    --hessian adds the curvature of the loss at the final networks to the table. --local-entropy
    writes local_entropy.csv and a figure of the final networks' curves. No network is measured
    twice.
    """

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of runs, or of the seeds of a run."""
    options: Annotated[FlatnessOptions, tyro.conf.arg(name="")] = field(
        default_factory=FlatnessOptions
    )
    hessian: bool = False
    """Also measure the Hessian of the final networks: largest eigenvalues and trace."""
    hessian_options: HessianOptions = field(default_factory=HessianOptions)
    local_entropy: bool = False
    """Also measure the local entropy of the final networks, with error bars: minutes to hours."""
    local_entropy_options: LocalEntropyOptions = field(default_factory=LocalEntropyOptions)
    out: Path = Path("flatness")
    """Folder for the table and the figures."""
    device: str = "auto"
    """auto, cpu, cuda."""
    data_dir: Path | None = None
    """Folder of the official archives, and of image-folder archives that were moved."""


def show_flatness(chosen: FlatnessCommand) -> None:
    """Measure the missing networks; write the table and the figures."""
    import pandas as pd
    from tqdm import tqdm

    from deep.device import Device
    from deep.figures import plot_local_energy, plot_local_entropy
    from deep.measurements import Images, measure_flatness, measure_hessian, measure_local_entropy

    images = Images(Device(chosen.device), data_dir=chosen.data_dir)
    parts, final, curves = [], {}, {}
    for run in open_runs(chosen.folders):
        along = {}
        if not run.networks:
            print(f"Skipped: {run.folder} has no network yet.", file=sys.stderr)
            continue
        for name in tqdm(run.networks, desc=str(run.folder), unit="network"):
            profile = measure_flatness(run, name, chosen.options, images)
            rows = run.curve(name)
            assert rows is not None
            passes, train, test = rows[["passes", "reference_error", "test_error"]].iloc[0]
            errors = f"({100 * train:.1f}, {100 * test:.1f}) %"
            along[f"{passes:g} passes {errors}"] = profile
            if name == "final":
                final[f"{run.name} {errors}"] = profile
                if chosen.hessian:
                    measured = measure_hessian(run, name, chosen.hessian_options, images)
                    spectrum, trace = measured["spectrum"], measured["trace"]
                    values = enumerate(spectrum["eigenvalues"], 1)
                    rows = rows.assign(
                        **{f"hessian_eigenvalue_{i}": value for i, value in values},
                        hessian_converged=spectrum["converged"], hessian_trace=trace["trace"],
                        hessian_trace_standard_error=trace["standard_error"],
                    )  # fmt: skip
                if chosen.local_entropy:
                    curves[run.name] = pd.DataFrame(
                        measure_local_entropy(run, name, chosen.local_entropy_options, images)
                    )
            parts.append(rows)
        title = f"along-training-{run.name.replace('/', '-')}"
        save_figure(plot_local_energy(along).figure, chosen.out / title)
    if not parts:
        raise ValueError("no run has a network yet; at least one network was expected.")
    write_table(chosen.out / "flatness.csv", pd.concat(parts, ignore_index=True))
    if final:
        save_figure(plot_local_energy(final).figure, chosen.out / "flatness")
    if curves:
        table = pd.concat(curves, names=["run"]).reset_index("run")
        write_table(chosen.out / "local_entropy.csv", table)
        save_figure(plot_local_entropy(curves).figure, chosen.out / "local_entropy")
    print(f"Errors in the legends: train (of {profile.images}), test.")
    print(f"Written: {chosen.out / 'flatness.csv'} and figures beside it")


@dataclass(frozen=True)
class CorrelationsCommand:
    """Correlate flatness with error: Pearson, Spearman, Kendall, granulated Kendall.

    Compares the final networks of runs. Measure their flatness first with python -m deep flatness;
    with --hessian there, the Hessian is compared too. The hyper-parameters are the settings in
    which the runs differ, except the seed. Name the varied ones if other settings follow them, as γ
    follows the algorithm. deep.correlation_report does the same for any table.
    """

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of finished runs, or of the seeds of a run."""
    sigmas: tuple[float, ...] = (0.3, 0.5)
    """Noise intensities σ at which the local energy is compared."""
    measures: tuple[str, ...] = ()
    """Columns of flatness and norm to compare; none: all of them."""
    errors: tuple[str, ...] = ("test_error", "gap")
    """Columns of errors to compare with."""
    hyper_parameters: tuple[str, ...] = ()
    """Settings for the granulated coefficients; none: all that differ."""
    out: Path = Path("correlations.csv")
    """File for the report."""


def show_correlations(chosen: CorrelationsCommand) -> None:
    """Write and print the report."""
    from deep.correlations import correlation_report

    table = runs(chosen.folders, chosen.sigmas)
    lacking = table[table["weight_norm"].isna() | (table["state"] != "complete")]["run"]
    if len(lacking):
        raise ValueError(
            f"{lacking.iloc[0]} is not finished, or its flatness has not been measured; "
            f"`python -m deep flatness {lacking.iloc[0]}` does it."
        )
    known = table.dropna(axis="columns").filter(regex="^(local_energy|weight_norm|hessian)")
    measures = chosen.measures or [n for n in map(str, known) if not n.endswith(ERROR)]
    settings = chosen.hyper_parameters or [n for n in differing(table) if n != "seed"]
    report = correlation_report(table, measures, chosen.errors, settings)
    write_table(chosen.out, report)
    print(f"{to_markdown(report)}\nlow, high: 95 % confidence limits\nWritten: {chosen.out}")
