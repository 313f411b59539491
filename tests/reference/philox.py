"""Exact twin of the Langevin noise in ``deep/optimizers/_kernels_langevin.py``, in plain Python."""

from __future__ import annotations

import numpy as np

from tests.reference.training import box_muller

BLOCK = 2048
WORD = 2**32


def philox_4x32(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    """Philox 4x32-10 of Salmon et al., SC 2011."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c0, WORD)
        high1, low1 = divmod(0xCD9E8D57 * c2, WORD)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) % WORD, (k1 + 0xBB67AE85) % WORD
    return c0, c1, c2, c3


def normals(seed: int, draw: int, tensor: int, count: int) -> np.ndarray:
    """The first ``count`` normals of a tensor: Box–Muller on one block after another."""
    quarter, key = BLOCK // 4, (seed % WORD, seed // WORD)
    values = []
    for block in range(-(-count // BLOCK)):
        places = range(block * quarter, (block + 1) * quarter)
        words = [philox_4x32((p % WORD, p // WORD, tensor, draw), key) for p in places]
        values.append(box_muller(np.array(words, np.uint32).T.ravel(), BLOCK))
    return np.concatenate(values)[:count]
