"""Random bits inside compiled loops: numpy's generator SFC64, many of them side by side.

One generator after the other is a chain of dependent instructions. Lanes that advance together
become vector instructions, some ten times faster. Lane l is numpy's ``SFC64`` of child l of the
seed. A state has 256 bits, so no two lanes meet. The output takes one number of every lane in
turn.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from committee._float32 import VECTORISED
from message_passing.tools.compiled import compiled

LANES = 64


def sfc64_lanes(seeds: list[np.random.SeedSequence]) -> NDArray[np.uint64]:
    """States (4, lanes) of one SFC64 per seed, for ``random_bits``."""
    states = [np.random.SFC64(seed).state["state"]["state"] for seed in seeds]
    return np.ascontiguousarray(np.array(states, np.uint64).T)


@compiled(**VECTORISED)
def random_bits(state, out):
    """Fill ``out`` (blocks, lanes) with random 64-bit integers; ``state`` (4, lanes) advances."""
    a, b, c, counter = state[0], state[1], state[2], state[3]
    for block in range(out.shape[0]):
        row = out[block]
        for lane in range(row.size):
            drawn = a[lane] + b[lane] + counter[lane]
            counter[lane] += np.uint64(1)
            a[lane] = b[lane] ^ (b[lane] >> np.uint64(11))
            b[lane] = c[lane] + (c[lane] << np.uint64(3))
            c[lane] = ((c[lane] << np.uint64(24)) | (c[lane] >> np.uint64(40))) + drawn
            row[lane] = drawn
