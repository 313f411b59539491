"""ResNet-18 and ResNet-110 (He et al., 2015 and 2016, "Deep residual learning"), basic blocks."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional


class PaddedShortcut(nn.Module):
    """Option A: every second pixel, new channels are zero; no parameters."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(x, (0, 0, 0, 0, 0, self.channels - x.shape[1]))


def projected_shortcut(width: int, channels: int, stride: int) -> nn.Module:
    """Option B: a 1×1 convolution and BatchNorm."""
    return nn.Sequential(
        nn.Conv2d(width, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
    )


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut."""

    def __init__(self, width: int, channels: int, stride: int, option: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or width != channels:
            self.shortcut = (
                PaddedShortcut(channels, stride)
                if option == "A"
                else projected_shortcut(width, channels, stride)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """A stem, stages of basic blocks (all but the first halve the image), mean, dense layer.

    Convolutions start Kaiming normal (fan out), the dense layer as torch's default.
    """

    def __init__(
        self, num_classes: int, stem: nn.Module, widths: list[int], blocks: list[int], option: str
    ) -> None:
        super().__init__()
        self.stem = stem
        stages: list[nn.Module] = []
        width = widths[0]
        for stage, (channels, count) in enumerate(zip(widths, blocks, strict=True)):
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                stages.append(BasicBlock(width, channels, stride, option))
                width = channels
        self.stages = nn.Sequential(*stages)
        self.classifier = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.stages(self.stem(images)).mean((2, 3)))


def resnet18(num_classes: int, stem: Literal["imagenet", "cifar"] = "imagenet") -> ResNet:
    """ResNet-18; 11,181,642 parameters for 10 classes with the ImageNet stem, 11,173,962 with
    the CIFAR stem.

    ``"imagenet"``: 7×7 convolution with stride 2 and max-pooling, which the errors published
    for CIFAR-10 in [P21] fit; ``"cifar"``: one 3×3 convolution at full resolution.
    """
    if stem not in ("imagenet", "cifar"):
        raise ValueError(f"stem is {stem!r}; 'imagenet' or 'cifar' was expected.")
    size, stride = (7, 2) if stem == "imagenet" else (3, 1)
    layers = [
        nn.Conv2d(3, 64, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
    ]
    if stem == "imagenet":
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
    return ResNet(num_classes, nn.Sequential(*layers), [64, 128, 256, 512], [2, 2, 2, 2], "B")


def resnet110(num_classes: int, shortcut: Literal["A", "B"] = "A") -> ResNet:
    """ResNet-110 for 32×32 images, three stages of 18 blocks; 1,727,962 parameters for 10
    classes with parameter-free shortcuts (option A, the original), 1,730,714 with option B.
    """
    if shortcut not in ("A", "B"):
        raise ValueError(f"shortcut is {shortcut!r}; 'A' or 'B' was expected.")
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    return ResNet(num_classes, stem, [16, 32, 64], [18, 18, 18], shortcut)
