"""Figures of local-entropy curves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from message_passing.figures import plot_curve, plot_curves
from message_passing.local_entropy import LocalEntropyCurve


@pytest.fixture
def curve():
    d = np.array([0.01, 0.05, 0.2])
    zero = np.zeros(3)
    return LocalEntropyCurve(
        variance=2 * d,
        distance=d,
        local_entropy=-d,
        free_entropy=-d,
        displacement=np.ones(3),
        converged=np.array([True, True, False]),
        iterations=np.ones(3, dtype=int),
        residual=zero,
        standard_error=0.1 * d,
        distance_error=zero,
        engine="mc",
        training_errors=0,
        patterns=10,
    )


def axes():
    return Figure().subplots()


def band(ax):
    return ax.collections[-1].get_paths()[0].vertices


def test_one_curve_with_its_standard_error(curve):
    ax = plot_curve(curve, axes(), color="red")
    line, hollow = ax.get_lines()
    np.testing.assert_allclose(line.get_xydata(), np.c_[curve.distance, curve.local_entropy])
    assert line.get_color() == "red" and line.get_label() == "Monte Carlo"
    assert band(ax)[:, 1].min() == pytest.approx(-0.2 * 1.1)
    np.testing.assert_allclose(hollow.get_xydata(), [[0.2, -0.2]])  # did not converge
    assert hollow.get_label() == "not converged"


def test_engines_without_errors_have_no_band(curve):
    curve = replace(curve, standard_error=np.zeros(3), engine="bp", converged=np.ones(3, bool))
    ax = plot_curve(curve, axes())
    assert len(ax.collections) == 0 and len(ax.get_lines()) == 1


def test_several_machines_are_a_mean_with_its_error_over_machines(curve):
    d = np.array([0.05, 0.2, 0.4])
    longer = replace(curve, distance=d, local_entropy=-2 * d)  # the other has −d
    ax = plot_curves({"mc": [curve, longer]}, axes())
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["Monte Carlo: mean of n = 2", "  (2 of 6 points not converged)"]
    mean = next(line for line in ax.get_lines() if line.get_label() == texts[0])
    d, value = mean.get_data()
    assert d[-1] == pytest.approx(0.2)  # the shorter curve ends here
    assert value[-1] == pytest.approx(-0.3)
    assert band(ax)[:, 1].min() == pytest.approx(-0.3 - 0.1)


def test_new_axes_are_made_where_none_are_given(curve):
    import matplotlib.pyplot as plt

    ax = plot_curves({"mc": [curve], "unheard-of": [replace(curve, engine="unheard-of")]})
    assert {text.get_text() for text in ax.get_legend().get_texts()} >= {
        "Monte Carlo ± standard error",
        "unheard-of ± standard error",
    }
    plt.close(ax.figure)
