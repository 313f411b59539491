"""The published settings of [P21] App. C: one configuration for each cell of Table 1.

``recipe("cifar10", "resnet18", "rsgd")`` is the run behind that cell. Numbers that the paper
gives in epochs of an algorithm are in passes over the data here: an epoch of eSGD, which counts
outer steps, is L = 5 passes. Where the paper says nothing, its general statements hold: the
settings of SGD; y = 3, K = 10, measured γ0 and γ growing by 1e4 for rSGD; L = 5, ε = 1e-4,
α = 0.75 and γ growing by 10 for eSGD; learning rate drops at the same fractions of the run.
"""

from __future__ import annotations

from dataclasses import replace

from deep.config import ALGORITHMS, PEERS, Algorithm, TrainingConfig
from deep.recipes import (
    densenet121,
    efficientnet_b0,
    pyramidnet272,
    resnet18,
    resnet50,
    resnet110,
    smallconvnet,
)
from deep.recipes.cells import Row
from deep.recipes.peers import peer

# The rows of Table 1, in its order: data set and model.
TABLE: dict[tuple[str, str], Row] = {
    ("cifar10", "smallconvnet"): smallconvnet.CIFAR10,
    ("cifar10", "resnet18"): resnet18.CIFAR10,
    ("cifar10", "resnet110"): resnet110.CIFAR10,
    ("cifar10", "pyramidnet272"): pyramidnet272.CIFAR10,
    ("cifar100", "pyramidnet272"): pyramidnet272.CIFAR100,
    ("cifar100", "efficientnet_b0"): efficientnet_b0.CIFAR100,
    ("tinyimagenet", "resnet50"): resnet50.TINY_IMAGENET,
    ("tinyimagenet", "densenet121"): densenet121.TINY_IMAGENET,
}

# Test errors in percent with their errors, where printed ([P21] Table 1). Blank there, and
# missing here: eSGD of PyramidNet.
PUBLISHED: dict[tuple[str, str], dict[Algorithm, tuple[float, float | None]]] = {
    ("cifar10", "smallconvnet"): {
        "sgd": (16.5, 0.2), "rsgd": (15.6, 0.3), "esgd": (14.7, 0.3), "rsgd-xy": (14.9, 0.2),
    },
    ("cifar10", "resnet18"): {
        "sgd": (13.1, 0.3), "rsgd": (12.4, 0.3), "esgd": (12.1, 0.3), "rsgd-xy": (11.8, 0.1),
    },
    ("cifar10", "resnet110"): {
        "sgd": (6.4, 0.1), "rsgd": (6.2, 0.2), "esgd": (6.2, 0.1), "rsgd-xy": (5.3, 0.1),
    },
    ("cifar10", "pyramidnet272"): {"sgd": (2.1, 0.2), "rsgd": (2.2, 0.1), "rsgd-xy": (1.8, None)},
    ("cifar100", "pyramidnet272"): {
        "sgd": (13.8, 0.1), "rsgd": (13.5, 0.1), "rsgd-xy": (12.7, None),
    },
    ("cifar100", "efficientnet_b0"): {
        "sgd": (20.5, None), "rsgd": (20.6, None), "esgd": (20.1, 0.2), "rsgd-xy": (19.5, None),
    },
    ("tinyimagenet", "resnet50"): {
        "sgd": (45.2, 1.2), "rsgd": (41.5, 0.3), "esgd": (41.7, 1.0), "rsgd-xy": (39.2, 0.3),
    },
    ("tinyimagenet", "densenet121"): {
        "sgd": (41.4, 0.3), "rsgd": (39.8, 0.2), "esgd": (38.6, 0.4), "rsgd-xy": (38.9, 0.3),
    },
}  # fmt: skip


def recipe(dataset: str, model: str, algorithm: Algorithm, seed: int = 0) -> TrainingConfig:
    """The published settings of a data set, model and algorithm.

    On a data set that the paper has not tried with this model they are those of the model's
    first row: a starting point. Those of a peer are in ``deep.recipes.peers``. Raises
    ``ValueError`` for unknown names.
    """
    datasets = [known for known, name in TABLE if name == model]
    if not datasets:
        models = sorted({name for _, name in TABLE})
        raise ValueError(f"model is {model!r}; one of {models} was expected.")
    if algorithm not in ALGORITHMS + PEERS:
        raise ValueError(f"algorithm is {algorithm!r}; one of {ALGORITHMS + PEERS} was expected.")
    row = TABLE[dataset if dataset in datasets else datasets[0], model]
    config = peer(algorithm, row["sgd"]) if algorithm in PEERS else row[algorithm]
    return replace(config, dataset=dataset, seed=seed)
