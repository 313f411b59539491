"""``flatness --hessian`` and ``correlations`` on stored runs and on tables."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from deep.run_columns import run_columns
from deep.stored_runs import networks_of

from deep.__main__ import main
from deep.config import TrainingConfig
from deep.images.datasets import synthetic_images
from deep.training import train

SMALL = TrainingConfig(
    dataset="synthetic", model_options={"channels": [4, 6], "hidden": 5, "image_size": 16},
    passes=2, batch_size=20, lr_drops=(), snapshots=(0.5,),
)  # fmt: skip
FLATNESS = [
    "--sigmas", "0", "0.3", "0.5", "--samples", "2", "--images", "40", "--device", "cpu",
    "--hessian", "--hessian-options.eigenvalues", "2", "--hessian-options.images", "20",
    "--hessian-options.trace-samples", "2", "--hessian-options.tolerance", "0.5",
]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Five runs at five learning rates, of two seeds, measured, and the table of that."""
    folder = tmp_path_factory.mktemp("runs")
    data = synthetic_images(train=60, test=40, size=16)
    paths = [folder / f"lr-{lr}" for lr in (0.001, 0.003, 0.01, 0.03, 0.1)]
    for i, path in enumerate(paths):
        config = replace(SMALL, lr=float(path.name.removeprefix("lr-")), seed=i % 2)
        train(config, path, device="cpu", data=data, progress=False)
    arguments = ["flatness", *map(str, paths), *FLATNESS, "--output", str(folder / "out")]
    with pytest.MonkeyPatch.context() as patch:
        for module in ("stored_runs", "stored_hessians"):
            patch.setattr(f"deep.{module}.load_images", lambda *_: data)
        assert main(arguments) == 0

        def fail(*_, **__):
            raise AssertionError("measured twice")

        patch.setattr("deep.stored_hessians.hessian_spectrum", fail)
        again = ["flatness", str(paths[0]), *FLATNESS, "--output", str(folder / "again")]
        assert main(again) == 0
        with pytest.raises(AssertionError, match="measured twice"):
            main([*again, "--hessian-options.images", "30"])
    return paths, list(csv.DictReader((folder / "out/flatness.csv").open()))


def test_the_hessian_stands_beside_the_local_energy(runs):
    paths, rows = runs
    assert len(rows) == 5 * 2 * 3  # runs, networks, sigmas
    assert all(row["hessian_trace"] == "" for row in rows if row["passes"] == "1")
    for path, run in zip(paths, dict.fromkeys(row["run"] for row in rows), strict=True):
        stored = json.loads((path / "hessian/final.json").read_text())
        final = [row for row in rows if row["run"] == run and row["passes"] == "2"]
        for row in final:
            first, second = (float(row[f"hessian_eigenvalue_{i}"]) for i in (1, 2))
            assert first == pytest.approx(stored["spectrum"]["eigenvalues"][0], rel=1e-4)
            assert first >= second and row["hessian_converged"] == "True"
            assert float(row["hessian_trace"]) == pytest.approx(stored["trace"]["trace"], rel=1e-4)


def test_the_norm_is_that_of_all_weights(runs):
    paths, rows = runs
    norms = run_columns(paths, (0.5,))[1]["weight_norm"]
    for path, norm in zip(paths, norms, strict=True):
        weights = [p.detach().reshape(-1) for p in networks_of(path)[-1].model.parameters()]
        assert norm == pytest.approx(torch.cat(weights).norm().item())
    final = [float(row["weight_norm"]) for row in rows if row["passes"] == "2"]
    np.testing.assert_allclose(final, np.repeat(norms, 3), rtol=1e-4)


def test_correlations_over_runs(runs, tmp_path, capsys):
    paths, _ = runs
    names, columns = run_columns(paths, (0.5,))
    assert columns["seed"] == ["0", "1", "0", "1", "0"]  # which is no hyper-parameter
    assert names == ["lr"] and columns["lr"] == ["0.001", "0.003", "0.01", "0.03", "0.1"]
    assert columns["test_error"] == [networks_of(path)[-1].test_error for path in paths]
    output = tmp_path / "report.csv"
    assert main(["correlations", *map(str, paths), "--output", str(output)]) == 0
    rows = list(csv.DictReader(output.open()))
    measures = ["local_energy_0.3", "local_energy_0.5", "weight_norm"]
    measures += ["hessian_eigenvalue_1", "hessian_trace"]
    assert list(dict.fromkeys(row["measure"] for row in rows)) == measures
    kinds = ["pearson", "spearman", "kendall", "granulated kendall", "kendall along lr"]
    assert [row["kind"] for row in rows[:5]] == kinds and len(rows) == 5 * 2 * 5
    row = next(r for r in rows if r["measure"] == "hessian_trace" and r["error"] == "gap")
    expected = np.corrcoef(columns["hessian_trace"], columns["gap"])[0, 1]
    assert float(row["correlation"]) == pytest.approx(expected, rel=1e-4)
    assert "hessian_trace" in capsys.readouterr().out


