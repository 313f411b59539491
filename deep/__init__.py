"""Entropy-SGD and Replicated-SGD for deep networks, on torch."""

from importlib import import_module
from typing import Any

# Each name is imported on first use, because importing torch takes seconds.
_MODULES = {
    "__version__": "message_passing",
    "AutomaticFocusing": "deep.optimizers.gamma",
    "EntropySGD": "deep.optimizers.entropy_sgd",
    "FlatnessReport": "deep.flatness_report",
    "ReplicatedSGD": "deep.optimizers.replicated_sgd",
    "Run": "deep.run",
    "TrainingConfig": "deep.config",
    "build_model": "deep.models",
    "correlation_report": "deep.correlations",
    "flatness": "deep.flatness_report",
    "hessian_spectrum": "deep.hessian",
    "hessian_trace": "deep.hessian",
    "load_images": "deep.images.datasets",
    "local_energy": "deep.weight_noise",
    "local_entropy_curve": "deep.local_entropy",
    "plot_baselines": "deep.figures",
    "plot_curves": "deep.figures",
    "plot_figure7": "deep.figures",
    "plot_local_energy": "deep.figures",
    "plot_local_entropy": "deep.figures",
    "plot_training": "deep.figures",
    "recipe": "deep.recipes",
    "runs": "deep.run",
    "train": "deep.training",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'deep' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
