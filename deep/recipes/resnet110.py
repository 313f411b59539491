"""ResNet-110 on CIFAR-10, with the settings of He et al. (2016) for the baseline."""

from __future__ import annotations

from dataclasses import replace

from deep.config import TrainingConfig

BASELINE = TrainingConfig(
    model="resnet110",
    algorithm="sgd",
    passes=164,
    batch_size=128,
    lr=0.1,
    lr_drops=(82, 124),
    warmup_passes=1,
    warmup_lr=0.01,
    momentum=0.9,
    nesterov=False,
    weight_decay=1e-4,
)

# "The learning rate warm-up is not necessary" for the entropic algorithms.
RSGD = replace(BASELINE, algorithm="rsgd", warmup_passes=0, gamma=5e-4)

CELLS = {
    "sgd": BASELINE,
    "rsgd": RSGD,
    "esgd": replace(
        BASELINE,
        algorithm="esgd",
        warmup_passes=0,
        # 32 epochs of outer steps with drops at 17 and 25.
        passes=32 * 5,
        lr=0.9,
        lr_drops=(17 * 5, 25 * 5),
        nesterov=True,  # said of eSGD in general, for both loops
        inner_lr=0.02,
        gamma=0.1,
        # Printed: γ1 = 5e-4, which is a factor 10 in no unit of time (per outer step it is
        # 520); the text's factor is taken.
        gamma_growth=10,
    ),
    "rsgd-xy": replace(RSGD, algorithm="rsgd-xy"),
}
