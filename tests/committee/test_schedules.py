"""Schedules: their formulas, their limits, what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from committee.schedules import Constant, Cosine, Exponential


def test_exponential_is_the_published_formula():
    schedule = Exponential(2e-3, 2e-3)
    epochs = np.array([0, 1, 10, 3000])
    assert np.allclose(schedule(epochs), 2e-3 * (1 + 2e-3) ** epochs, rtol=1e-12)
    assert schedule(0) == 2e-3
    assert np.all(Exponential(5.0)(epochs) == 5.0)


def test_exponential_growing_by_a_factor():
    schedule = Exponential.growing_by(1e4, start=0.3, total=160.0)
    assert np.isclose(schedule(160.0), 0.3e4)
    assert np.isclose(schedule(81.0) / schedule(80.0), schedule(1.0) / schedule(0.0))


def test_cosine_rises_from_zero_to_the_maximum_and_stays():
    schedule = Cosine(maximum=0.7, total=100.0)
    values = schedule(np.arange(0, 151))
    assert values[0] == 0 and np.isclose(values[50], 0.35)
    assert np.all(np.diff(values[:101]) > 0) and np.allclose(values[100:], 0.7)


def test_constant():
    assert np.array_equal(Constant(0.4)(np.arange(3)), [0.4, 0.4, 0.4])


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda: Exponential(np.nan), "start is nan"),
        (lambda: Exponential(1.0, -1.0), "rate is -1.0; a number above -1"),
        (lambda: Cosine(1.0, 0.0), "total is 0.0; a positive number"),
    ],
)
def test_bad_input_is_named(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
