"""EfficientNet-B0 (Tan & Le, 2019, "EfficientNet: rethinking model scaling")."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from message_passing.tools.validation import check

# Table 1 of the paper: expansion, kernel, stride, channels, repetitions.
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


def convolution(
    width: int, channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """A convolution without bias and its BatchNorm (ε = 1e-3, memory 0.99).

    Both sides get the same number of pixels as padding, as usual in torch. TensorFlow's "same"
    padding puts less on the left with stride 2.
    """
    return nn.Sequential(
        nn.Conv2d(width, channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01),
    )


class SqueezeExcitation(nn.Module):
    """Scales channels by sigmoid(W₂ swish(W₁ mean(x) + b₁) + b₂) (Hu et al., 2018)."""

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(width, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.expand(silu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(scale)


class DropConnect(nn.Module):
    """Drops the whole branch of an image with a probability in training (stochastic depth).

    A kept branch is divided by the probability to be kept, so that its mean is the branch itself.
    Evaluation uses this mean.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return x
        kept = 1 - self.probability
        gate = torch.rand((len(x), 1, 1, 1), device=x.device) < kept
        return x * (gate / kept).to(x.dtype)


class InvertedResidual(nn.Module):
    """MBConv: 1×1 expansion, depthwise convolution, squeeze and excitation, 1×1 projection.

    There is a shortcut if the shapes agree.
    """

    def __init__(
        self, width: int, channels: int, expansion: int, kernel: int, stride: int, drop: float
    ) -> None:
        super().__init__()
        inner = width * expansion
        self.expand = convolution(width, inner, 1) if expansion > 1 else None
        self.depthwise = convolution(inner, inner, kernel, stride, groups=inner)
        self.excite = SqueezeExcitation(inner, width // 4)
        self.project = convolution(inner, channels, 1)
        self.has_shortcut = stride == 1 and width == channels
        self.drop_connect = DropConnect(drop)

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else silu(self.expand(x))
        y = self.project(self.excite(silu(self.depthwise(y))))
        return x + self.drop_connect(y) if self.has_shortcut else y


class EfficientNetB0(nn.Module):
    """EfficientNet-B0, designed for 224×224 images; it takes any size.

    The stem, a 3×3 convolution, and four of the stages halve the image. The result is 32 times
    smaller: 7×7 pixels for 224×224, one for 32×32. 4,135,648 parameters for 100 classes, 5,288,548
    for 1000. The probability to drop a branch grows linearly with depth from 0 to nearly
    ``drop_connect``. ``dropout`` acts before the dense layer. Initial weights, as in the authors'
    code: Kaiming normal for convolutions (fan out; k² for a depthwise one); uniform in ±1/√classes
    and zero bias for the dense layer.
    """

    def __init__(self, num_classes: int, drop_connect: float = 0.2, dropout: float = 0.2) -> None:
        super().__init__()
        for name, value in (("drop_connect", drop_connect), ("dropout", dropout)):
            check(name, value, 0 <= value < 1, "a probability below 1")
        self.stem = convolution(3, 32, 3, 2)
        blocks: list[nn.Module] = []
        width, total = 32, sum(stage[-1] for stage in STAGES)
        for expansion, kernel, stage_stride, channels, repetitions in STAGES:
            for index in range(repetitions):
                stride = stage_stride if index == 0 else 1
                drop = drop_connect * len(blocks) / total
                blocks.append(InvertedResidual(width, channels, expansion, kernel, stride, drop))
                width = channels
        self.blocks = nn.Sequential(*blocks)
        self.head = convolution(width, 1280, 1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(1280, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # torch's kaiming_normal_ does not divide the fan out by the groups.
                fan_out = module.weight[:, 0].numel() / module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        bound = 1 / math.sqrt(num_classes)
        nn.init.uniform_(self.classifier.weight, -bound, bound)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        x = silu(self.head(self.blocks(silu(self.stem(images)))))
        return self.classifier(self.dropout(x.mean((2, 3))))
