"""A row of Table 1: four runs that differ from its baseline in what is said of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from deep.config import Algorithm, TrainingConfig

ESGD_PASSES = 5  # an epoch of eSGD counts outer steps, each of which takes L = 5 minibatches

Row = dict[Algorithm, TrainingConfig]


def row(
    baseline: TrainingConfig,
    *,
    both: Mapping[str, Any] | None = None,
    rsgd: Mapping[str, Any] | None = None,
    esgd: Mapping[str, Any] | None = None,
) -> Row:
    """The runs of a row: ``rsgd`` and ``esgd`` name the settings that differ from the baseline.

    ``both`` are those of both. rSGD×y has the settings of rSGD. All else is the paper's in
    general, the defaults of ``TrainingConfig``: y = 3, K = 10 and γ growing by 1e4; L = 5,
    ε = 1e-4, α = 0.75, Nesterov momentum 0.9 in both loops and γ growing by 10.
    """
    replicated = {**(both or {}), **(rsgd or {})}
    langevin: dict[str, Any] = {
        "optimizer": "sgd", "nesterov": True, "gamma_growth": 10.0, **(both or {}), **(esgd or {}),
    }  # fmt: skip
    return {
        "sgd": baseline,
        "rsgd": replace(baseline, algorithm="rsgd", **replicated),
        "esgd": replace(baseline, algorithm="esgd", **langevin),
        "rsgd-xy": replace(baseline, algorithm="rsgd-xy", **replicated),
    }
