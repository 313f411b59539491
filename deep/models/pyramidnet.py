"""PyramidNet-272 (Han et al., 2017, "Deep pyramidal residual networks") with ShakeDrop.

ShakeDrop: Yamada et al., 2018, "ShakeDrop regularization for deep residual learning".
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from message_passing.tools.validation import check

DEPTH, WIDENING = 272, 200


class _ScaledBothWays(torch.autograd.Function):
    """x ↦ a x with the gradient g ↦ b g."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(b)
        return x * a

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (b,) = ctx.saved_tensors
        return gradient * b, None, None


class ShakeDrop(nn.Module):
    """Scales a residual branch by c + α − cα forwards and c + β − cβ backwards in training.

    ::

        c ~ Bernoulli(p)           one for the whole minibatch
        α ~ U[−1, 1], β ~ U[0, 1]  one for each image

    The branch is unchanged (c = 1) or shaken (c = 0). Evaluation multiplies by the mean,
    E[c + α − cα] = p. The gradient's coefficient has the mean p + (1 − p)/2. The minibatch shares
    c but not α and β, as in the published implementations (shake-drop_pytorch, Fast AutoAugment,
    AutoAugment). The forward pass makes all draws, from torch's global generator.

    Raises ``ValueError`` for a p outside [0, 1].
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        check("p", p, 0 <= p <= 1, "a probability")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x * self.p
        gate = (torch.rand((), device=x.device) < self.p).to(x.dtype)
        alpha, beta = torch.rand((2, len(x), 1, 1, 1), device=x.device, dtype=x.dtype)
        scales = (torch.lerp(s, torch.ones_like(s), gate) for s in (2 * alpha - 1, beta))
        return _ScaledBothWays.apply(x, *scales)


class PyramidBottleneck(nn.Module):
    """BatchNorm, 1×1, 3×3 and 1×1 convolutions with BatchNorm after each; ShakeDrop; shortcut.

    ReLU acts after the two inner BatchNorms only. The shortcut has no parameters: it averages 2×2
    pixels if the image is halved, and has zeros in the new channels.
    """

    def __init__(self, width: int, channels: int, stride: int, survival: float) -> None:
        super().__init__()
        inner = channels // 4
        self.bn1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, inner, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, channels, 1, bias=False)
        self.bn4 = nn.BatchNorm2d(channels)
        self.shake_drop = ShakeDrop(survival)
        self.halves, self.new_channels = stride == 2, channels - width

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.bn1(x))
        y = self.conv2(torch.relu(self.bn2(y)))
        y = self.conv3(torch.relu(self.bn3(y)))
        y = self.shake_drop(self.bn4(y))
        if self.halves:
            x = functional.avg_pool2d(x, 2, ceil_mode=True)
        return y + functional.pad(x, (0, 0, 0, 0, 0, self.new_channels))


class PyramidNet272(nn.Module):
    """Three stages of bottlenecks. Their width grows by the same amount in every block.

    The inner width of block l = 1…L is 16 + αl/L with α = 200, rounded. The outer width is four
    times the inner one. The stem is one 3×3 convolution to 16 channels. The second and third stage
    halve the image: 32×32 pixels become 8×8. ShakeDrop leaves block l unshaken with probability
    1 − (1 − p_L) l/L, where p_L is ``p_last``; 1 is without ShakeDrop. Initial weights: Kaiming
    normal (fan out) for convolutions, torch's default for the dense layer. 26,210,842 parameters
    for 10 classes, 26,288,692 for 100. Raises ``ValueError`` for a ``p_last`` outside [0, 1].
    """

    def __init__(self, num_classes: int, p_last: float = 0.5) -> None:
        super().__init__()
        check("p_last", p_last, 0 <= p_last <= 1, "a probability")
        per_stage = (DEPTH - 2) // 9
        total = 3 * per_stage
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16))
        blocks: list[nn.Module] = []
        width = 16
        for block in range(total):
            channels = 4 * round(16 + WIDENING * (block + 1) / total)
            stride = 2 if block in (per_stage, 2 * per_stage) else 1
            survival = 1 - (1 - p_last) * (block + 1) / total
            blocks.append(PyramidBottleneck(width, channels, stride, survival))
            width = channels
        self.blocks = nn.Sequential(*blocks)
        self.last_bn = nn.BatchNorm2d(width)
        self.classifier = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.last_bn(self.blocks(self.stem(images))))
        return self.classifier(x.mean((2, 3)))
