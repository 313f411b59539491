"""Slow twin of the arcs of solutions: look at many angles."""

from __future__ import annotations

import numpy as np


def allowed_at(fields, offsets, fresh, labels, decisive, allowed, angles):
    """At each angle: are at most ``allowed`` decisive patterns wrong?"""
    u = fields[:, None] + np.outer(offsets, np.cos(angles)) + np.outer(fresh, np.sin(angles))
    wrong = np.where(u >= 0, 1, -1) != labels[:, None]
    return np.sum(wrong & decisive[:, None], axis=0) <= allowed
