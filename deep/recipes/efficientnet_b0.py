"""EfficientNet-B0 on CIFAR-100, with the settings of Tan & Le (2019) where [P21] has no others."""

from __future__ import annotations

from deep.config import TrainingConfig
from deep.recipes.cells import ESGD_PASSES, row

CIFAR100 = row(
    TrainingConfig(
        dataset="cifar100",
        model="efficientnet_b0",
        passes=350,
        batch_size=64,
        optimizer="rmsprop",
        lr=0.01,
        # "Decays by 0.97 every 2 epochs."
        lr_drops=tuple(range(2, 350, 2)),
        lr_factor=0.97,
        momentum=0.9,
        nesterov=False,
        weight_decay=1e-5,
        image_size=224,
        padding=32,
        policy="autoaugment-cifar10",
    ),
    rsgd={"gamma": 5e-6},
    # With η = 0.5 and "0.9 Nesterov momentum in both loops" the base can only be SGD. Nothing is
    # said of the number of epochs (350/5) or of γ0 (measured); the decay is per epoch of eSGD.
    esgd={
        "passes": 70 * ESGD_PASSES,
        "lr": 0.5,
        "lr_drops": tuple(range(2 * ESGD_PASSES, 70 * ESGD_PASSES, 2 * ESGD_PASSES)),
        "lr_factor": 0.92,
        "inner_lr": 0.05,
    },
)
