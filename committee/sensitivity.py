"""How far the results depend on what the paper leaves open: a table of variations.

Every row trains one protocol with one thing changed: the draw or the balance of the patterns,
the reduction of the loss, the strength of the elastic term, the averaging of Entropy-SGD.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from committee.datasets import load_patterns
from committee.flatness import local_energy
from committee.patterns import PatternSet
from committee.protocols import PROTOCOLS, Protocol
from committee.training import train
from message_passing import local_entropy_curve
from message_passing.tools.files import write_csv, write_json


@dataclass(frozen=True)
class SensitivityConfig:
    """Vary what the paper leaves open; one row of a table for each variation."""

    out: Path = Path("results/sensitivity")
    """Folder of the results. Running again with the same folder resumes."""
    restarts: int = 10
    """Independent machines of each variation."""
    data: str = "auto"
    """Training and test patterns, as for figure1."""
    data_dir: Path | None = None
    """Folder with the four files of Fashion-MNIST."""
    size: int = 500
    """Training patterns."""
    seed: int = 0
    """Of the draw of the patterns and of all restarts."""
    workers: int | None = None
    """Processes on this machine. Default: one on each core."""
    scheduler: str | None = None
    """Address of a Dask scheduler (tcp://host:port) whose workers compute instead."""

    def __post_init__(self) -> None:
        if self.restarts < 2:
            raise ValueError(f"restarts is {self.restarts}; at least 2, for standard errors.")


@dataclass(frozen=True)
class Variation:
    """One row: a protocol on patterns, and what was changed."""

    change: str
    protocol: Protocol
    balanced: bool = False
    draw: int = 0  # added to the seed of the patterns

    @property
    def name(self) -> str:
        return f"{self.protocol.name}, {self.change}"


def variations() -> list[Variation]:
    """All rows of the table."""
    rows = []
    for protocol in PROTOCOLS.values():
        rows.append(Variation("as in Figure 1", protocol))
        rows.append(Variation("balanced patterns", protocol, balanced=True))
        rows.append(Variation("another draw of the patterns", protocol, draw=1))
    for name in ("sgd-fast", "sgd-slow"):
        protocol = replace(PROTOCOLS[name], reduction="mean")
        rows.append(Variation("mean of the loss", protocol))
    for scale, fast, slow in ((1.0, 7_000, 110_000), (100.0, 5_000, 100_000), (1e4, 3_000, 60_000)):
        for name, epochs in (("rsgd-fast", fast), ("rsgd-slow", slow)):
            changed: dict[str, Any] = {"elastic_scale": scale, "max_epochs": epochs}
            rows.append(Variation(f"elastic_scale {scale:g}", replace(PROTOCOLS[name], **changed)))
    for averaging in (0.0, 0.5, 0.9):
        changed = {"averaging": averaging}
        rows.append(Variation(f"averaging {averaging:g}", replace(PROTOCOLS["esgd"], **changed)))
    return rows


def run(config: SensitivityConfig) -> list[dict[str, Any]]:
    """Compute the rows that are missing, print each as it is known, write the table."""
    rows = []
    for row in measure(config):
        rows.append(row)
        print(
            f"{row['algorithm']:10s} {row['change']:30s} rule met {row['rule_met']:3d} of "
            f"{row['restarts']:3d}, with errors {row['with_errors']:3d}, "
            f"epochs {row['median_epochs']:7.0f}, "
            f"test error {100 * row['test_error']:5.2f} ± {100 * row['test_error_se']:.2f} % "
            f"(constant {100 * row['constant_test_error']:.1f} %), "
            f"δE(1) {row['local_energy_1']:.4f} ± {row['local_energy_1_se']:.4f}, "
            f"Φ_LE(0.3) by bp {row['local_entropy_bp']:.5f} ± {row['local_entropy_bp_se']:.5f} "
            f"({row['bp_converged']} converged)",
            flush=True,
        )
    write_csv(config.out / "sensitivity.csv", rows)
    return rows


def measure(config: SensitivityConfig) -> Iterator[dict[str, Any]]:
    """The rows one after another, from the folder where they are known."""
    for variation in variations():
        path = config.out / "rows" / f"{variation.name.replace(' ', '-')}.json"
        settings = {key: str(getattr(config, key)) for key in ("restarts", "data", "size", "seed")}
        if path.exists():
            stored = json.loads(path.read_text())
            if stored["settings"] != settings or stored["protocol"] != repr(variation.protocol):
                raise ValueError(
                    f"{path} was made with other settings; give another folder with --out."
                )
        else:
            row = measure_one(config, variation)
            stored = {"settings": settings, "protocol": repr(variation.protocol), "row": row}
            write_json(path, stored)
        yield stored["row"]


def measure_one(config: SensitivityConfig, variation: Variation) -> dict[str, Any]:
    """Train the machines of one row; their local energy, and the paper's local entropy at 0.3.

    The local entropy is that of belief propagation, which the paper uses: the rows are compared
    with its published ranges and with each other. It is a mean over machines that converged.
    """
    patterns: PatternSet = load_patterns(
        config.data, config.size, config.seed + variation.draw, config.data_dir, variation.balanced
    )
    machines = train(
        patterns,
        variation.protocol,
        restarts=config.restarts,
        seed=config.seed,
        workers=config.workers,
        scheduler=config.scheduler,
        progress=True,
    )
    energy = local_energy(
        machines.weights, patterns.train_patterns, patterns.train_labels, [0.5, 1.0, 1.5]
    ).local_energy
    curves = [
        local_entropy_curve(
            weights,
            patterns.train_patterns,
            patterns.train_labels,
            engine="bp",
            distances=[0.3],
        )
        for weights in machines.weights
    ]
    entropy = np.array([curve.local_entropy[0] for curve in curves if curve.converged[0]])

    def standard_error(values: np.ndarray) -> float:
        return float(np.std(values, ddof=1) / np.sqrt(len(values)))

    return {
        "algorithm": variation.protocol.name,
        "change": variation.change,
        "restarts": len(machines),
        "patterns": len(patterns.train_labels),
        "rule_met": int(machines.stopped.sum()),
        "with_errors": int(np.sum(machines.train_error > 0)),
        "median_epochs": float(np.median(machines.epochs)),
        "test_error": float(machines.test_error.mean()),
        "test_error_se": standard_error(machines.test_error),
        "constant_test_error": patterns.constant_test_error,
        "local_energy_0.5": float(energy[:, 0].mean()),
        "local_energy_0.5_se": standard_error(energy[:, 0]),
        "local_energy_1": float(energy[:, 1].mean()),
        "local_energy_1_se": standard_error(energy[:, 1]),
        "local_energy_1.5": float(energy[:, 2].mean()),
        "local_energy_1.5_se": standard_error(energy[:, 2]),
        "bp_converged": len(entropy),
        "local_entropy_bp": float(entropy.mean()) if len(entropy) else math.nan,
        "local_entropy_bp_se": standard_error(entropy) if len(entropy) > 1 else math.nan,
    }
