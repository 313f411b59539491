"""A user's own network from files: what is accepted, and the errors otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from message_passing.networks import load_network
from tests.message_passing.machines import random_machine

WEIGHTS, PATTERNS, LABELS = random_machine(3, 11, 6, seed=0)


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.fixture
def patterns_file(tmp_path):
    return save(tmp_path / "patterns.npz", patterns=PATTERNS, labels=LABELS)


@pytest.mark.parametrize(
    "arrays", [{"weights": WEIGHTS, "loss": np.zeros(2)}, {"anything": WEIGHTS}]
)
def test_weights_by_name_or_the_only_array(tmp_path, patterns_file, arrays):
    network = load_network(save(tmp_path / "weights.npz", **arrays), patterns_file)
    np.testing.assert_array_equal(network.weights, WEIGHTS[None])
    np.testing.assert_array_equal(network.patterns, PATTERNS)
    np.testing.assert_array_equal(network.labels, LABELS)
    assert network.size == "1 machine, K=3, N=11, P=6"


def test_several_machines_and_patterns_as_this_package_stores_them(tmp_path):
    both = save(
        tmp_path / "both.npz",
        weights=np.stack([WEIGHTS, -WEIGHTS]).astype(np.float32),
        train_patterns=PATTERNS.astype(np.int8),
        train_labels=LABELS.astype(np.int8),
    )
    network = load_network(both)
    assert network.weights.shape == (2, 3, 11) and network.patterns.dtype == np.float64
    np.testing.assert_array_equal(network.labels, LABELS)


def test_npy_weights(tmp_path, patterns_file):
    np.save(tmp_path / "weights.npy", WEIGHTS)
    network = load_network(tmp_path / "weights.npy", patterns_file)
    np.testing.assert_array_equal(network.weights[0], WEIGHTS)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"a": WEIGHTS, "b": WEIGHTS}, r"\[a, b\]; one called weights"),
        ({"weights": WEIGHTS[:2]}, "K = 2 hidden units; an odd number"),
        ({"weights": WEIGHTS[0]}, r"shape \(11,\); \(K, N\) was expected"),
        ({"weights": WEIGHTS[None, None]}, r"\(K, N\) or \(R, K, N\) was expected"),
        ({"weights": np.zeros((0, 3, 11))}, r"\(K, N\) or \(R, K, N\) was expected"),
        ({"weights": np.where(WEIGHTS > 1, np.nan, WEIGHTS)}, "contains nan at index"),
        ({"weights": WEIGHTS[:, :-1]}, "patterns has N = 11 inputs per pattern; the weights .* 10"),
        ({"weights": np.array([["a", "b"]])}, "could not convert string"),
    ],
)
def test_weights_that_cannot_be_used(tmp_path, patterns_file, arrays, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_network(save(tmp_path / "weights.npz", **arrays), patterns_file)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"patterns": PATTERNS}, r"\[patterns\]; patterns and labels"),
        ({"patterns": PATTERNS, "labels": LABELS[:-1]}, r"labels has shape \(5,\); \(6,\)"),
        ({"patterns": PATTERNS, "labels": (LABELS + 1) / 2}, "only \\+1 and -1 are labels"),
        ({"patterns": PATTERNS[0], "labels": LABELS}, r"patterns has shape \(11,\)"),
    ],
)
def test_patterns_that_cannot_be_used(tmp_path, arrays, sentence):
    weights = save(tmp_path / "weights.npz", weights=WEIGHTS)
    patterns = save(tmp_path / "patterns.npz", **arrays)
    with pytest.raises(ValueError, match=f"patterns.npz.*{sentence}"):
        load_network(weights, patterns)


def test_files_that_cannot_be_read(tmp_path, patterns_file):
    with pytest.raises(ValueError, match=r"nowhere\.npz does not exist"):
        load_network(tmp_path / "nowhere.npz", patterns_file)
    whole = patterns_file.read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.npz").write_text("not numbers")
    np.savez(tmp_path / "objects.npz", weights=np.array([{}, None]))
    for name in ("cut.npz", "text.npz", "objects.npz"):
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            load_network(tmp_path / name, patterns_file)
    with pytest.raises(ValueError, match="Give the file of the patterns with --patterns"):
        load_network(save(tmp_path / "weights.npz", weights=WEIGHTS))
