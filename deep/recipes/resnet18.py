"""ResNet-18 on CIFAR-10; the published errors fit the ImageNet stem, the model's default."""

from __future__ import annotations

from dataclasses import replace

from deep.config import TrainingConfig

BASELINE = TrainingConfig(
    model="resnet18",
    algorithm="sgd",
    passes=160,
    batch_size=128,
    lr=0.01,
    lr_drops=(110,),
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-4,
)

RSGD = replace(BASELINE, algorithm="rsgd", lr=0.02, coupling_period=1)

CELLS = {
    "sgd": BASELINE,
    "rsgd": RSGD,
    "esgd": replace(
        BASELINE,
        algorithm="esgd",
        # 32 epochs of outer steps with drops at 16 and 25.
        passes=32 * 5,
        lr=0.25,
        lr_drops=(16 * 5, 25 * 5),
        inner_lr=0.01,
        # γ0 is not published: measured.
        gamma_growth=10,
    ),
    "rsgd-xy": replace(RSGD, algorithm="rsgd-xy"),
}
