"""ResNet-110 on CIFAR-10, with the settings of He et al. (2016) for the baseline."""

from __future__ import annotations

from deep.config import TrainingConfig
from deep.recipes.cells import ESGD_PASSES, row

CIFAR10 = row(
    TrainingConfig(
        dataset="cifar10",
        model="resnet110",
        passes=164,
        batch_size=128,
        lr=0.1,
        lr_drops=(82, 124),
        warmup_passes=1,
        warmup_lr=0.01,
        momentum=0.9,
        nesterov=False,
        weight_decay=1e-4,
    ),
    # "The learning rate warm-up is not necessary" for the entropic algorithms.
    both={"warmup_passes": 0},
    rsgd={"gamma": 5e-4},
    esgd={
        "passes": 32 * ESGD_PASSES,
        "lr": 0.9,
        "lr_drops": (17 * ESGD_PASSES, 25 * ESGD_PASSES),
        "inner_lr": 0.02,
        # Printed: γ1 = 5e-4, which is a factor 10 in no unit of time (per outer step it is
        # 520); the text's factor is taken.
        "gamma": 0.1,
    },
)
