"""PyramidNet-272 (α = 200, ShakeDrop) on CIFAR-10 and CIFAR-100."""

from __future__ import annotations

from dataclasses import replace

from deep.config import TrainingConfig
from deep.recipes.cells import row

BASELINE = TrainingConfig(
    dataset="cifar10",
    model="pyramidnet272",
    passes=300,
    batch_size=64,
    lr=0.05,
    lr_schedule="cosine",
    lr_drops=(),
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-5,
    # The policy found on CIFAR-10, for CIFAR-100 too.
    policy="autoaugment-cifar10",
    cutout=16,
)

# Printed: γ_τ = ½ γmax cos(πτ/τtot), which would start high and turn negative; taken:
# ½ γmax (1 − cos(πτ/τtot)), "focusing".
RSGD = {"focusing": "cosine", "gamma": 0.1}
# On CIFAR-10 only K falls from 10 to 3 at epoch 220 (of 300).
LATE = {"coupling_period": 10, "late_coupling_period": 3, "late_coupling_from": 220}

# The paper has no eSGD here. η and η' are those of its other networks with about this
# baseline's learning rate (ResNet-50, DenseNet-121), γ0 is measured.
ESGD = {"lr": 0.5, "inner_lr": 0.02}

CIFAR10 = row(BASELINE, rsgd=RSGD | LATE, esgd=ESGD)
CIFAR100 = row(replace(BASELINE, dataset="cifar100"), rsgd=RSGD, esgd=ESGD)
