"""The networks of [P21] and smaller ones; training takes any other ``nn.Module`` as well."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from deep.models.densenet import DenseNet121
from deep.models.efficientnet import EfficientNetB0
from deep.models.pyramidnet import pyramidnet272
from deep.models.resnet import resnet8, resnet18, resnet50, resnet110
from deep.models.small_conv_net import SmallConvNet

MODELS: dict[str, Callable[..., nn.Module]] = {
    "smallconvnet": SmallConvNet,
    "resnet8": resnet8,
    "resnet18": resnet18,
    "resnet110": resnet110,
    "pyramidnet272": pyramidnet272,
    "efficientnet_b0": EfficientNetB0,
    "resnet50": resnet50,
    "densenet121": DenseNet121,
}


def build_model(name: str, num_classes: int, **options: Any) -> nn.Module:
    """A network of ``MODELS`` by name, e.g. ``build_model("resnet18", 10, stem="cifar")``.

    Raises ``ValueError`` for an unknown name or option.
    """
    if name not in MODELS:
        raise ValueError(f"name is {name!r}; one of {sorted(MODELS)} was expected.")
    if not (isinstance(num_classes, int) and num_classes >= 2):
        raise ValueError(f"num_classes is {num_classes!r}; an integer ≥ 2 was expected.")
    known = list(inspect.signature(MODELS[name]).parameters)[1:]
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"{name} has no option {unknown[0]!r}; its options are {known}.")
    return MODELS[name](num_classes, **options)
