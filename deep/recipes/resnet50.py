"""ResNet-50 on Tiny ImageNet; the published errors fit the ImageNet stem, the model's default."""

from __future__ import annotations

from deep.config import TrainingConfig
from deep.recipes.cells import ESGD_PASSES, row

BASELINE = TrainingConfig(
    dataset="tinyimagenet",
    model="resnet50",
    passes=270,
    batch_size=128,
    lr=0.05,
    lr_drops=(90, 180, 240),
    momentum=0.9,
    nesterov=True,
    weight_decay=1e-4,
    padding=8,
    policy="fast-autoaugment-imagenet",
)

TINY_IMAGENET = row(
    BASELINE,
    esgd={
        # 50 epochs, that is 250 passes beside the baseline's 270.
        "passes": 50 * ESGD_PASSES,
        "lr": 0.8,
        "lr_drops": (18 * ESGD_PASSES, 36 * ESGD_PASSES, 48 * ESGD_PASSES),
        "inner_lr": 0.02,
        # γ0 is not published: measured.
    },
)
