"""PGDL's archive: Figure 7 on a small one, resumed, by ranges over HTTP; what is broken."""

from __future__ import annotations

import csv
import json
import re
import sys
import zipfile

import numpy as np
import pytest
import torch
from scipy import stats

from deep import local_energy
from deep.__main__ import main
from deep.pgdl import PgdlTask, build_network, load_weights, open_archive
from tests.deep.keras_by_hand import forward
from tests.deep.pgdl_archive import images, write_archive
from tests.deep.range_server import range_server

TASK = "public_data/input_data/task1_v4"
REFERENCE = "public_data/reference_data/task1_v4/model_configs.json"


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """The folder, the weights, and the zip in the manner of the official one."""
    folder = tmp_path_factory.mktemp("pgdl")
    weights = write_archive(folder)
    archive = tmp_path_factory.mktemp("zip") / "public_data.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        # A member that nobody needs and that is larger than all the rest.
        file.writestr(
            "public_data/input_data/task2_v1/big", np.random.default_rng(0).bytes(500_000)
        )
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder))
    return folder, weights, archive


@pytest.fixture
def damaged(official, tmp_path):
    """A copy of the folder, to be spoilt."""
    write_archive(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WIDE_FLAT_MINIMA_CACHE", str(tmp_path / "cache"))


def figure7(archive, output, *more):
    main([
        "figure7", "--archive", str(archive), "--convolutions", "2", "--filters", "4", "--dense",
        "8", "--samples", "3", "--device", "cpu", "--out", str(output), *more,
    ])  # fmt: skip


def test_models_and_data_are_read_back(official):
    folder, weights, _ = official
    archive = open_archive(folder)
    task = PgdlTask(archive, "1")
    assert task.name == "task1_v4" and PgdlTask(archive, "task1_v4").folder == task.folder
    assert [model.name for model in task.models] == [*weights]
    model = task.models[1]
    assert model.hyper_parameters == {"convwidth": 4.0, "dropout": 0.5, "batch_size": 8}
    assert (model.train_accuracy, model.test_accuracy) == (0.99, 0.77)
    inputs, labels = task.training_data()
    expected, expected_labels = images(30, 1)
    assert torch.equal(inputs, torch.from_numpy(expected.transpose(0, 3, 1, 2).copy()))
    assert labels.tolist() == expected_labels.tolist() and inputs.dtype == torch.float32
    for model in task.models:
        network = build_network(model.layers, model.input_shape)
        load_weights(network, archive.read(task.weights_name(model)), model.name)
        expected = forward(model.layers, weights[model.name], images(30, 1)[0])
        ours = network(task.training_data()[0]).detach().numpy()
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_figure7_from_a_folder(official, tmp_path, capsys, monkeypatch):
    folder, weights, _ = official
    figure7(folder, tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out/figure7.csv").open()))
    assert [row["model"] for row in rows] == [*weights][:5]
    archive = open_archive(folder)
    task = PgdlTask(archive)
    inputs, labels = task.training_data()
    for row, model in zip(rows, task.models, strict=False):
        outputs = forward(model.layers, weights[model.name], images(30, 1)[0])
        error = np.mean(outputs.argmax(1) != labels.numpy())
        assert float(row["train_error"]) == pytest.approx(error, rel=1e-5)
        assert float(row["test_error"]) == pytest.approx(1 - model.test_accuracy, rel=1e-5)
        network = build_network(model.layers, model.input_shape)
        load_weights(network, archive.read(task.weights_name(model)), model.name)
        expected = local_energy(network, inputs, labels, sigmas=[0.5], samples=3)
        assert float(row["local_energy"]) == pytest.approx(expected.local_energy[0], rel=1e-4)
        error = float(row["local_energy_standard_error"])
        assert error == pytest.approx(expected.standard_error[0], rel=1e-4, abs=1e-9)
    r, p = stats.pearsonr(
        *([float(row[n]) for row in rows] for n in ("local_energy", "test_error"))
    )
    out = capsys.readouterr().out
    assert f"r(3) = {r:.2f}, p = {p:.1g}, n = 5 networks" in out and "r(12) = 0.90" in out
    assert "note: model_148 has the training error" in out  # random weights
    report = list(csv.DictReader((tmp_path / "out/figure7-correlations.csv").open()))
    assert [row["kind"] for row in report[:4]][-1] == "granulated kendall"
    assert {path.suffix for path in (tmp_path / "out").glob("figure7.*")} == {
        ".csv",
        ".pdf",
        ".png",
    }


def test_what_is_measured_is_kept(official, tmp_path, monkeypatch):
    """After an interruption the missing networks are measured; other options measure anew."""
    folder, _, archive = official
    measured = []

    def counting(*arguments, **options):
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(1)
        return local_energy(*arguments, **options)

    monkeypatch.setattr("deep.pgdl.measurements.local_energy", counting)
    with pytest.raises(SystemExit, match="130"):
        figure7(folder, tmp_path / "out")
    assert len(list((tmp_path / "out/measurements").iterdir())) == 2
    measured[:] = [1] * 10
    # From the zip: the same weights by their checksums.
    figure7(archive, tmp_path / "out")
    assert len(measured) == 10 + 3
    figure7(folder, tmp_path / "whole")
    assert (tmp_path / "whole/figure7.csv").read_text() == (
        tmp_path / "out/figure7.csv"
    ).read_text()
    count = len(measured)
    figure7(folder, tmp_path / "out")
    assert len(measured) == count
    figure7(folder, tmp_path / "out", "--sigma", "0.2")
    assert len(measured) == count + 5


def test_a_measurement_belongs_to_its_data(damaged, tmp_path):
    """Other images or other layers are measured anew; a torn file is named."""
    out = tmp_path / "out"
    figure7(damaged, out)
    kept = sorted((out / "measurements").iterdir())
    before = [path.read_text() for path in kept]
    config = damaged / TASK / "model_20/config.json"
    described = json.loads(config.read_text())
    described["model_config"][0]["activation"] = "linear"
    config.write_text(json.dumps(described))
    figure7(damaged, out)
    changed = [path.read_text() != text for path, text in zip(kept, before, strict=True)]
    assert [path.stem for path, c in zip(kept, changed, strict=True) if c] == ["model_20"]
    (damaged / TASK / "dataset_1/train/shard_2.tfrecord").unlink()
    figure7(damaged, out)
    assert all(path.read_text() != text for path, text in zip(kept, before, strict=True))
    kept[0].write_text(before[0][:30])
    with pytest.raises(SystemExit, match=re.escape(f"{kept[0]} cannot be read")):
        figure7(damaged, out)


def test_figure7_over_http_fetches_only_what_it_needs(official, tmp_path, capsys):
    folder, _, archive = official
    figure7(folder, tmp_path / "folder")
    content = archive.read_bytes()
    with range_server(content, failures=1) as server:
        figure7(server.address, tmp_path / "web")
        first = server.sent
        figure7(server.address, tmp_path / "again")
        second = server.sent - first
    # remotezip starts with the last 64 KiB; the large member is never sent.
    assert first < len(content) - 400_000
    # The second time everything but the zip's directory is in the cache.
    assert second <= 65_536
    for output in ("web", "again"):
        rows = (tmp_path / output / "figure7.csv").read_text()
        assert rows == (tmp_path / "folder/figure7.csv").read_text()


def test_a_damaged_cache_is_fetched_again(official, tmp_path):
    _, _, archive = official
    with range_server(archive.read_bytes()) as server:
        opened = open_archive(server.address)
        assert opened.json(REFERENCE)["148"]["metrics"]["train_acc"] == 1
        kept = next((tmp_path / "cache").rglob("model_configs.json"))
        kept.write_text("{}")
        assert opened.json(REFERENCE)["148"]["metrics"]["train_acc"] == 1


def test_servers_that_fail(official, monkeypatch):
    _, _, archive = official
    monkeypatch.setattr("deep.pgdl.archive.RETRIES", 1)
    with (
        range_server(archive.read_bytes(), ranges=False) as server,
        pytest.raises(ValueError, match="doesn't support range requests"),
    ):
        open_archive(server.address)
    with (
        range_server(archive.read_bytes(), failures=100) as server,
        pytest.raises(ValueError, match="cannot be read as a zip file"),
    ):
        open_archive(server.address)
    with (
        range_server(b"<html>no zip at all</html>" * 9) as server,
        pytest.raises(ValueError, match="cannot be read as a zip file"),
    ):
        open_archive(server.address)


def test_archives_that_lack_something(damaged, tmp_path):
    def refused(words, *more):
        with pytest.raises(SystemExit, match=re.escape(words)):
            figure7(damaged, tmp_path / "out", *more)

    refused("task is '3'; one of ['task1_v4']", "--task", "3")
    refused("has no model of Architecture(convolutions=9", "--convolutions", "9")
    refused("sigma is 0.0; a positive number", "--sigma", "0")
    refused("images is 0; a positive number", "--images", "0")
    refused("samples is 1; at least 2", "--samples", "1")
    assert not (tmp_path / "out").exists()
    refused("task1_v4 has 1 such networks; at least 3", "--filters", "6")

    weights = damaged / TASK / "model_21/weights.hdf5"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    refused("model_21/weights.hdf5 cannot be read as Keras' weights")
    weights.unlink()
    refused("has no public_data/input_data/task1_v4/model_21/weights.hdf5")
    weights.write_bytes(content)

    shard = damaged / TASK / "dataset_1/train/shard_1.tfrecord"
    content = shard.read_bytes()
    shard.write_bytes(content[:500])
    refused("shard_1.tfrecord is truncated", "--seed", "1")
    for path in shard.parent.iterdir():
        path.unlink()
    refused(
        "has no public_data/input_data/task1_v4/dataset_1/train/shard_*.tfrecord", "--seed", "1"
    )

    config = damaged / TASK / "model_20/config.json"
    described = json.loads(config.read_text())
    described["model_config"][0]["layer_name"] = "SeparableConv2D"
    config.write_text(json.dumps(described))
    refused("layer 0 is 'SeparableConv2D'", "--convolutions", "None", "--seed", "1")
    config.write_text("{")
    refused("config.json", "--seed", "1")
    config.unlink()
    refused("has no public_data/input_data/task1_v4/model_20/config.json")
    (damaged / REFERENCE).write_text('{"6": {"hparams": {}}}')
    refused("lacks 'metrics'")


def test_places_that_are_no_archive(official, tmp_path):
    with pytest.raises(
        ValueError, match=r"archive is '/nowhere'; a folder, a zip file or an address"
    ):
        open_archive("/nowhere")
    half = tmp_path / "half.zip"
    half.write_bytes(official[2].read_bytes()[:9000])
    with pytest.raises(ValueError, match="cannot be read as a zip file"):
        open_archive(half)
    spoilt = bytearray(official[2].read_bytes())
    with zipfile.ZipFile(official[2]) as file:
        at = file.getinfo(f"{TASK}/model_20/weights.hdf5").header_offset
    spoilt[at + 300] ^= 0xFF
    with zipfile.ZipFile(half, "w") as file:
        file.writestr("../outside", "a")
        file.writestr("inside", "b")
    assert open_archive(half).names == {"inside"}
    half.write_bytes(bytes(spoilt))
    archive = open_archive(half)
    with pytest.raises(ValueError, match=r"model_20/weights.hdf5 of .* cannot be read"):
        archive.read(f"{TASK}/model_20/weights.hdf5")


@pytest.mark.parametrize("package", ["h5py", "remotezip"])
def test_a_missing_package_is_named(official, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    archive = open_archive(official[0])
    task = PgdlTask(archive)
    model = task.models[0]
    network = build_network(model.layers, model.input_shape)
    use = {
        "h5py": lambda: load_weights(network, archive.read(task.weights_name(model)), "x"),
        "remotezip": lambda: open_archive("http://127.0.0.1:1/public_data.zip"),
    }
    with pytest.raises(ValueError, match=rf'{package} .*pip install "wide-flat-minima\[pgdl\]"'):
        use[package]()
