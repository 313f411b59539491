"""Settings of the peers: those of SGD for the same network, and what each method recommends.

Passes, batch size, learning rate and its schedule, momentum and weight decay are the baseline's
where the method leaves them alone. Nothing is tuned here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from deep.config import Algorithm, TrainingConfig


def peer(algorithm: Algorithm, baseline: TrainingConfig) -> TrainingConfig:
    """The run of a peer beside ``baseline``, which is a run of SGD."""
    changes: dict[Algorithm, dict[str, Any]] = {
        # Zhang et al. 2019, arXiv 1907.08610: k = 5, and α = 0.8 in the authors' code.
        "lookahead": {"lookahead_steps": 5, "lookahead_rate": 0.8},
        # Foret et al. 2020, arXiv 2010.01412: ρ = 0.05 for CIFAR-10.
        "sam": {"sam_radius": 0.05},
        # Kwon et al. 2021, arXiv 2102.11600: ρ = 0.5 for CIFAR-10.
        "asam": {"sam_radius": 0.5},
        # Izmailov et al. 2018, arXiv 1803.05407: the authors' VGG-16, which like SmallConvNet has
        # no BatchNorm, begins at 0.05 and goes down to 0.01 (here in one drop, at half of the
        # run), where it stays; averaged is from epoch 161 of 300 on, once an epoch.
        "swa": {
            "lr_schedule": "drops",
            "lr_drops": (baseline.passes / 2,),
            "lr_factor": 0.2,
            "swa_from": 161 / 300,
        },
        # Defazio et al. 2024, arXiv 2405.15682, and the README of schedule_free: learning rates
        # from 10 to 50 times those of SGD with momentum (here 10), a warm-up (5 % of the run),
        # β = 0.9 and no schedule. There is no base optimizer: β takes momentum's place.
        "schedulefree": {
            "optimizer": "sgd",
            "momentum": 0.9,
            "nesterov": False,
            "lr": 10 * baseline.lr,
            "lr_schedule": "drops",
            "lr_drops": (),
            "warmup_passes": 0,
            "schedulefree_warmup": 0.05,
        },
    }
    return replace(baseline, algorithm=algorithm, **changes[algorithm])
