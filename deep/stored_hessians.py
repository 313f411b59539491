"""Curvature of the loss at the final networks of stored runs, measured once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deep.hessian import HessianSpectrum, HessianTrace, hessian_spectrum, hessian_trace
from deep.images.datasets import ImageData, load_images
from deep.images.minibatches import ImageBatches
from deep.place import Place
from deep.stored_runs import StoredNetwork
from message_passing.tools.files import write_json


@dataclass(frozen=True)
class HessianOptions:
    """How the Hessian of a stored network is measured; training images, not augmented."""

    eigenvalues: int = 3
    """Number of largest eigenvalues."""
    tolerance: float = 1e-2
    """Relative accuracy of the eigenvalues."""
    iterations: int = 100
    """Restarts of ARPACK at most."""
    trace_samples: int = 30
    """Random vectors for the trace."""
    images: int | None = 1000
    """Training images that the loss is the mean over; none: all of them."""
    batch_size: int = 250
    """Images per pass; their activations are kept for a second derivative."""
    seed: int = 0
    """Of the vectors and the choice of images."""


def measure_hessian(
    network: StoredNetwork,
    options: HessianOptions,
    device: str = "auto",
    data: ImageData | None = None,
    data_folder: str | Path | None = None,
) -> tuple[HessianSpectrum, HessianTrace]:
    """Eigenvalues and trace for a final network, read where these options were measured.

    Kept in ``<run>/hessian/<network>.json``, with the options.
    """
    file = network.path.parent / "hessian" / f"{network.path.stem}.json"
    wanted = json.loads(json.dumps(asdict(options)))
    # A network that was trained again is measured again.
    wanted["size"], wanted["test_error"] = network.path.stat().st_size, network.test_error
    stored = json.loads(file.read_text()) if file.exists() else {}
    if stored.get("options") != wanted:
        place = Place(device)
        images = (data or load_images(network.config.dataset, data_folder)).to(place.device)
        loader = ImageBatches(
            images, network.config.preprocessing(images), size=options.batch_size,
            images=options.images, seed=options.seed,
        )  # fmt: skip
        model = network.model.to(place.device)
        spectrum = hessian_spectrum(
            model, loader, options.eigenvalues, tolerance=options.tolerance,
            iterations=options.iterations, seed=options.seed,
        )  # fmt: skip
        trace = hessian_trace(model, loader, options.trace_samples, seed=options.seed)
        numbers = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in asdict(spectrum).items()
        }
        stored = {"options": wanted, "spectrum": numbers, "trace": asdict(trace)}
        write_json(file, stored)
    arrays = {name: np.array(stored["spectrum"][name]) for name in ("eigenvalues", "residuals")}
    return HessianSpectrum(**(stored["spectrum"] | arrays)), HessianTrace(**stored["trace"])


def hessian_columns(
    options: HessianOptions, measured: tuple[HessianSpectrum, HessianTrace] | None
) -> dict[str, Any]:
    """Columns beside the local energy; empty for a network that is not measured."""
    names = [f"hessian_eigenvalue_{i}" for i in range(1, options.eigenvalues + 1)]
    names += ["hessian_converged", "hessian_trace", "hessian_trace_standard_error"]
    values: Sequence[Any] = [""] * len(names)
    if measured is not None:
        spectrum, trace = measured
        values = [
            *map(float, spectrum.eigenvalues), spectrum.converged, trace.trace,
            trace.standard_error,
        ]  # fmt: skip
    return dict(zip(names, values, strict=True))
