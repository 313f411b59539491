"""Tables, figures and the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest

import committee
from committee.__main__ import main
from committee.figures import (
    plot_local_energy,
    plot_local_entropy,
    plot_results,
    plot_test_errors,
)
from committee.statistics import compare_algorithms
from committee.tables import (
    closing_table,
    closing_text,
    comparison_table,
    correlation_table,
    summarise,
    write_tables,
)
from message_passing.tools.files import read_table
from tests.cluster import ROOT
from tests.committee.made_up_results import TWO, algorithm, curve, figure1, results

matplotlib.use("Agg")


def labels(ax: matplotlib.axes.Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


# Tables


def test_summary_by_hand() -> None:
    summary = summarise(TWO.to_frame())
    sharp, flat = summary.to_dict("records")
    assert (sharp["unit"], sharp["draws"], sharp["n"]) == ("restart", 1, 3)
    assert (sharp["converged"], sharp["solved"], sharp["epochs"]) == (3, 3, 200)
    assert sharp["test_error"] == pytest.approx(0.08)
    assert sharp["test_error_standard_error"] == pytest.approx(0.01 / np.sqrt(3))
    assert sharp["local_energy_1"] == pytest.approx(0.12)
    assert sharp["local_entropy_bp_0.1"] == pytest.approx(-0.02 * np.sqrt(0.1), rel=1e-3)
    # The run with a training error counts, except for the local entropy.
    assert (flat["n"], flat["solved"], flat["local_entropy_bp_0.3_n"]) == (3, 2, 2)
    assert flat["censored"] == pytest.approx(1 / 3)
    assert flat["local_entropy_bp_0.3"] == pytest.approx(-0.0015 * np.sqrt(0.3), rel=1e-3)
    assert flat["local_energy_1"] == pytest.approx(0.03)


def test_summary_over_draws_by_hand() -> None:
    """Draws have equal weight, although draw 0 keeps only one of its runs."""
    test_error = [0.02, 0.99, 0.04, 0.06, 0.08, 0.10]
    made = algorithm("a", test_error, [0.1] * 6, [-0.1] * 6, draws=3)
    made = replace(made, runs=made.runs.assign(collapsed=np.arange(6) == 1))
    row = summarise(made.to_frame()).iloc[0]
    assert (row["unit"], row["draws"], row["n"], row["collapsed"]) == ("draw", 3, 6, 1)
    assert (row["test_error_n"], row["test_error_draws"]) == (5, 3)
    means = [0.02, 0.05, 0.09]
    assert row["test_error"] == pytest.approx(np.mean(means))
    assert row["test_error_standard_error"] == pytest.approx(np.std(means, ddof=1) / np.sqrt(3))
    assert row["epochs"] == 350 and row["censored"] == 0
    draws = summarise(made.to_frame(), ["algorithm", "draw"])
    np.testing.assert_allclose(draws["test_error"], means)
    errors = [np.nan, 0.01, 0.01]  # over restarts
    np.testing.assert_allclose(draws["test_error_standard_error"], errors)
    assert draws["unit"].unique() == ["restart"] and draws["collapsed"].tolist() == [1, 0, 0]


def test_written_tables(tmp_path: Path) -> None:
    tables = write_tables(TWO, tmp_path)
    stored = {name: read_table(tmp_path / f"{name}.csv") for name in tables}
    assert {*stored} == {"summary", "draws", "runs", "comparisons", "correlations"}
    summary, runs = stored["summary"], stored["runs"]
    assert summary["algorithm"].tolist() == ["sharp", "flat", "constant answer"]
    assert summary["test_error"].iloc[2] == 0.109 and np.isnan(summary["n"].iloc[2])
    assert len(runs) == 6 and list(runs) == list(tables["runs"])
    assert {"converged", "collapsed", "local_energy_0.5", "local_entropy_bp_0.3"} <= {*runs}
    assert stored["draws"]["draw"].tolist() == [0, 0]
    assert stored["comparisons"]["quantity"].iloc[0] == "test_error"
    again = compare_algorithms(runs)
    np.testing.assert_allclose(again["difference"], tables["comparisons"]["difference"], rtol=1e-5)

    text = comparison_table(tables["comparisons"], "bp")
    assert "| flat − sharp | 3 " in " ".join(text.split()) and "| -3.00000 " in text
    assert "Φ(0.3) bp ×1e3" in text and "A test over draws needs two draws or more." in text
    text = correlation_table(tables["correlations"], "bp")
    assert "all algorithms" in text and "spearman, standardised" in text


def test_a_table_that_has_become_empty_is_removed(tmp_path: Path) -> None:
    (tmp_path / "disagreements.csv").write_text("first\nof an earlier round\n")
    write_tables(TWO, tmp_path)
    assert not (tmp_path / "disagreements.csv").exists()


def test_text_over_draws(tmp_path: Path) -> None:
    full = figure1(4, 3)
    text = closing_text(full, write_tables(full, tmp_path))
    assert "Means ± standard errors over draws" in text and "of 4 draws" in text
    assert "| rsgd-slow − control-rsgd-slow-epochs | 4 " in " ".join(text.split())
    assert "Student's t over the draws" in text and "A test over draws needs" not in text
    assert "bootstrap\nover draws" in text
    assert len(read_table(tmp_path / "draws.csv")) == 13 * 4


def test_closing_table() -> None:
    text = closing_table(TWO)
    flat = next(line for line in text.splitlines() if line.startswith("| flat"))
    cells = [cell.strip() for cell in flat.strip("|").split("|")]
    assert cells[1:6] == ["2/3", "2/3", "0/3", "200", "5.00 ± 0.58"]
    assert "Constant answer: test error 10.90 %" in text
    assert "Fashion-MNIST, made up" in text
    assert "over restarts" in text


def test_tiny_and_censored_numbers_are_readable() -> None:
    tiny = algorithm("tiny", [0.05] * 3, [1e-9, 2e-9, 3e-9], [-5e-27, -6e-27, -7e-27])
    tiny = replace(tiny, runs=tiny.runs.assign(converged=[True, False, False]))
    text = closing_table(results(*TWO.algorithms.values(), tiny))
    row = next(line for line in text.splitlines() if line.startswith("| tiny"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[4] == "≥ 200" and "0.0000" in cells[6]
    assert "e-" not in row and max(map(len, cells)) < 20


def test_tables_without_any_curve(tmp_path: Path) -> None:
    unsolved = results(algorithm("lost", [0.2], [0.1], [0.0], [0.1], engines=()))
    closing_text(unsolved, write_tables(unsolved, tmp_path))
    assert not (tmp_path / "comparisons.csv").exists()
    assert "lost" in closing_table(unsolved)
    plot_results(unsolved)


# Figures


def test_local_entropy_panel() -> None:
    ax = plot_local_entropy(TWO)
    assert labels(ax) == ["sharp (n = 3)", "flat (n = 2)", "belief propagation"]
    d, mean = ax.get_lines()[0].get_data()
    np.testing.assert_allclose(mean[20:], 0.02 * np.sqrt(d[20:]), rtol=1e-3)
    assert d[-1] == pytest.approx(0.3) and ax.get_yscale() == "log"
    # band: mean ± standard error
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    half = 0.01 / np.sqrt(3) * np.sqrt(0.3)
    assert band.max() == pytest.approx(mean[-1] + half, rel=1e-3)


def test_panels_show_draws_and_leave_collapsed_runs_out() -> None:
    made = algorithm("a", [0.05] * 4, [0.1, 0.9, 0.2, 0.4], [-1.0, -9.0, -2.0, -4.0], draws=2)
    made = replace(made, runs=made.runs.assign(collapsed=np.arange(4) == 1))
    found = results(made)
    left = plot_local_entropy(found)
    centre = plot_local_energy(found.algorithms)
    for ax, draws, last in ((left, [1.0, 3.0], np.sqrt(0.3)), (centre, [0.1, 0.3], 1.5)):
        assert labels(ax)[0] == "a (n = 3)"
        mean, *thin = [line for line in ax.get_lines() if len(line.get_xdata())]
        ends = [line.get_ydata()[-1] for line in (mean, *thin)]
        expected = np.array([np.mean(draws), *draws]) * last
        np.testing.assert_allclose(ends, expected, rtol=1e-3)
    right = plot_test_errors(found.algorithms)
    assert "mean of a draw" in labels(right) and "collapsed" in labels(right)


def test_a_mean_ends_where_the_first_curve_ends() -> None:
    short = algorithm("a", [0.1, 0.1], [0.1, 0.1], [-0.01, -0.01])
    curves = {"bp": {(0, 0): curve(-0.01), (0, 1): curve(-0.01, last=0.201)}}
    ax = plot_local_entropy(results(replace(short, curves=curves)))
    assert 0.19 < ax.get_lines()[0].get_xdata()[-1] <= 0.201  # the last point of the grid


def test_the_most_trustworthy_engine_is_bold() -> None:
    both = results(algorithm("a", [0.1] * 2, [0.1] * 2, [-0.1] * 2, engines=("bp", "mc")))
    assert labels(plot_local_entropy(both)) == ["a (n = 2)", "Monte Carlo"]
    ax = plot_local_entropy(both, engines=["mc", "bp"])
    widths = {line.get_label(): line.get_linewidth() for line in ax.get_lines()}
    assert widths["Monte Carlo"] > 2 * widths["belief propagation"]
    assert len(ax.collections) == 1  # one band only


def test_controls_follow_their_algorithm_in_its_colour() -> None:
    ax = plot_local_entropy(figure1(1, 2))
    lines = {line.get_label().split(" (")[0]: line for line in ax.get_lines()}
    assert [*lines][2:5] == ["rsgd-fast", "control-rsgd-fast", "control-rsgd-fast-epochs"]
    colours = {name: line.get_color() for name, line in lines.items() if name[0] != "_"}
    assert colours["control-esgd"] == colours["esgd"] != colours["rsgd-slow"]
    drawn = {(line.get_color(), line.get_linestyle()) for name, line in lines.items()}
    assert len(drawn) == len(lines)  # no two look the same
    assert lines["esgd"].get_linestyle() == "-" != lines["control-esgd"].get_linestyle()
    assert lines["control-esgd"].get_markerfacecolor() == "white"


def test_other_panels() -> None:
    profiles = {name: own.profile for name, own in TWO.algorithms.items()}
    ax = plot_local_energy(profiles)
    assert labels(ax) == ["sharp (n = 3)", "flat (n = 3)"]
    np.testing.assert_allclose(ax.get_lines()[1].get_ydata(), 0.03 * np.linspace(0, 1.5, 4)[1:])
    ax = plot_test_errors(TWO.algorithms, TWO.patterns[0].constant_test_error)
    assert "constant answer (10.9 %)" in labels(ax) and "with training errors" in labels(ax)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["sharp (n = 3)", "flat (n = 3)"]
    values = sorted(np.concatenate([line.get_xdata() for line in ax.get_lines()[:1]]))
    np.testing.assert_allclose(values, [7, 8, 9])


def test_legends_cover_no_data() -> None:
    lost = algorithm("lost", [0.109] * 9, [0.1] * 9, [0.0] * 9, [0.08] * 9, engines=())
    lost = replace(lost, runs=lost.runs.assign(collapsed=True))
    figure = plot_results(results(lost, *TWO.algorithms.values()))
    assert "collapsed" in labels(figure.axes[2])
    figure.draw_without_rendering()
    above = figure.axes[2].get_legend().get_window_extent()
    assert above.y0 >= figure.axes[2].get_window_extent().y1
    (below,) = figure.legends
    for ax in figure.axes:
        assert below.get_window_extent().y1 <= ax.get_tightbbox().y0


def test_plot_functions_of_the_package() -> None:
    assert committee.plot_results is plot_results
    with pytest.raises(AttributeError, match="no attribute 'plot_nothing'"):
        _ = committee.plot_nothing
    code = "import sys, committee; print('matplotlib' in sys.modules or 'pandas' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout == "False\n"


def test_plots_use_the_axes_given() -> None:
    figure = TWO.plot()
    assert repr(TWO).endswith("runs sharp: 3, flat: 3)")
    assert "fashion-mnist" in figure.get_suptitle() and "$P=500$" in figure.get_suptitle()
    assert len(figure.axes) == 3
    ax = figure.axes[0]
    assert plot_local_entropy(TWO, ax=ax) is ax
    assert plot_test_errors(TWO.algorithms, ax=figure.axes[2]) is figure.axes[2]
    assert TWO.algorithms["flat"].profile.plot(ax) is ax


# The command line


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "committee", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_explains_every_option() -> None:
    listing = command("--help", COLUMNS="100")
    assert listing.returncode == 0 and "figure1" in listing.stdout and "figure6" in listing.stdout
    for figure, own in (("figure1", "--algorithms"), ("figure6", "--dropout")):
        text = command(figure, "--help", COLUMNS="100").stdout
        for option in ("--restarts", "--data", "--data-dir", "--out", "--seed", "--engines", own):
            assert f"{option} " in text
        assert text.count("(default:") == text.count("│ --")


def test_figure1_from_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--draws", "1", "--restarts", "2", "--data", "hidden-manifold", "--size", "40"]
    options += ["--algorithms", "sgd-fast", "sgd-slow", "--max-epochs", "1500", "--workers", "1"]
    options += ["--engines", "bp", "--hidden-units", "3", "--out", str(out)]
    done = command("figure1", *options)
    assert done.returncode == 0, done.stderr
    assert "machines with their curves: 100%" in done.stderr
    assert "Data: hidden manifold" in done.stdout
    assert "Constant answer: test error" in done.stdout
    names = {path.name for path in out.iterdir()}
    assert names >= {"config.json", "summary.csv", "figure.png", "figure.pdf", "draws"}
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")

    again = command("figure1", *options)
    assert again.returncode == 0 and "machines" not in again.stderr  # nothing left to do
    refused = command("figure1", *options, "--seed", "1")
    assert refused.returncode == 1
    assert "holds results of other settings: seed is 0 there and 1 here" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_interrupted_command_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = [
        "--draws",
        "1",
        "--restarts",
        "500",
        "--data",
        "hidden-manifold",
        "--size",
        "40",
        "--workers",
        "2",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "committee", "figure6", *options, "--out", str(out)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs with SIGINT ignored, and their children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while not list(out.glob("draws/*/machines/*/*.npz")) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Interrupted. The same command continues from what is stored." in errors
    assert "Traceback" not in errors.split("Interrupted.")[1]


def test_no_cluster_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    monkeypatch.setattr("message_passing.tools.parallel.CONNECTION_TIMEOUT", 1)
    options = ["--data", "hidden-manifold", "--size", "40", "--out", str(tmp_path)]
    with pytest.raises(SystemExit, match="No Dask scheduler answers"):
        main(["figure1", *options, "--scheduler", "tcp://127.0.0.1:9"])
    assert os.listdir(tmp_path) == []


def test_wrong_options_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for options, message in (
        (["--data", "mnist"], "mnist"),
        (["--restarts", "many"], "many"),
        (["--algorithms", "adam"], "adam"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["figure1", *options])
        assert caught.value.code == 2
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit, match="restarts is 0; an integer ≥ 1 was expected"):
        main(["figure6", "--restarts", "0"])
    assert os.listdir(tmp_path) == []
