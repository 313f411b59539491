"""Figure 7 from a small PGDL archive: numbers, resuming, damaged files."""

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
from deep.pgdl.archive import Archive
from deep.pgdl.keras_networks import build_network, load_weights
from deep.pgdl.task import PgdlTask
from tests.deep.keras_by_hand import forward
from tests.deep.pgdl_archive import images, write_archive

TASK = "public_data/input_data/task1_v4"
REFERENCE = "public_data/reference_data/task1_v4/model_configs.json"


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A small archive: its folder, its weights, and a zip with the official layout."""
    folder = tmp_path_factory.mktemp("pgdl")
    weights = write_archive(folder)
    return folder, weights, zipped(folder)


@pytest.fixture
def damaged(official, tmp_path):
    """A fresh copy of the folder, which the test may damage."""
    write_archive(tmp_path)
    return tmp_path


def zipped(folder):
    archive = folder / "public_data.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for path in sorted((folder / "public_data").rglob("*")):
            file.write(path, path.relative_to(folder))
    return archive


def figure7(archive, output, *more):
    if archive.is_dir():
        archive = zipped(archive)
    main([
        "figure7", "--archive", str(archive), "--convolutions", "2", "--filters", "4",
        "--dense", "8", "--samples", "3", "--device", "cpu", "--out", str(output), *more,
    ])  # fmt: skip


def test_models_and_data_are_read_back(official):
    _, weights, path = official
    archive = Archive(path)
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


def test_figure7(official, tmp_path, capsys):
    _, weights, path = official
    figure7(path, tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out/figure7.csv").open()))
    assert [row["model"] for row in rows] == [*weights][:5]
    archive = Archive(path)
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
    assert "note: model_148 has the training error" in out  # the weights are random
    report = list(csv.DictReader((tmp_path / "out/figure7-correlations.csv").open()))
    assert [row["kind"] for row in report[:4]][-1] == "granulated kendall"
    assert {path.suffix for path in (tmp_path / "out").glob("figure7.*")} == {
        ".csv",
        ".pdf",
        ".png",
    }


def test_what_is_measured_is_kept(official, tmp_path, monkeypatch):
    """A second call measures only the missing networks; another sigma measures all again."""
    archive = official[2]
    measured = []

    def counting(*arguments, **options):
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(1)
        return local_energy(*arguments, **options)

    monkeypatch.setattr("deep.weight_noise.local_energy", counting)
    with pytest.raises(SystemExit, match="130"):
        figure7(archive, tmp_path / "out")
    assert len(list((tmp_path / "out/measurements").iterdir())) == 2
    measured[:] = [1] * 10
    figure7(archive, tmp_path / "out")
    assert len(measured) == 10 + 3
    figure7(archive, tmp_path / "whole")
    assert (tmp_path / "whole/figure7.csv").read_text() == (
        tmp_path / "out/figure7.csv"
    ).read_text()
    count = len(measured)
    figure7(archive, tmp_path / "out")
    assert len(measured) == count
    figure7(archive, tmp_path / "out", "--sigma", "0.2")
    assert len(measured) == count + 5


def test_a_measurement_belongs_to_its_data(damaged, tmp_path):
    """Other images or layers are measured again. The error for a truncated file names it."""
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


def test_a_flipped_byte_is_noticed(official, tmp_path):
    """The zip's checksum finds it in weights, and in images, where nothing else would."""
    whole = official[2].read_bytes()
    names = [f"{TASK}/dataset_1/train/shard_1.tfrecord", f"{TASK}/model_20/weights.hdf5"]
    for name in names:
        with zipfile.ZipFile(official[2]) as file:
            start = file.getinfo(name).header_offset + 30 + len(name)
        spoilt = tmp_path / "spoilt.zip"
        content = bytearray(whole)
        content[start + 200] ^= 1
        spoilt.write_bytes(content)
        with pytest.raises(SystemExit, match=re.escape(f"{name} of {spoilt} cannot be read: ")):
            figure7(spoilt, tmp_path / "out")


def test_places_that_are_no_archive(official, tmp_path):
    for place in ("/nowhere", official[0]):  # unpacked files have no checksums
        with pytest.raises(ValueError, match=f"archive is '{place}', which is no file; the zip"):
            Archive(place)
    half = tmp_path / "half.zip"
    half.write_bytes(official[2].read_bytes()[:9000])
    with pytest.raises(ValueError, match=r"half.zip cannot be read as a zip file"):
        Archive(half)


def test_a_missing_package_is_named(official, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    archive = Archive(official[2])
    model = PgdlTask(archive).models[0]
    network = build_network(model.layers, model.input_shape)
    with pytest.raises(ValueError, match=r'h5py .*pip install "wide-flat-minima\[pgdl\]"'):
        load_weights(network, archive.read(f"{TASK}/{model.name}/weights.hdf5"), "x")
