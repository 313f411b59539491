"""Pattern sets: published counts, own files, downloads, synthetic patterns, own arrays."""

from __future__ import annotations

import gzip
import hashlib
import socket
import threading
import warnings
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from committee import PatternSet, fashion_mnist, load_patterns, train
from committee.fashion_mnist import binarise, reduced_fashion_mnist
from message_passing.tools.downloads import (
    CACHE_VARIABLE,
    DATA_VARIABLE,
    DataUnavailableError,
    PublishedFile,
)

NAMES = [file.name for file in fashion_mnist.FILES]
UNOFFICIAL = pytest.mark.filterwarnings("ignore:.*not the published Fashion-MNIST")


def participation_ratio(patterns: np.ndarray) -> float:
    centred = patterns - patterns.mean(axis=0)
    values = np.linalg.eigvalsh(centred @ centred.T)
    return float(values.sum() ** 2 / np.sum(values**2))


def mean_overlap(patterns: np.ndarray, power: int = 1) -> float:
    overlaps = patterns @ patterns.T / patterns.shape[1]
    return float(np.mean(overlaps[~np.eye(len(patterns), dtype=bool)] ** power))


# The official files


def test_published_counts(fashion_mnist_directory: Path) -> None:
    data = reduced_fashion_mnist(fashion_mnist_directory)
    train, test = data.train_labels, data.test_labels
    assert len(train) == 3927 and round(100 * np.mean(train > 0), 2) == 8.76
    assert len(test) == 677 and round(100 * np.mean(test > 0), 2) == 10.93
    for patterns in (data.train_patterns, data.test_patterns):
        assert patterns.shape[1] == 784 and np.all(np.abs(patterns) == 1)


def test_fashion_mnist_patterns(fashion_mnist_directory: Path) -> None:
    patterns = load_patterns("fashion-mnist", directory=fashion_mnist_directory)
    assert patterns.train_patterns.shape == (500, 784)
    assert patterns.test_patterns.shape == (677, 784)
    assert patterns.constant_test_error == pytest.approx(74 / 677)
    assert patterns.name == "fashion-mnist" and "500 of 3927" in patterns.description
    # At most half of an image lies above its median.
    assert patterns.train_patterns.mean(axis=1).max() <= 0
    larger = load_patterns("fashion-mnist", size=600, directory=fashion_mnist_directory)
    np.testing.assert_array_equal(larger.train_patterns[:500], patterns.train_patterns)
    other = load_patterns("fashion-mnist", seed=1, directory=fashion_mnist_directory)
    assert np.any(other.train_patterns != patterns.train_patterns)


def test_balanced_draw_goes_as_far_as_the_rarer_class(fashion_mnist_directory: Path) -> None:
    load = partial(load_patterns, "fashion-mnist", directory=fashion_mnist_directory, balanced=True)
    labels = load().train_labels
    assert len(labels) == 500 and labels.sum() == 0
    labels = load(size=1000).train_labels
    assert len(labels) == 2 * 344 and labels.sum() == 0


