"""The networks: published parameter counts, shapes, gradients, random parts, bad names."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from deep import build_model
from deep.models.efficientnet import DropConnect, InvertedResidual
from deep.models.pyramidnet import PyramidBottleneck, ShakeDrop

COUNTS = [
    ("smallconvnet", 10, {}, 657_080),
    ("smallconvnet", 10, {"padding": 2}, 1_632_080),
    # 10·(3·25 + 1) + 25·(10·25 + 1) + 250·(25·25 + 1) + 10·(250 + 1)
    ("smallconvnet", 10, {"width": 0.5}, 166_045),
    # 3·9·16, then convolutions of 2·9·(16² , 24·32, 48·64), 2·(3·16 + 2·32 + 2·64), 10·65.
    ("resnet8", 10, {}, 75_290),
    ("resnet18", 10, {}, 11_181_642),
    ("resnet18", 10, {"stem": "cifar"}, 11_173_962),
    ("resnet110", 10, {}, 1_727_962),
    ("resnet110", 10, {"shortcut": "B"}, 1_730_714),
    ("pyramidnet272", 10, {}, 26_210_842),
    ("pyramidnet272", 100, {}, 26_288_692),
    ("efficientnet_b0", 10, {}, 4_020_358),
    ("efficientnet_b0", 100, {}, 4_135_648),
    ("efficientnet_b0", 1000, {}, 5_288_548),
    ("resnet50", 200, {}, 23_917_832),
    ("densenet121", 200, {}, 7_158_856),
]
# A network and the ratio of the image's side to the side of its last feature map.
REDUCTIONS = [
    ("resnet18", {}, 32), ("resnet18", {"stem": "cifar"}, 8), ("resnet8", {}, 4),
    ("resnet110", {}, 4), ("pyramidnet272", {}, 4), ("efficientnet_b0", {}, 32),
    ("resnet50", {}, 32), ("resnet50", {"stem": "cifar"}, 8),
    ("densenet121", {}, 32), ("densenet121", {"stem": "cifar"}, 8),
]  # fmt: skip


@pytest.mark.parametrize(("name", "classes", "options", "count"), COUNTS)
def test_parameter_counts(name, classes, options, count):
    with torch.device("meta"):
        model = build_model(name, classes, **options)
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize(("name", "options", "reduction"), REDUCTIONS)
def test_shapes(name, options, reduction):
    """The logits and the feature map before the mean over pixels have the expected shapes."""
    with torch.device("meta"):
        model = build_model(name, 7, **options)
    last: list[torch.Size] = []
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    convolutions[-1].register_forward_hook(lambda *call: last.append(call[2].shape))
    for size in (32, 64, 224):
        assert model(torch.empty(2, 3, size, size, device="meta")).shape == (2, 7)
        assert last.pop()[2:] == (size // reduction, size // reduction)


@pytest.mark.parametrize(("name", "options"), [(c[0], c[2]) for c in COUNTS if c[1] in (10, 200)])
def test_gradients_reach_every_parameter(name, options):
    torch.manual_seed(0)
    model = build_model(name, 10, **options)
    output = model(torch.randn(2, 3, 32, 32))
    assert torch.isfinite(output).all()
    output.square().sum().backward()
    for key, p in model.named_parameters():
        assert p.grad is not None and torch.isfinite(p.grad).all() and p.grad.abs().max() > 0, key


@pytest.mark.parametrize("p", [0.5, 0.9, 1.0])
def test_the_means_of_shakedrop(p):
    """The mean factor is p forwards, as in evaluation, and p + (1 − p)/2 backwards."""
    torch.manual_seed(1)
    layer = ShakeDrop(p)
    batches, size = 2000, 3
    coefficients = torch.empty(2, batches, size)
    for batch in range(batches):
        x = torch.ones(size, 1, 1, 1, requires_grad=True)
        output = layer(x)
        output.sum().backward()
        coefficients[0, batch], coefficients[1, batch] = output.detach().view(-1), x.grad.view(-1)
    layer.eval()
    evaluated = float(layer(torch.ones(1, 1, 1, 1)))
    assert evaluated == pytest.approx(p)
    # Images of a batch share one gate, so the batches are the independent samples.
    means = coefficients.mean(2)
    for mean, expected in zip(means, (evaluated, p + (1 - p) / 2), strict=True):
        error = float(mean.std()) / math.sqrt(batches)
        assert abs(float(mean.mean()) - expected) <= 4 * error + 1e-6
    # The gate opens for a whole batch, in both directions at once. Otherwise each image draws
    # its own uniform α in [−1, 1] and β in [0, 1], with the variances 1/3 and 1/12.
    unshaken = (coefficients == 1).all(2)
    assert torch.equal(unshaken[0], unshaken[1])
    assert abs(float(unshaken[0].float().mean()) - p) <= 4 * math.sqrt(p * (1 - p) / batches)
    alpha, beta = coefficients[:, ~unshaken[0]]
    if len(alpha) > 0:
        assert alpha.abs().max() <= 1 and beta.min() >= 0 and beta.max() <= 1
        correlations = torch.corrcoef(torch.cat([alpha, beta], 1).T) - torch.eye(2 * size)
        assert correlations.abs().max() < 5 / math.sqrt(len(alpha))
        for drawn, variance in ((alpha, 1 / 3), (beta, 1 / 12)):
            squares = (drawn - drawn.mean()).square().reshape(-1)
            assert abs(float(squares.mean()) - variance) < 5 * float(squares.std()) / math.sqrt(
                len(squares)
            )


def test_shakedrop_becomes_stronger_with_depth():
    with torch.device("meta"):
        model = build_model("pyramidnet272", 10)
    blocks = [m for m in model.modules() if isinstance(m, PyramidBottleneck)]
    survival = [block.shake_drop.p for block in blocks]
    assert len(blocks) == 90
    assert survival == pytest.approx([1 - 0.5 * (block + 1) / 90 for block in range(90)])


def test_drop_connect():
    """Each image is kept or dropped, with mean one. Evaluation changes nothing."""
    torch.manual_seed(2)
    layer = DropConnect(0.2)
    images = torch.ones(20_000, 1, 1, 1)
    scales = layer(images).view(-1)
    assert set(scales.tolist()) == {0.0, 1.25}
    assert abs(float(scales.mean()) - 1) < 4 * float(scales.std()) / math.sqrt(len(scales))
    layer.eval()
    assert torch.equal(layer(images), images)
    with torch.device("meta"):
        blocks = build_model("efficientnet_b0", 10).blocks
    assert all(isinstance(block, InvertedResidual) for block in blocks)
    drops = [block.drop_connect.probability for block in blocks]
    assert drops == pytest.approx([0.2 * index / 16 for index in range(16)])


def test_dropout_of_smallconvnet():
    """The mean over many draws is the output of the same network without dropout."""
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    models = []
    for dropout in (0.0, 0.5):
        torch.manual_seed(5)
        models.append(build_model("smallconvnet", 10, dropout=dropout))
    plain, dropping = models
    with torch.no_grad():
        outputs = torch.stack([dropping(images) for _ in range(2000)])
        expected = plain(images)
        assert torch.equal(dropping.eval()(images), expected)
    assert torch.all((outputs.mean(0) - expected).abs() < 5 * outputs.std(0) / 2000**0.5)
    assert torch.all(outputs.std(0) > 0)


def test_initial_weights_of_efficientnet():
    """The variance is 2 / fan-out. The fan-out of a depthwise convolution is k²."""
    torch.manual_seed(3)
    for module in build_model("efficientnet_b0", 10).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 2000:
            fan_out = module.kernel_size[0] ** 2 * module.out_channels / module.groups
            variance = float(module.weight.detach().square().mean())
            tolerance = 5 * math.sqrt(2 / module.weight.numel())
            assert variance * fan_out / 2 == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("resnet19", {}, r"name is 'resnet19'; one of \['densenet121'"),
        ("resnet18", {"stems": "cifar"}, "has no option 'stems'"),
        ("resnet18", {"stem": "big"}, "stem is 'big'"),
        ("resnet18", {"num_classes": 1}, "num_classes is 1"),
        ("pyramidnet272", {"p_last": 1.5}, r"p_last is 1\.5; a probability"),
        ("efficientnet_b0", {"dropout": 1}, "dropout is 1; a probability below 1"),
        ("smallconvnet", {"padding": "-1"}, "padding is '-1'; a number of pixels"),
        ("smallconvnet", {"width": 0.01}, r"width is 0\.01; at least one unit"),
        ("smallconvnet", {"dropout": -1}, "dropout is -1; a probability below 1"),
        ("smallconvnet", {"image_size": 12}, "image_size is 12, of which nothing is left"),
    ],
)
def test_bad_names_and_options(name, options, words):
    with pytest.raises(ValueError, match=words):
        build_model(name, **{"num_classes": 10, **options})
