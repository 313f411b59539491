"""SmallConvNet, the LeNet-like network of [P21] App. C.1."""

from __future__ import annotations

from torch import Tensor, nn

from message_passing.tools.validation import check


class SmallConvNet(nn.Module):
    """Conv(5×5, 20) – MaxPool(2) – Conv(5×5, 50) – MaxPool(2) – Dense(500) – classes.

    ReLU follows each convolution and the dense layer. Initial weights are torch's default. Input:
    (batch, in_channels, image_size, image_size). [P21] does not say how the convolutions are
    padded. Without ``padding`` there are 657,080 parameters for 10 classes of 32×32 colour images.
    2 pixels of zeros keep the size and give 1,632,080. ``width`` multiplies ``channels`` and
    ``hidden`` (0.5: 10, 25, 250). ``dropout`` is the probability to drop a hidden dense unit.

    Raises ``ValueError`` for options that leave no pixel or no unit.
    """

    def __init__(
        self,
        num_classes: int,
        channels: tuple[int, int] = (20, 50),
        hidden: int = 500,
        in_channels: int = 3,
        image_size: int = 32,
        padding: int = 0,
        width: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        pixels = isinstance(padding, int) and padding >= 0
        check("padding", padding, pixels, "a number of pixels ≥ 0")
        check("dropout", dropout, 0 <= dropout < 1, "a probability below 1")
        first, second, dense = (round(width * n) for n in (*channels, hidden))
        check("width", width, min(first, second, dense) >= 1, "at least one unit in each layer")
        lost = 4 - 2 * padding  # pixels per side that each convolution removes
        side = ((image_size - lost) // 2 - lost) // 2
        if side < 1:
            raise ValueError(
                f"image_size is {image_size}, of which nothing is left after the second pooling; "
                "more pixels were expected."
            )
        self.features = nn.Sequential(
            # ReLU after the pooling is the same function, bit for bit, on a quarter of the values.
            nn.Conv2d(in_channels, first, 5, padding=padding),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(first, second, 5, padding=padding),
            nn.MaxPool2d(2),
            nn.ReLU(),
        )
        self.classifier = nn.Sequential(
            nn.Linear(second * side * side, dense),
            nn.ReLU(),
            *([nn.Dropout(dropout)] if dropout > 0 else []),
            nn.Linear(dense, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images).flatten(1))
