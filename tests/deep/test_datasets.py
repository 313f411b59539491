"""Image data sets: archives in the official formats, the cache, the preprocessing."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import zipfile
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image

from deep.images.augmentation import Preprocessing, resized
from deep.images.datasets import load_images, synthetic_images
from message_passing.tools.downloads import DataUnavailableError
from tests.deep.pretended_gpu import pretended_gpu


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("WIDE_FLAT_MINIMA_CACHE", str(folder))
    monkeypatch.delenv("WIDE_FLAT_MINIMA_DATA", raising=False)
    return folder


def write_cifar(folder, dataset, rng):
    """Write a small archive in the official format. Returns its pixels and labels by batch."""
    pixels = {}

    def batch(name, count, key):
        data = rng.integers(256, size=(count, 3072), dtype=np.uint8)
        labels = [int(n) for n in rng.integers(10, size=count)]
        pixels[name] = data, labels
        return pickle.dumps({b"data": data, key: labels, b"batch_label": b"x"}, protocol=2)

    if dataset == "cifar10":
        path, inside = folder / "cifar-10-python.tar.gz", "cifar-10-batches-py/"
        names = [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]
        meta, key = ("batches.meta", {b"label_names": [b"a", b"b"]}), b"labels"
    else:
        path, inside = folder / "cifar-100-python.tar.gz", "cifar-100-python/"
        names, key = ["train", "test"], b"fine_labels"
        meta = "meta", {b"fine_label_names": [b"a", b"b"], b"coarse_label_names": [b"c"]}
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            add(archive, inside + name, batch(name, 4, key))
        add(archive, inside + meta[0], pickle.dumps(meta[1], protocol=2))
        add(archive, inside + "file.txt~", b"CIFAR-100's archive has such a file")
    return pixels


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_the_official_archives_are_read_and_cached(tmp_path, cache, dataset):
    pixels = write_cifar(tmp_path, dataset, np.random.default_rng(0))
    data = load_images(dataset, tmp_path)
    last = "data_batch_5" if dataset == "cifar10" else "train"
    test = "test_batch" if dataset == "cifar10" else "test"
    assert data.train_images.shape == ((20 if dataset == "cifar10" else 4), 3, 32, 32)
    # Red plane first, row by row: pixel (row 1, column 2) of green is number 1024 + 32 + 2.
    assert data.train_images[-1, 1, 1, 2] == pixels[last][0][-1, 1024 + 32 + 2]
    assert data.test_labels.tolist() == pixels[test][1]
    assert data.classes == ("a", "b")
    assert len(list(cache.iterdir())) == 1
    again = load_images(dataset, tmp_path)
    assert torch.equal(again.train_images, data.train_images)


def test_a_pickle_with_anything_else_is_refused(tmp_path):
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
        for name in ("data_batch_1", "test_batch", "batches.meta"):
            add(archive, name, pickle.dumps(print))
    with pytest.raises(ValueError, match=r"the archive holds a builtins\.print"):
        load_images("cifar10", tmp_path)


def write_folder(folder, sizes=(8, 8), classes=("cat", "dog")):
    rng = np.random.default_rng(1)
    images = {}
    for split in ("train", "test"):
        for c, label in enumerate(classes):
            for n in range(3):
                pixels = rng.integers(256, size=(sizes[c], 8, 3), dtype=np.uint8)
                path = folder / split / label / f"{n:04}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
                images[split, label, n] = pixels
    return images


@pytest.mark.parametrize("kind", ["folder", "w:xz"])
def test_image_folders_are_read(tmp_path, capsys, kind):
    source = tmp_path / "animals"
    images = write_folder(source)
    Image.fromarray(images["train", "dog", 1][:, :, 0]).save(source / "train/dog/0001.png")
    path = source
    if kind != "folder":
        path = tmp_path / "animals.tar.xz"
        with tarfile.open(path, kind) as archive:
            archive.add(source, "animals")
    data = load_images(str(path))
    progress = capsys.readouterr().err
    assert f"reading {path.name}: 100%" in progress and "decoding train: 100%" in progress
    assert "6/6" in progress
    assert data.name == "animals" and data.classes == ("cat", "dog")
    assert data.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(
        data.train_images[2].permute(1, 2, 0).numpy(), images["train", "cat", 2]
    )
    grey = images["train", "dog", 1][:, :, 0]
    np.testing.assert_array_equal(data.train_images[4].numpy(), np.stack([grey] * 3))


def test_an_archive_is_known_by_its_content(tmp_path, cache):
    """The cache goes by an archive's content and kind, not by its name or date."""
    write_cifar(tmp_path, "cifar10", np.random.default_rng(0))
    path = tmp_path / "cifar-10-python.tar.gz"
    first = load_images("cifar10", tmp_path)
    date = path.stat().st_mtime
    write_cifar(tmp_path, "cifar10", np.random.default_rng(1))
    os.utime(path, (date, date))
    assert not torch.equal(load_images("cifar10", tmp_path).train_images, first.train_images)
    assert len(list(cache.iterdir())) == 2
    with pytest.raises(ValueError, match=r"cifar-10-python\.tar\.gz has no train images"):
        load_images(str(path))


