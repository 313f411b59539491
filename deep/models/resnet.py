"""ResNet-8, -18, -50 and -110 (He et al., 2016, "Deep residual learning for image recognition")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from message_passing.tools.validation import check_one_of


class PaddedShortcut(nn.Module):
    """Option A: every second pixel, zeros in the new channels, no parameters."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(x, (0, 0, 0, 0, 0, self.channels - x.shape[1]))


def shortcut(width: int, channels: int, stride: int, option: str) -> nn.Module:
    """Identity if the shapes agree. Else option A: padded; B: 1×1 convolution, BatchNorm."""
    if stride == 1 and width == channels:
        return nn.Identity()
    if option == "A":
        return PaddedShortcut(channels, stride)
    return nn.Sequential(
        nn.Conv2d(width, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
    )


class BasicBlock(nn.Module):
    """Two 3×3 convolutions plus a shortcut."""

    def __init__(self, width: int, channels: int, stride: int, option: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = shortcut(width, channels, stride, option)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions to ``channels``, plus a shortcut.

    The first two have a quarter of the channels. The 3×3 convolution has the stride, as usual for
    ResNet-50 in torch (the original has it in the first 1×1, with the same parameters).
    """

    def __init__(self, width: int, channels: int, stride: int, option: str) -> None:
        super().__init__()
        inner = channels // 4
        self.conv1 = nn.Conv2d(width, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut = shortcut(width, channels, stride, option)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(self.bn3(self.conv3(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """A stem, stages of blocks (all but the first halve the image), mean, dense layer.

    ``width`` is the number of channels of the stem. Initial weights: Kaiming normal (fan out) for
    convolutions, torch's default for the dense layer.
    """

    def __init__(
        self,
        num_classes: int,
        stem: nn.Module,
        width: int,
        widths: list[int],
        blocks: list[int],
        option: str,
        block: Callable[[int, int, int, str], nn.Module] = BasicBlock,
    ) -> None:
        super().__init__()
        self.stem = stem
        stages: list[nn.Module] = []
        for stage, (channels, count) in enumerate(zip(widths, blocks, strict=True)):
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                stages.append(block(width, channels, stride, option))
                width = channels
        self.stages = nn.Sequential(*stages)
        self.classifier = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.stages(self.stem(images)).mean((2, 3)))


def stem_of(stem: str, channels: int = 64) -> nn.Sequential:
    """The layers before the blocks.

    "imagenet" is a 7×7 convolution with stride 2 and max-pooling: the image becomes four times
    smaller. "cifar" is one 3×3 convolution, which keeps the size. Raises ``ValueError`` otherwise.
    """
    check_one_of("stem", stem, ("imagenet", "cifar"))
    size, stride = (7, 2) if stem == "imagenet" else (3, 1)
    layers = [
        nn.Conv2d(3, channels, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    ]
    if stem == "imagenet":
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
    return nn.Sequential(*layers)


def resnet18(num_classes: int, stem: Literal["imagenet", "cifar"] = "imagenet") -> ResNet:
    """ResNet-18; 11,181,642 parameters for 10 classes with the ImageNet stem, 11,173,962 with
    the CIFAR stem.

    The errors published for CIFAR-10 in [P21] fit the ImageNet stem. Images may have any size. The
    last stage sees them 32 (CIFAR stem: 8) times smaller, rounded up.
    """
    return ResNet(num_classes, stem_of(stem), 64, [64, 128, 256, 512], [2, 2, 2, 2], "B")


def resnet50(num_classes: int, stem: Literal["imagenet", "cifar"] = "imagenet") -> ResNet:
    """ResNet-50; 23,917,832 parameters for 200 classes with the ImageNet stem.

    Images may have any size. The last stage sees them 32 (CIFAR stem: 8) times smaller, rounded up:
    2×2 pixels of Tiny ImageNet's 64×64.
    """
    widths, blocks = [256, 512, 1024, 2048], [3, 4, 6, 3]
    return ResNet(num_classes, stem_of(stem), 64, widths, blocks, "B", Bottleneck)


def resnet110(num_classes: int, shortcut: Literal["A", "B"] = "A") -> ResNet:
    """ResNet-110 for 32×32 images; 1,727,962 parameters for 10 classes with parameter-free
    shortcuts (option A, the original), 1,730,714 with option B.
    """
    return _cifar_resnet(num_classes, 18, shortcut)


def resnet8(num_classes: int, shortcut: Literal["A", "B"] = "A") -> ResNet:
    """ResNet-8, the smallest of the same family; 75,290 parameters for 10 classes (option A)."""
    return _cifar_resnet(num_classes, 1, shortcut)


def _cifar_resnet(num_classes: int, blocks: int, option: str) -> ResNet:
    """Three stages of 16, 32 and 64 channels with n ``blocks`` each: 6n + 2 layers."""
    check_one_of("shortcut", option, ("A", "B"))
    return ResNet(num_classes, stem_of("cifar", 16), 16, [16, 32, 64], [blocks] * 3, option)
