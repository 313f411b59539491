"""The networks: parameter counts of the literature, shapes, gradients, bad names."""

from __future__ import annotations

import pytest
import torch

from deep import build_model

COUNTS = [
    ("smallconvnet", 10, {}, 657_080),
    ("resnet18", 10, {}, 11_181_642),
    ("resnet18", 10, {"stem": "cifar"}, 11_173_962),
    ("resnet110", 10, {}, 1_727_962),
    ("resnet110", 10, {"shortcut": "B"}, 1_730_714),
]


@pytest.mark.parametrize(("name", "classes", "options", "count"), COUNTS)
def test_parameters_shapes_and_gradients(name, classes, options, count):
    model = build_model(name, classes, **options)
    assert sum(p.numel() for p in model.parameters()) == count
    output = model(torch.randn(2, 3, 32, 32))
    assert output.shape == (2, classes)
    output.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_bad_names_and_options():
    with pytest.raises(ValueError, match=r"name is 'resnet19'; one of \['resnet110'"):
        build_model("resnet19", 10)
    with pytest.raises(ValueError, match="has no option 'stems'"):
        build_model("resnet18", 10, stems="cifar")
    with pytest.raises(ValueError, match="stem is 'big'"):
        build_model("resnet18", 10, stem="big")
    with pytest.raises(ValueError, match="num_classes is 1"):
        build_model("resnet18", 1)