@pytest.mark.parametrize("damage", ["truncated", "header", "checksum"])
def test_a_damaged_tar_file_loses_no_image_in_silence(tmp_path, cache, damage):
    write_folder(tmp_path / "animals")
    path = tmp_path / ("animals.tar.gz" if damage == "checksum" else "animals.tar")
    with tarfile.open(path, "w:gz" if damage == "checksum" else "w") as archive:
        for file in sorted((tmp_path / "animals").rglob("*.png")):
            archive.add(file, file.relative_to(tmp_path))
        last = archive.offset - 1024  # the header of the last image; each fills two blocks
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        del content[last:]
    else:
        content[last + 10 if damage == "header" else -5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"animals\.tar\S* cannot be read"):
        load_images(str(path))
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_used_is_named(tmp_path, cache, monkeypatch):
    write_cifar(tmp_path, "cifar10", np.random.default_rng(0))
    load_images("cifar10", tmp_path)
    (kept,) = cache.iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.raises(ValueError, match=rf"{kept} cannot be read .* Delete it"):
        load_images("cifar10", tmp_path)
    monkeypatch.setenv("WIDE_FLAT_MINIMA_CACHE", str(kept))  # a file where a folder should be
    monkeypatch.setattr("deep.images.archives.tarfile.open", None)  # the check comes first
    with pytest.raises(OSError, match=rf"{kept}/images-.*\.npz cannot be written"):
        load_images("cifar10", tmp_path)


def jpeg(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


def write_tiny_imagenet(folder, changes=None):
    """Write a small zip in the official layout: 8×8 images of two classes, one image greyscale.

    ``changes`` maps a file's name to its new content, or to None, which removes it.
    """
    rng = np.random.default_rng(5)
    files = {"wnids.txt": b"n02\nn01\n", "words.txt": b"n01\tcat\nn02\tdog, hound\n"}
    for wnid in ("n01", "n02"):
        boxes = "".join(f"{wnid}_{n}.JPEG\t0\t0\t7\t7\n" for n in range(2))
        files[f"train/{wnid}/{wnid}_boxes.txt"] = boxes.encode()
        for n in range(2):
            pixels = rng.integers(256, size=(8, 8, 3), dtype=np.uint8)
            files[f"train/{wnid}/images/{wnid}_{n}.JPEG"] = jpeg(pixels)
    files["train/n01/images/n01_1.JPEG"] = jpeg(rng.integers(256, size=(8, 8), dtype=np.uint8))
    for n in range(3):
        pixels = rng.integers(256, size=(8, 8, 3), dtype=np.uint8)
        files[f"val/images/val_{n}.JPEG"] = jpeg(pixels)
        files[f"test/images/test_{n}.JPEG"] = jpeg(pixels)
    lines = [f"val_{n}.JPEG\t{wnid}\t0\t0\t7\t7" for n, wnid in enumerate(("n01", "n02", "n01"))]
    files["val/val_annotations.txt"] = "\n".join(lines).encode()
    files |= changes or {}
    with zipfile.ZipFile(folder / "tiny-imagenet-200.zip", "w") as archive:
        archive.mkdir("tiny-imagenet-200")
        for name, content in files.items():
            if content is not None:
                archive.writestr(f"tiny-imagenet-200/{name}", content)
    return files


def test_tiny_imagenet_is_read_and_cached(tmp_path, cache):
    files = write_tiny_imagenet(tmp_path)
    data = load_images("tinyimagenet", tmp_path)
    assert data.name == "tinyimagenet" and data.classes == ("n02", "n01")
    assert data.train_images.shape == (4, 3, 8, 8) and data.train_images.dtype == torch.uint8
    assert data.train_labels.tolist() == [0, 0, 1, 1]
    assert data.test_labels.tolist() == [0, 1, 1]  # n02 is class 0; the test images are not read

    def decoded(name):
        with Image.open(io.BytesIO(files[name])) as image:
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)

    np.testing.assert_array_equal(
        data.train_images[1].numpy(), decoded("train/n02/images/n02_1.JPEG")
    )
    for place, n in enumerate((1, 0, 2)):
        own = data.test_images[place].numpy()
        np.testing.assert_array_equal(own, decoded(f"val/images/val_{n}.JPEG"))
    grey = data.train_images[3]
    assert (grey == grey[0]).all() and grey.unique().numel() > 9
    assert len(list(cache.iterdir())) == 1
    again = load_images("tinyimagenet", tmp_path)
    assert torch.equal(again.train_images, data.train_images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train/n02/images/n02_1.JPEG": b"no image"}, r"n02_1\.JPEG of .* cannot be decoded"),
        (
            {"val/val_annotations.txt": b"val_0.JPEG\tn01\t0\n"},
            r"has val/images/val_1\.JPEG either among its images or in val/val_annotations\.txt",
        ),
        ({"val/images/val_1.JPEG": None}, r"has val/images/val_1\.JPEG either"),
        ({"wnids.txt": b"n01\n"}, "has the class 'n02', which wnids.txt lacks"),
        ({"wnids.txt": None}, r"has no wnids\.txt; the official archive was expected"),
        ({"val/val_annotations.txt": None}, r"has no val/val_annotations\.txt"),
        ({"val/images/val_2.JPEG": jpeg(np.zeros((9, 8), np.uint8))}, "images of several sizes"),
    ],
)
def test_bad_tiny_imagenet(tmp_path, cache, changes, message):
    write_tiny_imagenet(tmp_path, changes)
    with pytest.raises(ValueError, match=message):
        load_images("tinyimagenet", tmp_path)
    assert not cache.exists() or not list(cache.iterdir())


