"""The networks of [P21] and smaller ones. Training also takes any other ``nn.Module``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from deep.models.densenet import DenseNet121
from deep.models.efficientnet import EfficientNetB0
from deep.models.pyramidnet import PyramidNet272
from deep.models.resnet import resnet8, resnet18, resnet50, resnet110
from deep.models.small_conv_net import SmallConvNet
from message_passing.tools.validation import check

MODELS: dict[str, Callable[..., nn.Module]] = {
    "smallconvnet": SmallConvNet,
    "resnet8": resnet8,
    "resnet18": resnet18,
    "resnet110": resnet110,
    "pyramidnet272": PyramidNet272,
    "efficientnet_b0": EfficientNetB0,
    "resnet50": resnet50,
    "densenet121": DenseNet121,
}


def build_model(name: str, num_classes: int, **options: Any) -> nn.Module:
    """A network of ``MODELS`` by name, e.g. ``build_model("resnet18", 10, stem="cifar")``.

    Raises ``ValueError`` for an unknown name or option.
    """
    check("name", name, name in MODELS, f"one of {sorted(MODELS)}")
    several = isinstance(num_classes, int) and num_classes >= 2
    check("num_classes", num_classes, several, "an integer ≥ 2")
    known = list(inspect.signature(MODELS[name]).parameters)[1:]
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"{name} has no option {unknown[0]!r}; its options are {known}.")
    return MODELS[name](num_classes, **options)
