"""The generators of the Langevin noise are numpy's."""

from __future__ import annotations

import numpy as np
import pytest

from committee._random_bits import random_bits, sfc64_lanes

# Without compilation, 64-bit sums wrap with a warning.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")


@pytest.mark.parametrize("lanes", [1, 5, 64])
def test_every_lane_is_an_sfc64_of_numpy(lanes):
    seeds = np.random.SeedSequence(11).spawn(lanes)
    state = sfc64_lanes(seeds)
    first, second = np.empty((7, lanes), np.uint64), np.empty((4, lanes), np.uint64)
    random_bits(state, first)
    random_bits(state, second)  # goes on where the first call ended
    expected = np.array([np.random.SFC64(seed).random_raw(11) for seed in seeds]).T
    assert np.array_equal(np.concatenate([first, second]), expected)