def test_a_broken_zip(tmp_path):
    files = write_tiny_imagenet(tmp_path)
    whole = (tmp_path / "tiny-imagenet-200.zip").read_bytes()
    # One image is truncated, but the zip itself is whole.
    name = "train/n01/images/n01_0.JPEG"
    write_tiny_imagenet(tmp_path, {name: files[name][:-30]})
    with pytest.raises(ValueError, match=r"n01_0\.JPEG of .*-200.zip cannot be decoded"):
        load_images("tinyimagenet", tmp_path)
    (tmp_path / "tiny-imagenet-200.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"tiny-imagenet-200\.zip cannot be read"):
        load_images("tinyimagenet", tmp_path)
    place = whole.index(files["val/images/val_0.JPEG"]) + 100
    content = bytearray(whole)
    content[place] ^= 255
    (tmp_path / "tiny-imagenet-200.zip").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as an image archive: Bad CRC-32"):
        load_images("tinyimagenet", tmp_path)


def test_bad_archives(tmp_path, cache):
    with pytest.raises(ValueError, match="dataset is 'cifar11'; one of"):
        load_images("cifar11")
    with pytest.raises(DataUnavailableError, match=r"where cifar-10-python.tar.gz was expected"):
        load_images("cifar10", tmp_path)
    for dataset in ("cifar10", "synthetic"):
        with pytest.raises(ValueError, match="directory is '/nowhere'; an existing folder"):
            load_images(dataset, "/nowhere")
    assert not cache.exists()
    write_folder(tmp_path / "sizes", sizes=(8, 9))
    with pytest.raises(ValueError, match="images of several sizes"):
        load_images(str(tmp_path / "sizes"))
    write_folder(tmp_path / "broken")
    (tmp_path / "broken/train/cat/0000.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"0000\.png of .*broken cannot be decoded"):
        load_images(str(tmp_path / "broken"))
    write_cifar(tmp_path, "cifar10", np.random.default_rng(0))
    whole = (tmp_path / "cifar-10-python.tar.gz").read_bytes()
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cifar-10-python\.tar\.gz cannot be read"):
        load_images("cifar10", tmp_path)
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
        for name in ("data_batch_1", "test_batch", "batches.meta"):
            add(archive, name, pickle.dumps({b"label_names": [b"a", b"b"]}))
    with pytest.raises(ValueError, match=r"cifar-10-python\.tar\.gz .* KeyError\(b'data'\)"):
        load_images("cifar10", tmp_path)
    write_folder(tmp_path / "twice/one")
    write_folder(tmp_path / "twice/two")
    with pytest.raises(ValueError, match=r"has t\w+/cat/0000\.png twice"):
        load_images(str(tmp_path / "twice"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no train images"):
        load_images(str(tmp_path / "empty"))


def test_normalisation_gives_zero_mean_and_unit_variance():
    data = synthetic_images(train=200, test=10)
    assert repr(data) == "<synthetic: 200 training and 10 test images 3×32×32, 10 classes>"
    normalised = data.preprocessing().evaluate(data.train_images)
    assert normalised.mean((0, 2, 3)).abs().max() < 1e-5
    assert (normalised.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-5


def test_crop_and_flip_against_pillow():
    """Augmentation makes the 9·9·2 images that Pillow makes, all equally often."""
    rng = np.random.default_rng(2)
    picture = rng.integers(256, size=(8, 8, 3), dtype=np.uint8)
    padded = Image.new("RGB", (16, 16))
    padded.paste(Image.fromarray(picture), (4, 4))
    possible = set()
    for row in range(9):
        for column in range(9):
            crop = padded.crop((column, row, column + 8, row + 8))
            possible.add(np.asarray(crop).tobytes())
            possible.add(np.asarray(crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)).tobytes())
    assert len(possible) == 162

    plain = Preprocessing(torch.zeros(3), torch.ones(3))
    batch = torch.from_numpy(picture).permute(2, 0, 1).expand(4000, 3, 8, 8)
    moved = plain.train(batch, torch.Generator().manual_seed(0))
    pixels = (moved * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    seen = [image.tobytes() for image in pixels]
    assert set(seen) == possible
    counts = np.array([seen.count(image) for image in possible])
    chi2 = ((counts - 4000 / 162) ** 2 / (4000 / 162)).sum()
    assert chi2 < 161 + 5 * (2 * 161) ** 0.5


def test_augmentation_follows_its_seed():
    data = synthetic_images(train=50, test=10)
    prepare = data.preprocessing()
    one, two, other = (
        prepare.train(data.train_images, torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    )
    assert torch.equal(one, two) and not torch.equal(one, other)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    ("shape", "side", "levels"),
    [((32, 32), 224, 0), ((64, 64), 224, 2), ((64, 64), 24, 1), ((40, 31), 33, 2)],
)
def test_resizing_equals_pillow(monkeypatch, device, shape, side, levels):
    """Exact on both devices from 32 to 224, the recipes' sizes. Others differ by ≤ 2 levels."""
    rng = np.random.default_rng(6)
    images = rng.integers(256, size=(3, 3, *shape), dtype=np.uint8)
    with pretended_gpu(monkeypatch) if device == "cuda" else nullcontext():
        result = resized(torch.from_numpy(images).to(device), (side, side)).cpu()
    assert result.dtype == torch.uint8
    for own, image in zip(result.numpy(), images, strict=True):
        picture = Image.fromarray(image.transpose(1, 2, 0))
        expected = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR), np.int64)
        assert np.abs(own.transpose(1, 2, 0) - expected).max() <= levels


def test_cutout_after_normalisation():
    """Cutout zeroes a square around a uniformly drawn pixel, clipped at the border."""
    side, cut = 12, 6
    data = synthetic_images(train=50, test=5, size=side)
    prepare = data.preprocessing(padding=0, flip=False, cutout=cut)
    one = data.train_images[:1].expand(2000, 3, side, side)
    images = prepare.train(one, torch.Generator().manual_seed(0))
    whole = prepare.evaluate(one[:1])
    assert (whole != 0).all()
    seen = np.zeros((side, side))
    possible = {}
    for row in range(side):
        for column in range(side):
            mask = np.ones((side, side), bool)
            mask[max(row - 3, 0) : row + 3, max(column - 3, 0) : column + 3] = False
            possible[mask.tobytes()] = row, column
    assert len(possible) == side * side
    for image in images:
        kept = (image != 0).numpy()
        assert (kept == kept[0]).all() and torch.equal(image[:, kept[0]], whole[0][:, kept[0]])
        seen[possible[kept[0].tobytes()]] += 1
    expected = 2000 / side**2
    chi2 = ((seen - expected) ** 2 / expected).sum()
    assert chi2 < side**2 + 5 * (2 * side**2) ** 0.5


def test_training_goes_through_all_steps():
    """One call equals resizing, policy, crop and flip, normalisation and Cutout in turn."""
    data = synthetic_images(train=20, test=5)
    steps = {"size": 40, "policy": "autoaugment-cifar10", "padding": 5, "cutout": 10}
    none = {"size": 0, "policy": "", "padding": 0, "cutout": 0, "flip": False}
    generator = torch.Generator().manual_seed(7)
    prepare = data.preprocessing(**steps, flip=True)
    together = prepare.train(data.train_images, torch.Generator().manual_seed(7))
    assert together.shape == (20, 3, 40, 40)

    def pixels(normalised):
        values = normalised * prepare.std.view(3, 1, 1) + prepare.mean.view(3, 1, 1)
        return (255 * values).round().to(torch.uint8)

    images = pixels(data.preprocessing(**none | {"size": 40}).evaluate(data.train_images))
    images = prepare.policy(images, generator)
    moved = data.preprocessing(**none | {"padding": 5, "flip": True}).train(images, generator)
    kept = together != 0
    assert torch.equal(together[kept], moved[kept])
    assert 0.02 < float((~kept).float().mean()) < 0.1


def test_a_download_that_fails_is_a_sentence(monkeypatch):
    def no_network(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("pooch.core.stream_download", no_network)
    with pytest.raises(
        DataUnavailableError,
        match=r"cifar-10-python.tar.gz could not be .*no route to host.*--data-dir",
    ):
        load_images("cifar10")
