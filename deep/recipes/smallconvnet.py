"""SmallConvNet on CIFAR-10."""

from __future__ import annotations

from deep.config import TrainingConfig
from deep.recipes.cells import ESGD_PASSES, row

CIFAR10 = row(
    TrainingConfig(
        dataset="cifar10",
        model="smallconvnet",
        passes=300,
        batch_size=128,
        lr=0.01,
        lr_drops=(150, 225),
        momentum=0.9,
        nesterov=True,
        weight_decay=1e-4,
    ),
    rsgd={"lr": 0.05, "gamma": 0.001},
    esgd={
        "passes": 60 * ESGD_PASSES,
        "lr": 0.5,
        "lr_drops": (30 * ESGD_PASSES, 45 * ESGD_PASSES),
        "inner_lr": 0.02,
        # Printed: γ1 = 2e-5. Per minibatch that is a factor 10.4 over the run, the "factor of
        # 10" of the text; per outer step it would be 1.6.
        "gamma": 0.5,
    },
)
