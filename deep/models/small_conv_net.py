"""SmallConvNet, the LeNet-like network of [P21] App. C.1."""

from __future__ import annotations

from torch import Tensor, nn


class SmallConvNet(nn.Module):
    """Conv(5×5, 20) – MaxPool(2) – Conv(5×5, 50) – MaxPool(2) – Dense(500) – classes.

    ReLU after each convolution and the dense layer, torch's default initial weights. Input (batch,
    in_channels, image_size, image_size). [P21] does not say how the convolutions are padded:
    without ``padding`` there are 657,080 parameters for 10 classes of 32×32 colour images, with 2
    pixels of zeros, which keep the size, 1,632,080.
    """

    def __init__(
        self,
        num_classes: int,
        channels: tuple[int, int] = (20, 50),
        hidden: int = 500,
        in_channels: int = 3,
        image_size: int = 32,
        padding: int = 0,
    ) -> None:
        super().__init__()
        if not (isinstance(padding, int) and padding >= 0):
            raise ValueError(f"padding is {padding!r}; a number of pixels ≥ 0 was expected.")
        lost = 4 - 2 * padding  # pixels of a side, by each convolution
        side = ((image_size - lost) // 2 - lost) // 2
        if side < 1:
            raise ValueError(
                f"image_size is {image_size}, of which nothing is left after the second pooling; "
                "more pixels were expected."
            )
        self.features = nn.Sequential(
            # ReLU after the pooling is the same function, bit for bit, on a quarter of the values.
            nn.Conv2d(in_channels, channels[0], 5, padding=padding),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(channels[0], channels[1], 5, padding=padding),
            nn.MaxPool2d(2),
            nn.ReLU(),
        )
        self.classifier = nn.Sequential(
            nn.Linear(channels[1] * side * side, hidden),
            nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images).flatten(1))
