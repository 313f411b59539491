"""Langevin noise of ``deep/_kernels_langevin.py``, number by number in exact arithmetic."""

from __future__ import annotations

import math

import numpy as np

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
    """The first ``count`` normals of a tensor: block after block, Box and Muller in each."""
    values: list[float] = []
    quarter = BLOCK // 4
    for block in range(-(-count // BLOCK)):
        first, second = [], []
        for place in range(block * quarter, (block + 1) * quarter):
            counter = (place % WORD, place // WORD, tensor, draw)
            a, b, c, d = philox_4x32(counter, (seed % WORD, seed // WORD))
            first.append((a, b))
            second.append((c, d))
        radius = [math.sqrt(-2 * math.log(((a >> 9) + 0.5) / 2**23)) for a, _ in [*first, *second]]
        angle = [2 * math.pi * (((b % 2**23) + 0.5) / 2**23 - 0.5) for _, b in [*first, *second]]
        values += [r * math.cos(x) for r, x in zip(radius, angle, strict=True)]
        values += [r * math.sin(x) for r, x in zip(radius, angle, strict=True)]
    return np.array(values[:count])