def test_correlations_over_a_table(tmp_path, capsys):
    table = tmp_path / "table.csv"
    lines = [f"{lr},{seed},{10 * lr + seed},{lr}" for lr in (1, 2, 3) for seed in (0, 1)]
    table.write_text("\n".join(["lr,seed,sharpness,gap", *lines, "4,0,,4"]))
    arguments = [
        "correlations", str(table), "--measures", "sharpness", "--errors", "gap",
        "--hyper-parameters", "lr", "seed", "--output", str(tmp_path / "report.csv"),
    ]  # fmt: skip
    assert main(arguments) == 0
    rows = {r["kind"]: r for r in csv.DictReader((tmp_path / "report.csv").open())}
    assert rows["pearson"]["n"] == "6"
    # Along lr all pairs agree; the two seeds of a learning rate have the same gap.
    assert rows["kendall along lr"]["correlation"] == "1"
    assert rows["kendall along seed"]["correlation"] == "0"
    assert rows["granulated kendall"]["correlation"] == "0.5"


def test_bad_input(runs, tmp_path, capsys):
    table, text = tmp_path / "table.csv", tmp_path / "text.csv"
    table.write_text("a,b\n1,2\n3\n")
    text.write_text("a,gap\nx,1\n")
    for arguments, words in [
        ([], "at least one was expected"),
        ([str(tmp_path / "no.csv")], "where there is no file"),
        ([str(table)], "is no table"),
        ([str(text), str(text)], "2 tables were given"),
        ([str(text)], "measures is empty"),
        ([str(text), "--measures", "a"], "column 'a' is not of numbers"),
        ([str(text), "--measures", "b"], "there is no column 'b'"),
        ([str(tmp_path)], "the folder of a run after python -m deep flatness"),
        ([*map(str, runs[0]), "--sigmas", "2"], "sigma is 2.0"),
    ]:
        assert main(["correlations", *arguments]) == 1
        assert words in capsys.readouterr().err


def test_runs_side_by_side_with_errors_over_seeds(runs, tmp_path, capsys):
    paths, _ = runs
    folders = []
    for i, (error, passes) in enumerate([(0.2, 2), (0.3, 2.0), (0.4, 2)]):
        shutil.copytree(paths[0], tmp_path / str(i))
        folders.append(tmp_path / str(i))
        for name, changes in [
            ("config.json", {"seed": i, "passes": passes, "weight_decay": 0.1 if i == 2 else 0.0}),
            ("result.json", {"train_error": 0.1, "test_error": error}),
        ]:
            content = json.loads((folders[-1] / name).read_text())
            (folders[-1] / name).write_text(json.dumps(content | changes))
    shutil.rmtree(folders[2] / "flatness")
    output = tmp_path / "runs.csv"
    arguments = ["runs", *map(str, folders), "--output", str(output)]
    assert main([*arguments, "--settings", "weight_decay"]) == 0
    first, second = capsys.readouterr().out.splitlines()[2:4]
    cells = [cell.strip() for cell in first.strip("|").split("|")]
    # Mean and standard error of 20 and 30 % over two seeds; equal networks otherwise.
    assert cells[:5] == ["0", "2", "10.0 ± 0.0", "25.0 ± 5.0", "15.0 ± 5.0"]
    assert second.split("|")[1:8] == [" 0.1 ", " 1 ", " 10.0 ", " 40.0 ", " 30.0 ", "  ", "  "]
    rows = list(csv.DictReader(output.open()))
    assert list(rows[0])[:3] == ["run", "weight_decay", "seed"] and len(rows) == 3
    columns = run_columns(folders[:2], (0.5,))[1]
    assert float(rows[1]["local_energy_0.5"]) == pytest.approx(columns["local_energy_0.5"][1])
    assert rows[2]["local_energy_0.5"] == rows[2]["weight_norm"] == ""
    for wrong, words in [
        (["runs"], "no run was given"),
        ([*arguments, "--settings", "colour"], "settings has 'colour'; some of"),
        (["runs", str(tmp_path)], "the folder of a run was expected"),
        (["runs", *map(str, [*folders, folders[0]])], "have the same settings and the same seed"),
    ]:
        assert main(wrong) == 1
        assert words in capsys.readouterr().err