def test_any_two_classes(fashion_mnist_directory: Path) -> None:
    load = partial(load_patterns, "fashion-mnist", directory=fashion_mnist_directory)
    default, turned = load(), load(classes=("Coat", "Dress"))
    np.testing.assert_array_equal(
        load(classes=("Dress", "Coat")).train_labels, default.train_labels
    )
    np.testing.assert_array_equal(turned.train_patterns, default.train_patterns)
    np.testing.assert_array_equal(turned.train_labels, -default.train_labels)
    np.testing.assert_array_equal(turned.test_labels, -default.test_labels)
    other = load(classes=("Pullover", "Shirt"))
    assert "Pullover (+1) against Shirt (−1)" in other.description
    assert "500 of 6773" in other.description and np.sum(other.test_labels > 0) == 628
    with pytest.raises(ValueError, match=r"'Sandal', of which the median filter leaves no"):
        load(classes=("Coat", "Sandal"))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("Dress", "Boot"), r"classes contains 'Boot'; two of T-shirt/top, Trouser, .* expected"),
        (("Dress", "Dress"), r"classes is \('Dress', 'Dress'\); two different ones"),
    ],
)
def test_classes_that_are_no_pair(classes: tuple[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_patterns("fashion-mnist", classes=classes)
    with pytest.raises(ValueError, match="but 'random' has no images of classes"):
        load_patterns("random", classes=classes)


def test_auto_takes_the_images_where_they_are(
    fashion_mnist_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA_VARIABLE, str(fashion_mnist_directory))
    assert load_patterns("auto").name == "fashion-mnist"
    monkeypatch.setenv(DATA_VARIABLE, str(fashion_mnist_directory.parent))
    assert load_patterns("auto").name == "fashion-mnist"


def test_hidden_manifold_is_as_correlated_as_images(fashion_mnist_directory: Path) -> None:
    pool = reduced_fashion_mnist(fashion_mnist_directory).train_patterns
    rng = np.random.default_rng(0)
    images = [rng.permutation(pool)[:500] for _ in range(4)]
    ours = [load_patterns("hidden-manifold", seed=s).train_patterns for s in range(4)]
    for measure in (mean_overlap, partial(mean_overlap, power=2), participation_ratio):
        expected = np.mean([measure(patterns) for patterns in images])
        assert np.mean([measure(patterns) for patterns in ours]) == pytest.approx(expected, rel=0.1)


# Made from a seed


@pytest.mark.parametrize("name", ["hidden-manifold", "random", "teacher"])
def test_synthetic_patterns(name: str) -> None:
    patterns = load_patterns(name, size=60, seed=4)
    assert patterns.train_patterns.shape == (60, 784) and len(patterns.test_labels) == 1000
    assert np.all(np.abs(patterns.test_patterns) == 1)
    assert patterns.name == name and "seed 4" in patterns.description
    again, larger = load_patterns(name, size=60, seed=4), load_patterns(name, size=80, seed=4)
    np.testing.assert_array_equal(again.train_patterns, patterns.train_patterns)
    np.testing.assert_array_equal(larger.train_patterns[:60], patterns.train_patterns)
    np.testing.assert_array_equal(larger.train_labels[:60], patterns.train_labels)
    np.testing.assert_array_equal(larger.test_patterns, patterns.test_patterns)
    assert np.any(load_patterns(name, size=60, seed=5).test_labels != patterns.test_labels)
    balanced = load_patterns(name, size=60, seed=4, balanced=True)
    assert len(balanced.train_labels) == 60 and balanced.train_labels.sum() == 0
    rare = 0.11 if name == "hidden-manifold" else 0.5
    assert np.mean(patterns.test_labels > 0) == pytest.approx(rare, abs=0.05)
    assert len(np.unique(patterns.train_patterns, axis=0)) == 60


@pytest.mark.parametrize("seed", [0, 1])
def test_hidden_manifold_can_be_learnt(seed: int) -> None:
    patterns = load_patterns("hidden-manifold", seed=seed)
    machine = train(patterns, "sgd-slow", restarts=2, seed=seed, workers=1)
    np.testing.assert_array_equal(machine.train_error, 0)
    assert np.all(machine.test_error < 0.6 * patterns.constant_test_error)


def test_random_patterns_are_independent() -> None:
    patterns = load_patterns("random")
    overlaps = patterns.train_patterns @ patterns.train_patterns.T / np.sqrt(784)
    np.fill_diagonal(overlaps, 0)
    assert np.mean(overlaps**2) * 500 / 499 == pytest.approx(1, abs=0.02)


# Own files


def write_small_files(folder: Path, compressed: bool = True) -> dict[str, str]:
    """Write four small IDX files and return their hashes."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    hashes = {}
    for name in NAMES:
        count = 40 if "train" in name else 20
        if "images" in name:
            # The median filter keeps images with a median of 95.
            pixels = rng.permuted(np.tile(np.r_[np.full(392, 100), np.full(392, 90)], (count, 1)))
            content = _idx(2051, (count, 28, 28)) + pixels.astype(np.uint8).tobytes()
        else:
            content = _idx(2049, (count,)) + bytes([3, 4] * (count // 2))
        if compressed:
            content = gzip.compress(content, mtime=0)
        (folder / (name if compressed else name.removesuffix(".gz"))).write_bytes(content)
        hashes[name] = hashlib.sha256(content).hexdigest()
    return hashes


def _idx(magic: int, shape: tuple[int, ...]) -> bytes:
    return np.array([magic, *shape], ">u4").tobytes()


@UNOFFICIAL
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("subfolder", ["", "fashion-mnist"])
def test_own_files(tmp_path: Path, compressed: bool, subfolder: str) -> None:
    write_small_files(tmp_path / subfolder, compressed)
    patterns = load_patterns("auto", size=20, directory=tmp_path)
    assert patterns.name == "fashion-mnist" and len(patterns.test_labels) == 20
    with pytest.raises(ValueError, match="size is 41; Fashion-MNIST has 40 training patterns"):
        load_patterns("fashion-mnist", size=41, directory=tmp_path)


def test_files_that_are_not_the_published_ones_are_named(
    tmp_path: Path, fashion_mnist_directory: Path
) -> None:
    write_small_files(tmp_path)
    with pytest.warns(UserWarning, match=r"train-images.*not the published Fashion-MNIST"):
        patterns = load_patterns("fashion-mnist", size=20, directory=tmp_path)
    assert f"NOT the published files: {NAMES[0]}, {NAMES[1]}" in patterns.description
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        official = load_patterns("fashion-mnist", directory=fashion_mnist_directory)
        for name in NAMES:  # unpacked
            content = gzip.decompress((fashion_mnist_directory / name).read_bytes())
            (tmp_path / name).unlink()
            (tmp_path / name.removesuffix(".gz")).write_bytes(content)
        unpacked = load_patterns("fashion-mnist", directory=tmp_path)
    assert unpacked.description == official.description
    np.testing.assert_array_equal(unpacked.train_patterns, official.train_patterns)


def test_binarisation() -> None:
    images = np.zeros((4, 2, 2), np.uint8)
    images[0] = [[100, 101], [99, 255]]  # kept: two pixels above the median
    images[1] = [[10, 20], [30, 40]]  # too dark
    images[2] = images[0]  # another class
    images[3] = [[64, 64], [64, 255]]  # kept: pixels equal to the median are −1
    patterns, labels = binarise(images, np.array([3, 4, 7, 4], np.uint8))
    np.testing.assert_array_equal(patterns, [[-1, 1, -1, 1], [-1, -1, -1, 1]])
    np.testing.assert_array_equal(labels, [1, -1])


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def corrupt(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[20:40] = bytes(20)
    path.write_bytes(content)


def plain_but_short(path: Path) -> None:
    path.write_bytes(gzip.decompress(path.read_bytes())[:-1])


def swap_kind(path: Path) -> None:
    path.write_bytes((path.parent / NAMES[3]).read_bytes())


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "is truncated or corrupt"),
        (corrupt, "is truncated or corrupt"),
        (plain_but_short, r"holds \d+ bytes; \d+ were expected"),
        (swap_kind, "magic number 2049; an IDX file with 2051 was expected"),
        (empty, "magic number 0; an IDX file with 2051 was expected"),
    ],
)
def test_damaged_files(tmp_path: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    write_small_files(tmp_path)
    damage(tmp_path / NAMES[0])
    for name in ("fashion-mnist", "auto"):
        with pytest.raises(ValueError, match=message) as caught:
            load_patterns(name, size=20, directory=tmp_path)
        assert str(tmp_path / NAMES[0]) in str(caught.value)
        assert "--data-dir" in str(caught.value)


def test_images_and_labels_must_fit(tmp_path: Path) -> None:
    write_small_files(tmp_path)
    labels = gzip.compress(_idx(2049, (39,)) + bytes([3] * 39))
    (tmp_path / NAMES[1]).write_bytes(labels)
    with pytest.raises(ValueError, match=r"40 images .* 39 labels"):
        load_patterns("fashion-mnist", size=20, directory=tmp_path)


def test_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataUnavailableError, match=r"directory is .*where train-images"):
        load_patterns("auto", directory=tmp_path)
    write_small_files(tmp_path)
    (tmp_path / NAMES[2]).unlink()
    with pytest.raises(DataUnavailableError, match=r"t10k-images-idx3-ubyte\.gz is missing"):
        load_patterns("fashion-mnist", size=20, directory=tmp_path)
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"WIDE_FLAT_MINIMA_DATA is .*nowhere"):
        load_patterns("auto")


# Downloads, from a local server


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


def publish_at(address: str, hashes: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    files = [PublishedFile(address + name, name, hash) for name, hash in hashes.items()]
    monkeypatch.setattr(fashion_mnist, "FILES", tuple(files))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder served at a local address. Its files count as the published ones."""
    served = tmp_path / "served"
    hashes = write_small_files(served)
    for name in NAMES:
        content = gzip.decompress((served / name).read_bytes())
        key = name.removesuffix("-ubyte.gz")
        monkeypatch.setitem(fashion_mnist.CONTENTS, key, hashlib.sha256(content).hexdigest())
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    handler = partial(QuietHandler, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        publish_at(f"http://127.0.0.1:{http.server_address[1]}/", hashes, monkeypatch)
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield served
        http.shutdown()


def cached(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())


def test_download_once(server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_patterns("auto", size=20)
    assert first.name == "fashion-mnist" and cached(tmp_path) == sorted(NAMES)
    publish_at("http://127.0.0.1:9/", {f.name: f.sha256 for f in fashion_mnist.FILES}, monkeypatch)
    again = load_patterns("fashion-mnist", size=20)
    np.testing.assert_array_equal(first.train_patterns, again.train_patterns)


def test_a_wrong_or_cut_download_leaves_nothing(server: Path, tmp_path: Path) -> None:
    truncate(server / NAMES[0])
    with pytest.raises(DataUnavailableError, match=rf"{NAMES[0]} could not be downloaded .*hash"):
        load_patterns("fashion-mnist", size=20)
    assert cached(tmp_path) == []


def test_a_damaged_file_in_the_cache_is_fetched_again(server: Path, tmp_path: Path) -> None:
    load_patterns("fashion-mnist", size=20)
    truncate(tmp_path / "cache" / "fashion-mnist" / NAMES[0])
    assert load_patterns("fashion-mnist", size=20).name == "fashion-mnist"


def test_a_missing_file_on_the_server(server: Path) -> None:
    (server / NAMES[1]).unlink()
    with pytest.raises(DataUnavailableError, match=r"train-labels.* could not be .*404"):
        load_patterns("fashion-mnist", size=20)


def test_offline_auto_is_the_hidden_manifold_and_says_so(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:  # a port without a server
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    hashes = {file.name: file.sha256 for file in fashion_mnist.FILES}
    publish_at(f"http://127.0.0.1:{port}/", hashes, monkeypatch)
    patterns = load_patterns("auto", size=20)
    assert patterns.name == "hidden-manifold" and len(patterns.train_labels) == 20
    assert "Fashion-MNIST could not be had" in patterns.description
    with pytest.raises(DataUnavailableError, match="--data hidden-manifold"):
        load_patterns("fashion-mnist", size=20)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "mnist"}, "name is 'mnist'; one of auto, fashion-mnist, hidden-manifold"),
        ({"name": "random", "size": 0}, "size is 0"),
        ({"name": "random", "seed": -1}, "seed is -1"),
        ({"name": "random", "size": 5, "balanced": True}, "size is 5; an even number"),
        ({"name": "random", "directory": "here"}, "'random' reads no files"),
    ],
)
def test_bad_input(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_patterns(**arguments)


# Arrays of your own


def test_own_arrays() -> None:
    X, y = np.array([[1, -1, 1], [1, 1, -1]]), [1, -1]
    patterns = PatternSet.from_arrays(X, y, X[:1], y[:1], name="mine")
    assert patterns.train_patterns.dtype == np.float64 and patterns.name == "mine"
    assert patterns.description == "mine: 2 training patterns of 3 inputs, 1 test patterns"
    assert repr(patterns) == "PatternSet('mine', P=2, N=3, 1 test patterns)"
    table = patterns.to_frame()
    assert table["split"].tolist() == ["train", "train", "test"] and table[2].tolist() == [1, -1, 1]
    alone = PatternSet.from_arrays(X, y)
    assert np.isnan(alone.constant_test_error) and alone.test_patterns.shape == (0, 3)
    machines = train(alone, restarts=1, hidden_units=3, max_epochs=50, workers=1)
    assert np.isnan(machines.test_error[0]) and np.isfinite(machines.train_error[0])


@pytest.mark.parametrize("image", [True, False])
def test_patterns_are_drawn(image: bool) -> None:
    N = 16 if image else 15
    X = np.where(np.random.default_rng(0).random((5, N)) < 0.5, 1.0, -1.0)
    ax = PatternSet.from_arrays(X, np.sign(X[:, 0])).plot()
    drawn = ax.images[0].get_array()
    assert drawn.shape == ((4, 20) if image else (5, 15))
    if image:
        np.testing.assert_array_equal(drawn[:, 4:8], X[1].reshape(4, 4))


ZERO_ONE = np.array([[0.0, 1.0], [1.0, 1.0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ZERO_ONE, [1, -1]), r"train_patterns contains 0 and 1 only; -1 and \+1 were expected"),
        ((ZERO_ONE - 0.5, [0, 1]), "train_labels contains 0; only"),
        ((ZERO_ONE - 0.5, [1, -1, 1]), r"train_labels has shape \(3,\)"),
        ((ZERO_ONE - 0.5, [1, -1], ZERO_ONE - 0.5), "y_test is None, but X_test is given"),
        ((ZERO_ONE - 0.5, [1, -1], np.ones((1, 3)), [1]), "test_patterns has N = 3 inputs"),
        ((ZERO_ONE - 0.5, [1, -1], ZERO_ONE, [1, 1]), "test_patterns contains 0 and 1 only"),
    ],
)
def test_bad_arrays(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PatternSet.from_arrays(*arguments)


def test_zero_one_patterns_where_they_are_meant() -> None:
    patterns = PatternSet.from_arrays(ZERO_ONE, [1, -1], zero_one=True)
    np.testing.assert_array_equal(patterns.train_patterns, ZERO_ONE)


def test_arrays_in_place_of_a_pattern_set_are_refused_with_advice() -> None:
    with pytest.raises(ValueError, match=r"ndarray; a PatternSet was.*from_arrays\(X, y\)"):
        train(np.ones((3, 2)), np.ones(3))  # type: ignore[arg-type]
