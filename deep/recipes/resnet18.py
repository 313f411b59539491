"""ResNet-18 on CIFAR-10; the published errors fit the ImageNet stem, the model's default."""

from __future__ import annotations

from deep.config import TrainingConfig
from deep.recipes.cells import ESGD_PASSES, row

CIFAR10 = row(
    TrainingConfig(
        dataset="cifar10",
        model="resnet18",
        passes=160,
        batch_size=128,
        lr=0.01,
        lr_drops=(110,),
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
    ),
    rsgd={"lr": 0.02, "coupling_period": 1},
    esgd={
        "passes": 32 * ESGD_PASSES,
        "lr": 0.25,
        "lr_drops": (16 * ESGD_PASSES, 25 * ESGD_PASSES),
        "inner_lr": 0.01,
        # γ0 is not published: measured.
    },
)
