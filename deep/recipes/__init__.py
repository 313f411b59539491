"""The published settings of [P21] App. C: one configuration for each cell of Table 1.

``recipe("cifar10", "resnet18", "rsgd")`` is the run behind that cell. Numbers that the paper
gives in epochs of an algorithm are in passes over the data here: an epoch of eSGD, which counts
outer steps, is L = 5 passes. Where the paper says nothing, its general statements hold: the
settings of SGD; y = 3, K = 10, measured γ0 and γ growing by 1e4 for rSGD; L = 5, ε = 1e-4,
α = 0.75 and γ growing by 10 for eSGD; learning rate drops at the same fractions of the run.
"""

from __future__ import annotations

from dataclasses import replace

from deep.config import ALGORITHMS, Algorithm, TrainingConfig
from deep.recipes import resnet18, resnet110, smallconvnet

CELLS = {
    "smallconvnet": smallconvnet.CELLS,
    "resnet18": resnet18.CELLS,
    "resnet110": resnet110.CELLS,
}

# Test errors in percent with their errors, [P21] Table 1, CIFAR-10.
PUBLISHED: dict[tuple[str, str], tuple[float, float]] = {
    ("smallconvnet", "sgd"): (16.5, 0.2),
    ("smallconvnet", "rsgd"): (15.6, 0.3),
    ("smallconvnet", "esgd"): (14.7, 0.3),
    ("smallconvnet", "rsgd-xy"): (14.9, 0.2),
    ("resnet18", "sgd"): (13.1, 0.3),
    ("resnet18", "rsgd"): (12.4, 0.3),
    ("resnet18", "esgd"): (12.1, 0.3),
    ("resnet18", "rsgd-xy"): (11.8, 0.1),
    ("resnet110", "sgd"): (6.4, 0.1),
    ("resnet110", "rsgd"): (6.2, 0.2),
    ("resnet110", "esgd"): (6.2, 0.1),
    ("resnet110", "rsgd-xy"): (5.3, 0.1),
}


def recipe(dataset: str, model: str, algorithm: Algorithm, seed: int = 0) -> TrainingConfig:
    """The published settings of a model and algorithm, all of them for CIFAR-10.

    On another data set they are a starting point. Raises ``ValueError`` for unknown names.
    """
    if model not in CELLS:
        raise ValueError(f"model is {model!r}; one of {sorted(CELLS)} was expected.")
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm is {algorithm!r}; one of {ALGORITHMS} was expected.")
    return replace(CELLS[model][algorithm], dataset=dataset, seed=seed)
