"""The standard error of a mean, over the seeds of a run or the repetitions of a benchmark."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def standard_error(values: Sequence[float]) -> float | None:
    """Standard error of the mean, √(Σ(x − x̄)²/(n − 1)/n); None of fewer than two values."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
