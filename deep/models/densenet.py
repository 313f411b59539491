"""DenseNet-121 (Huang et al., 2017, "Densely connected convolutional networks")."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from deep.models.resnet import stem_of

GROWTH = 32
BLOCKS = (6, 12, 24, 16)


class DenseLayer(nn.Module):
    """BatchNorm–ReLU–1×1 convolution to 4k channels, BatchNorm–ReLU–3×3 convolution to k.

    The output has the k new channels after the old ones.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, 4 * GROWTH, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * GROWTH)
        self.conv2 = nn.Conv2d(4 * GROWTH, GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(torch.relu(self.bn1(x)))
        return torch.cat([x, self.conv2(torch.relu(self.bn2(y)))], 1)


class Transition(nn.Module):
    """BatchNorm–ReLU–1×1 convolution to half the channels, mean over 2×2 pixels.

    An image of one pixel is not pooled.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(width)
        self.conv = nn.Conv2d(width, width // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(torch.relu(self.bn(x)))
        return functional.avg_pool2d(x, 2) if min(x.shape[2:]) > 1 else x


class DenseNet121(nn.Module):
    """Growth k = 32, blocks of 6, 12, 24 and 16 layers, compression ½.

    7,158,856 parameters for 200 classes with the ImageNet stem (``deep.models.resnet.stem_of``).
    The last block sees an image 32 (CIFAR stem: 8) times smaller: 2×2 pixels of Tiny ImageNet's
    64×64. Initial weights: Kaiming normal for convolutions, torch's default for the dense layer.
    """

    def __init__(self, num_classes: int, stem: Literal["imagenet", "cifar"] = "imagenet") -> None:
        super().__init__()
        self.stem = stem_of(stem)
        layers: list[nn.Module] = []
        width = 64
        for block, count in enumerate(BLOCKS):
            if block > 0:
                layers.append(Transition(width))
                width //= 2
            for _ in range(count):
                layers.append(DenseLayer(width))
                width += GROWTH
        self.layers = nn.Sequential(*layers)
        self.last_bn = nn.BatchNorm2d(width)
        self.classifier = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.last_bn(self.layers(self.stem(images))))
        return self.classifier(x.mean((2, 3)))
