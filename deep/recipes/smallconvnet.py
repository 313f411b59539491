"""SmallConvNet on CIFAR-10."""

from __future__ import annotations

from dataclasses import replace

from deep.config import TrainingConfig

BASELINE = TrainingConfig(
    model="smallconvnet",
    algorithm="sgd",
    passes=300,
    batch_size=128,
    lr=0.01,
    lr_drops=(150, 225),
    momentum=0.9,
    nesterov=True,
    weight_decay=1e-4,
)

RSGD = replace(BASELINE, algorithm="rsgd", lr=0.05, gamma=0.001)

CELLS = {
    "sgd": BASELINE,
    "rsgd": RSGD,
    "esgd": replace(
        BASELINE,
        algorithm="esgd",
        # 60 epochs of outer steps with drops at 30 and 45.
        passes=60 * 5,
        lr=0.5,
        lr_drops=(30 * 5, 45 * 5),
        inner_lr=0.02,
        gamma=0.5,
        # Printed: γ1 = 2e-5. Per minibatch that is a factor 10.4 over the run, the "factor of
        # 10" of the text; per outer step it would be 1.6.
        gamma_growth=10,
    ),
    "rsgd-xy": replace(RSGD, algorithm="rsgd-xy"),
}
