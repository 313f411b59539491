"""A stored run: the only reader of the files in its folder.

``Run(folder)`` gives the configuration, the log, the result, the networks and their measurements.
``runs("runs/*/seed-*")`` is a table with one row per run.
"""

from __future__ import annotations

import glob
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from deep.algorithms import KINDS
from deep.config import TrainingConfig
from message_passing.tools.files import content_hash, read_json, read_table
from message_passing.tools.run_folder import RunFolder
from message_passing.tools.tables import ERROR

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from torch import nn

    from deep.weight_noise import NetworkLocalEnergyProfile

FILES = ("result.json", "final.pt", "log.csv", "checkpoint.pt", "snapshots")
SHARED = [f.name for f in fields(TrainingConfig)]
OWN = [*dict.fromkeys(f.name for kind in KINDS.values() for f in fields(kind))]
SETTINGS = SHARED + OWN
CELL = ["dataset", "model", "algorithm"]  # one cell of Table 1
SIGMAS = (0.3, 0.5)


class StoredNetwork(NamedTuple):
    """A stored network, and the row of the log at which it was stored."""

    model: nn.Module
    row: Mapping[str, float]


class Run:
    """The run in a folder. Raises ``ValueError`` for a folder without one.

    If a file is missing or damaged, the properties raise ``ValueError`` with its name.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        stored = RunFolder(self.folder).config()
        if stored is None:
            raise ValueError(f"{self.folder} holds no config.json; a run's folder was expected.")
        try:
            self.settings: dict[str, Any] = stored["settings"]
            self.config = TrainingConfig.from_settings(self.settings, stored.get("dataset"))
        except (KeyError, ValueError) as error:
            raise ValueError(f"{self.folder / 'config.json'} describes no run: {error}") from error

    def __repr__(self) -> str:
        error = f", test error {100 * self.result['test_error']:.2f} %" if self.result else ""
        return f"<Run {self.folder}: {self.config.title}, {self.state}{error}>"

    @property
    def name(self) -> str:
        """Names of the parent folder and of the folder."""
        return f"{self.folder.parent.name}/{self.folder.name}".strip("/")

    @cached_property
    def log(self) -> pd.DataFrame:
        """The log: one row per pass of a replica over the data."""
        path = self.folder / "log.csv"
        if not path.exists():
            raise ValueError(
                f"{self.folder} has no log.csv yet; `python -m deep train` or `table1` trains it."
            )
        advice = "Delete it, and result.json if it is there: the same command writes it anew."
        log = read_table(path, advice)
        if "seconds" not in log or log["seconds"].isna().any() or log.empty:
            raise ValueError(
                f"{path} is cut off in row {len(log)}; a log with whole rows was expected. {advice}"
            )
        return log

    @cached_property
    def result(self) -> dict[str, Any] | None:
        """Errors and losses of the final network, without augmentation. None before the end."""
        path = self.folder / "result.json"
        if not path.exists():
            return None
        advice = "Delete it: the same command finishes the run again, from its checkpoint."
        result = read_json(path, advice)
        if not {"train_error", "test_error", "train_loss"} <= result.keys():
            raise ValueError(f"{path} has no test_error; a run's result was expected. {advice}")
        return result

    @property
    def state(self) -> Literal["complete", "diverged", "interrupted", "begun"]:
        """How far the run has come."""
        if self.result is not None:
            return "complete"
        if not (self.folder / "log.csv").exists():
            return "begun"
        return "interrupted" if math.isfinite(self.log["train_loss"].iloc[-1]) else "diverged"

    @property
    def done(self) -> float:
        """Fraction of the run that is logged."""
        if self.state in ("begun", "complete"):
            return float(self.state == "complete")
        return float(self.epochs(self.log["passes"].iloc[-1]) / self.config.passes)

    def epochs(self, passes: Any) -> Any:
        """Convert logged passes to the epochs of the paper's figures.

        They are equal for rSGD, whose replicas share a pass, and for eSGD, where every minibatch
        counts. rSGD×y logs the passes of all y replicas together, so its passes are divided by y.
        """
        return passes / self.config.algorithm.passes_per_epoch

    @property
    def networks(self) -> list[str]:
        """Names of the snapshots in the order of training, then ``final`` at the end.

        If no network file is left, these are the names of the stored measurements.
        """
        kept = sorted((self.folder / "snapshots").glob("passes-*.pt"))
        if not kept and not self.path("final").exists():
            kept = sorted((self.folder / "flatness").glob("passes-*.json"))
        final = self.path("final").exists() or self.result is not None
        return [path.stem for path in kept] + ["final"] * final

    def path(self, name: str) -> Path:
        """Path of a network's file."""
        return self.folder / (f"{name}.pt" if name == "final" else f"snapshots/{name}.pt")

    def network(self, name: str = "final") -> StoredNetwork:
        """Load a stored network to the CPU, in the state in which it was evaluated."""
        import torch

        from deep.checkpoints import load_file
        from deep.models import build_model

        path = self.path(name)
        if name == "final":
            self.check_final()
        elif not path.exists():
            raise ValueError(f"{path} does not exist; one of {self.networks} was expected.")
        advice = f"Delete it and {self.folder / 'result.json'}: the run then finishes again."
        stored = load_file(path, advice)
        try:
            classes = len(stored["about"]["classes"])
            model = build_model(self.config.model, classes, **self.config.model_options)
            model.load_state_dict(stored["model"])
        except (KeyError, TypeError, RuntimeError) as error:
            raise ValueError(f"{path} holds no network of this run ({error}). {advice}") from error
        # As in training. It halves the time of convolutions on a CPU.
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return StoredNetwork(model, stored["about"]["log"])

    def check_final(self) -> None:
        """Raise ``ValueError``, with advice, if the final network does not exist."""
        result = self.result  # raises if the file is damaged
        if self.path("final").exists():
            return
        if result is None:
            problem = ": the run is not finished."
        elif (self.folder / "checkpoint.pt").exists():
            again = f"Delete {self.folder / 'result.json'}: the run then finishes again."
            problem = f", though the run is finished. {again}"
        else:
            problem = ", though the run is finished; its checkpoint is lost, too."
        raise ValueError(f"{self.path('final')} does not exist{problem}")

    def measured(self, name: str = "final", kind: str = "flatness") -> dict[str, Any] | None:
        """The stored measurement of a network. None if this network file was not measured.

        ``kind`` is the subfolder: "flatness", "hessian", "local_entropy" or "test". If the network
        file is gone, the stored measurement still counts.
        """
        file, network = self.folder / kind / f"{name}.json", self.path(name)
        if not file.exists():
            return None
        stored = read_json(file)
        if network.exists() and stored.get("content") != content_hash(network):
            return None
        return stored

    def flatness(self, name: str = "final") -> NetworkLocalEnergyProfile | None:
        """The stored local energy of a network, or None."""
        from deep.measurements import profile_of

        stored, file = self.measured(name), self.folder / "flatness" / f"{name}.json"
        return None if stored is None else profile_of(stored, file)

    def curve(self, name: str = "final") -> pd.DataFrame | None:
        """The stored local energy of a network with its metadata, one row per σ, or None."""
        if (profile := self.flatness(name)) is None:
            return None
        stored = read_json(self.folder / "flatness" / f"{name}.json")
        return profile.to_frame().assign(
            run=self.name, algorithm=self.config.algorithm.name, passes=stored["passes"],
            images=profile.images, test_error=stored["test_error"],
            weight_norm=stored["weight_norm"], samples=profile.samples, scope=profile.scope,
            bn=profile.bn,
        )  # fmt: skip

    def cells(self) -> dict[str, Any]:
        """All settings as on the command line. None: the algorithm has no such setting."""
        values = vars(self.config) | vars(self.config.algorithm)
        named = {"dataset": self.config.dataset_name, "algorithm": self.config.algorithm.name}
        return {name: _cell((values | named).get(name)) for name in SETTINGS}

    def row(self, sigmas: Sequence[float] = SIGMAS) -> dict[str, Any]:
        """Settings, state, errors and flatness; see ``runs``."""
        result = self.result or {"train_error": math.nan, "test_error": math.nan}
        train, test = result["train_error"], result["test_error"]
        row = {"run": str(self.folder), **self.cells(), "state": self.state, "done": self.done}
        row |= {"train_error": train, "test_error": test, "gap": test - train}
        profile, stored = self.flatness(), self.measured() or {}
        for sigma in sigmas:
            value = error = math.nan
            if profile is not None:
                value = float(profile.at(sigma))
                error = float(np.interp(sigma, profile.sigma, profile.standard_error))
            row |= {f"local_energy_{sigma:g}": value, f"local_energy_{sigma:g}{ERROR}": error}
        hessian = self.measured(kind="hessian") or {"spectrum": {}, "trace": {}}
        return row | {
            "weight_norm": stored.get("weight_norm", math.nan),
            "hessian_eigenvalue": hessian["spectrum"].get("eigenvalues", [math.nan])[0],
            "hessian_trace": hessian["trace"].get("trace", math.nan),
            f"hessian_trace{ERROR}": hessian["trace"].get("standard_error", math.nan),
        }

    def to_frame(self, sigmas: Sequence[float] = SIGMAS) -> pd.DataFrame:
        """The run as one row; see ``runs``."""
        import pandas as pd

        return pd.DataFrame([self.row(sigmas)])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Test error along training."""
        from deep.figures import plot_training

        return plot_training({self.config.algorithm.label: self.log}, ax)


def runs(
    folders: str | Path | Iterable[str | Path], sigmas: Sequence[float] = SIGMAS
) -> pd.DataFrame:
    """A table with one row per run: settings, errors, flatness of the final network.

    Parameters
    ----------
    folders
        A pattern such as ``"runs/*/seed-*"``, or folders of runs, or of the seeds of a run.
    sigmas
        Noise intensities σ of the local energy.

    Columns: run (its folder), all settings (empty if the algorithm has no such setting), state
    ("complete", "diverged", "interrupted", "begun"), done (a fraction), train_error, test_error,
    gap, ``local_energy_<σ>``, weight_norm (‖w‖₂ of all parameters), hessian_eigenvalue (the
    largest), hessian_trace, and ``<column>_standard_error`` over the random vectors. Values that
    were not measured are NaN. Raises ``ValueError`` if no folder holds a run, for a damaged file,
    and for two runs with the same settings and seed.
    """
    import pandas as pd

    table = pd.DataFrame([run.row(sigmas) for run in open_runs(folders)])
    check_different(table)
    return table


def check_different(table: pd.DataFrame) -> None:
    """Raise ``ValueError`` if two rows of ``runs`` have the same settings and seed."""
    same = table[table.duplicated(SETTINGS, keep=False)]
    if len(same):
        first, second = same["run"].iloc[:2]
        raise ValueError(
            f"{first} and {second} have the same settings and the same seed; different runs were "
            "expected."
        )


def differing(table: pd.DataFrame) -> list[str]:
    """The settings in which the rows of ``runs`` differ.

    An algorithm's own settings count only if they differ between runs of that algorithm.
    """
    groups = table.groupby("algorithm")
    return [
        *(name for name in SHARED if table[name].nunique(dropna=False) > 1),
        *(name for name in OWN if (groups[name].nunique(dropna=False) > 1).any()),
    ]


def open_runs(folders: str | Path | Iterable[str | Path]) -> list[Run]:
    """The runs in folders. A folder holds a run, or the seeds of a run.

    A folder without a run is skipped, with a note on stderr. Raises ``ValueError`` if none is left.
    """
    if isinstance(folders, str | Path):
        folders = sorted(glob.glob(str(folders)))
    found: list[Path] = []
    for folder in map(Path, folders):
        inside = sorted(folder.glob("seed-*"), key=lambda path: (len(path.name), path.name))
        found += inside if inside and not (folder / "config.json").exists() else [folder]
    skipped = [folder for folder in found if not (folder / "config.json").exists()]
    if len(skipped) == len(found):
        named = f"{found[0]} holds no run" if found else "no folder was given"
        raise ValueError(f"{named}; the folders of runs were expected.")
    for folder in skipped:
        print(f"Skipped: {folder} holds no run.", file=sys.stderr)
    return [Run(folder) for folder in dict.fromkeys(found) if folder not in skipped]


def cell_folder(runs: Path, config: TrainingConfig) -> Path:
    """Folder of the seeds of a run, named by data set, model, options and algorithm."""
    options = [f"{name}-{value}" for name, value in config.model_options.items()]
    names = [config.dataset_name, config.model, *options, config.algorithm.name]
    return runs / "-".join(names)


def run_folder(runs: Path, config: TrainingConfig) -> Path:
    """``<runs>/<data set>-<model>-<algorithm>/seed-<n>``."""
    return cell_folder(runs, config) / f"seed-{config.seed}"


def check_folder(folder: Path, config: TrainingConfig) -> None:
    """Raise ``ValueError`` if the folder holds another run, or results without settings."""
    RunFolder(folder, units=FILES).check(config.settings())


def claim(folder: Path, config: TrainingConfig) -> None:
    """Write ``config.json``. Raises ``ValueError`` as ``check_folder`` does."""
    own = RunFolder(folder, units=FILES)
    own.store_config(config.title, config.settings(), dataset=config.dataset)


def _cell(value: Any) -> Any:
    """A setting as on the command line. 300.0 becomes 300."""
    if isinstance(value, dict):
        value = [word for pair in value.items() for word in pair]
    if isinstance(value, list | tuple):
        return " ".join(str(_cell(item)) for item in value)
    return int(value) if isinstance(value, float) and value.is_integer() else value
