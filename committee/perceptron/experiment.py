"""Data of the perceptron figure: theory and instances of several sizes, stored and resumable."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator

from committee.perceptron.controls import (
    NAMES,
    expected,
    expected_volume,
    observed,
    observed_volume,
)
from committee.perceptron.franz_parisi import franz_parisi
from committee.perceptron.gardner import check_alpha, generalisation_error, maximum_margin
from committee.perceptron.instances import Instance
from committee.perceptron.references import ReferenceName, make_reference
from message_passing.belief_propagation import BeliefPropagation
from message_passing.expectation_propagation import ExpectationPropagation
from message_passing.local_entropy import Engine, local_entropy_curve
from message_passing.monte_carlo import MonteCarlo
from message_passing.output_node import Majority
from message_passing.problem import PatternGeometry
from message_passing.tools.files import read_records, write_records
from message_passing.tools.run_folder import RunFolder, as_json, make_missing
from message_passing.tools.validation import check_least

if TYPE_CHECKING:
    import pandas as pd

#: Distances d of the points.
DISTANCES = (0.01, 0.03, 0.1, 0.2, 0.3)
#: Margins of typical references in units of the largest margin: for lines, and for points.
FRACTIONS = {"random": (0.0, 0.25, 0.5, 0.75, 0.9), "teacher": (0.0, 0.5, 0.8)}
MEASURED_FRACTIONS = (0.0, 0.5)
#: Cold enough to forbid all errors, even if the reference makes some.
NO_ERRORS = Majority(inverse_temperature=1e3)


class Family(NamedTuple):
    """A kind of reference: random or teacher labels, a name, κ in units of the largest margin."""

    labels: str
    name: ReferenceName
    fraction: float = 0.0


#: The hinge loss is missing: at a small ridge it finds the maximum margin.
_OTHERS: tuple[ReferenceName, ...] = ("max-margin", "logistic", "hebb")
FAMILIES = tuple(
    family
    for labels, fractions in FRACTIONS.items()
    for family in (
        *(Family(labels, "typical", fraction) for fraction in fractions),
        *(Family(labels, name) for name in _OTHERS),
    )
)


@dataclass(frozen=True)
class PerceptronConfig:
    """Local entropy of perceptrons: replica theory compared with instances."""

    out: Path = Path("results/perceptron")
    """Folder of the results. Running again with the same folder resumes."""
    alpha: float = 0.5
    """Patterns per input, P/N. Must be below 2, the capacity for random labels."""
    ridge: float = 1e-3
    """λ of the logistic loss."""
    sizes: tuple[int, ...] = (150, 300, 600)
    """Numbers of inputs N of the instances. αN must be an integer."""
    instances: int = 16
    """Monte Carlo instances of the smallest N. Larger N get fewer, ∝ 1/N, but at least three."""
    more: int = 3
    """Extra instances, per Monte Carlo instance, for ep and bp only, which are fast."""
    chains: int = 8
    """Monte Carlo chains."""
    steps: int = 40
    """Steps of each Monte Carlo chain on each rung of its ladder."""
    seed: int = 0
    """Seed of the instances, their references and Monte Carlo."""
    workers: int = 2
    """Number of processes."""

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        if not self.alpha < 2:
            raise ValueError(f"alpha is {self.alpha}; a number below 2 was expected.")
        check_least(self, instances=3, more=0, steps=2, chains=4, workers=1)
        if len(set(self.sizes)) < 2 or min(self.sizes) < 20:
            raise ValueError(f"sizes is {self.sizes}; two or more N ≥ 20 were expected.")
        for N in self.sizes:
            if abs(self.alpha * N - round(self.alpha * N)) > 1e-9:
                # Rounding P would change α by O(1/N), like a finite-size correction.
                raise ValueError(f"alpha N is {self.alpha * N:g}; a whole number was expected.")

    def count(self, N: int) -> int:
        """Number of Monte Carlo instances of this size."""
        return max(3, round(self.instances * min(self.sizes) / N))

    def kappa(self, family: Family) -> float:
        return family.fraction * maximum_margin(self.alpha, family.labels == "teacher")


def compute(config: PerceptronConfig, progress: bool = False) -> dict[str, pd.DataFrame]:
    """Compute the missing parts of the tables "theory" and "instances" in ``config.out``.

    Raises
    ------
    ValueError
        The folder holds the results of another configuration.
    """
    settings = as_json({k: v for k, v in asdict(config).items() if k not in ("out", "workers")})
    folder = RunFolder(config.out, units=("theory", "instances", "volumes"))
    folder.store_config("Perceptron: theory beside instances", settings)
    families = {(i, 0): family for i, family in enumerate(FAMILIES)}
    # The largest instances go first, so that all processes end together.
    instances = {
        (N, i): (N, i)
        for N in sorted(config.sizes, reverse=True)
        for i in range(config.count(N) * (1 + config.more))
    }
    kinds = (
        (predict, "theory", families),
        (measure, "instances", instances),
        (measure_volume, "volumes", instances),
    )
    for make, kind, units in kinds:
        make_missing(
            make,
            {_file(config, kind, *key): unit for key, unit in units.items()},
            write_records,
            progress,
            common=(config,),
            workers=config.workers,
            description=kind,
        )
    return load(config.out)


def load(folder: str | Path) -> dict[str, pd.DataFrame]:
    """Read what :func:`compute` stored."""
    import pandas as pd

    tables = {
        kind: pd.concat(map(read_records, sorted(Path(folder, kind).glob("*.json"))))
        for kind in ("theory", "instances", "volumes")
    }
    volumes = tables.pop("volumes")
    tables["instances"] = tables["instances"].merge(volumes, on=["labels", "N", "instance"])
    return {kind: table.reset_index(drop=True) for kind, table in tables.items()}


def predict(config: PerceptronConfig, family: Family) -> pd.DataFrame:
    """Unit of work: Φ_LE of one family on a line and at points, with the controls f_∞."""
    import pandas as pd

    kappa = config.kappa(family)
    reference = make_reference(
        family.name, config.alpha, kappa, config.ridge, family.labels == "teacher"
    )
    line = franz_parisi(config.alpha, np.geomspace(4e-3, 4.0, 10), reference)
    # Δ of the wanted distances. Around references with errors, small distances do not exist.
    to_variance = PchipInterpolator(np.log(line.distance), np.log(line.variance))
    wanted = np.log([d for d in DISTANCES if d > line.distance[0]])
    points = franz_parisi(config.alpha, np.exp(to_variance(wanted)), reference)
    tables = [
        pd.DataFrame(
            {
                **family._asdict(),
                "kappa": kappa,
                "kind": kind,
                "variance": curve.variance,
                "distance": curve.distance,
                "local_entropy": curve.local_entropy,
                "displacement": curve.displacement,
                "error": float(generalisation_error(reference.R)),
                "training_error": reference.training_error,
                "converged": curve.converged,
            }
        )
        for kind, curve in (("line", line), ("point", points))
    ]
    controls = [expected(reference, variance) for variance in points.variance]
    tables[1] = tables[1].join(pd.DataFrame(controls, columns=list(NAMES)))
    tables[1]["volume"] = expected_volume(config.alpha, family.labels == "teacher")
    return pd.concat(tables, ignore_index=True)


def measure(config: PerceptronConfig, unit: tuple[int, int]) -> pd.DataFrame:
    """Unit of work: all families on one instance of each kind of labels, by all engines.

    A family is skipped if the instance has no such reference (no solution of this margin), or if
    the reference makes training errors. Hebb's rule is an exception: if it makes errors, bp and ep
    still measure the weights without errors around it.
    """
    import pandas as pd

    N, index = unit
    tables = []
    for labels in ("random", "teacher"):
        instance, rng = _draw(config, N, index, labels)
        geometry = PatternGeometry(instance.patterns)
        engines: dict[str, Engine] = {
            "bp": BeliefPropagation(node=NO_ERRORS),
            "ep": ExpectationPropagation(node=NO_ERRORS),
            "mc": MonteCarlo(
                draws=200 * config.chains,
                chains=config.chains,
                steps=config.steps,
                burn_in=max(2, config.steps // 2),
                seed=int(rng.integers(2**31)),
            ),
        }
        for i, family in enumerate(FAMILIES):
            if family.labels != labels or family.fraction not in MEASURED_FRACTIONS:
                continue
            try:
                w = instance.reference(family.name, rng, config.kappa(family), config.ridge)
            except ArithmeticError:
                continue
            errors = int(np.sum(instance.stabilities(w) < 0))
            if errors and family.name != "hebb":
                continue
            theory = read_records(_file(config, "theory", i, 0))
            theory = theory[theory["kind"] == "point"]
            variances, wanted = theory["variance"].to_numpy(), theory["distance"].to_numpy()
            controls = np.transpose([observed(instance, w, variance) for variance in variances])
            for engine, solver in engines.items():
                if engine == "mc" and (errors or index >= config.count(N)):
                    continue
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # convergence is stored
                    curve = local_entropy_curve(
                        w[None], geometry, instance.labels, engine=solver, variances=variances
                    )
                slope = (1.0 - 1.0 / curve.displacement) / curve.variance
                row = {
                    **family._asdict(),
                    "N": N,
                    "instance": index,
                    "engine": engine,
                    "variance": variances,
                    "distance": wanted,
                    "local_entropy": curve.local_entropy + slope * (wanted - curve.distance),
                    "standard_error": curve.standard_error,
                    "converged": curve.converged,
                    "training_errors": errors,
                    **dict(zip(NAMES, controls, strict=True)),
                }
                tables.append(pd.DataFrame(row))
    return pd.concat(tables, ignore_index=True)


def measure_volume(config: PerceptronConfig, unit: tuple[int, int]) -> pd.DataFrame:
    """Unit of work: the volume of solutions of one instance for each kind of labels."""
    import pandas as pd

    N, index = unit
    rows = []
    for labels in ("random", "teacher"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # NaN says the same
            volume = observed_volume(_draw(config, N, index, labels)[0])
        rows.append({"labels": labels, "N": N, "instance": index, "volume": volume})
    return pd.DataFrame(rows)


def _draw(
    config: PerceptronConfig, N: int, index: int, labels: str
) -> tuple[Instance, np.random.Generator]:
    """An instance, and the generator for its references."""
    teacher = labels == "teacher"
    rng = np.random.default_rng(np.random.SeedSequence((config.seed, N, index, teacher)))
    return Instance.draw(N, config.alpha, teacher, rng), rng


def _file(config: PerceptronConfig, kind: str, first: int, second: int) -> Path:
    return config.out / kind / f"{first:02d}-{second:04d}.json"
