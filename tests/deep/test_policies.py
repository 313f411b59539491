"""Augmentation policies: published numbers, policy files, every draw against Pillow."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from deep.images.operations import OPERATIONS
from deep.images.policies import AUTOAUGMENT_CIFAR10, MOVES, Policy, Step, load_policy
from tests.reference.image_operations import operate_with_pillow

ARCHIVE = """
from collections import defaultdict
raise RuntimeError("this file must not be executed")

@no_duplicates
def fa_reduced_cifar10():
    p = [[["Contrast", 0.8, 0.5], ["TranslateX", 0.4, 0.25]], [["Posterize", 1.0, 0.0]]]
    return p

def fa_resnet50_rimagenet():
    p = [[["ShearY", 0.125, 1.0], ["Cutout", 0.5, 0.75]]]
    return p

def fa_reduced_svhn():
    p = policy_decoder(1)
    return p
"""


def test_the_published_policy_of_autoaugment():
    """It has 25 pairs. Some are checked in pixels, degrees, bits and factors."""
    assert len(AUTOAUGMENT_CIFAR10) == 25 and {len(s) for s in AUTOAUGMENT_CIFAR10} == {2}
    policy = load_policy("autoaugment-cifar10")
    assert policy.subpolicies[0] == (
        Step("Invert", 0.1, 0.0), Step("Contrast", 0.2, pytest.approx(1.18)),
    )  # fmt: skip
    assert policy.subpolicies[1] == (Step("Rotate", 0.7, 6), Step("TranslateX", 0.3, 9 / 32))
    assert policy.subpolicies[5] == (
        Step("ShearY", 0.2, pytest.approx(0.21)), Step("Posterize", 0.3, 2),
    )  # fmt: skip
    assert policy.subpolicies[14][0] == Step("Solarize", 0.5, 256 - 51)
    assert policy.subpolicies[19][1] == Step("Color", 0.7, pytest.approx(0.1))


def on_cpu(*subpolicies):
    return Policy(tuple(subpolicies)).on("cpu")


def noise(count, size=32, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(256, size=(count, 3, size, size), dtype=np.uint8))


def test_every_image_gets_what_pillow_makes_of_its_own_draws():
    """The test repeats the draws and applies them one by one with Pillow."""
    policy = load_policy("autoaugment-cifar10")
    images = noise(300)
    results = policy.on("cpu")(images, torch.Generator().manual_seed(3)).numpy()
    generator = torch.Generator().manual_seed(3)
    chosen = torch.randint(25, (300,), generator=generator).tolist()
    draws = [torch.rand((4, 300), generator=generator).tolist() for _ in range(2)]
    changed = 0
    for n, image in enumerate(images.numpy()):
        expected = image
        for step, (probability, direction, *_) in zip(
            policy.subpolicies[chosen[n]], draws, strict=True
        ):
            if probability[n] < step.probability:
                sign = -1 if step.operation in MOVES and direction[n] < 0.5 else 1
                expected = operate_with_pillow(expected, step.operation, sign * step.magnitude)
        np.testing.assert_array_equal(results[n], expected)
        changed += not np.array_equal(expected, image)
    assert set(chosen) == set(range(25)) and 150 < changed < 300


def test_how_often_things_happen():
    """Sub-policies, steps and directions occur with their probabilities (5 standard errors)."""
    image = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(3000, 3, 8, 8)
    policy = on_cpu((Step("TranslateX", 0.6, 0.25),), (Step("Invert", 0.9, 0.0),))
    results = policy(image, torch.Generator().manual_seed(4))
    cases = {
        "none": (image[0], 0.5 * 0.4 + 0.5 * 0.1),
        "left": (torch.nn.functional.pad(image[0, :, :, 2:], (0, 2)), 0.5 * 0.6 * 0.5),
        "right": (torch.nn.functional.pad(image[0, :, :, :-2], (2, 0)), 0.5 * 0.6 * 0.5),
        "inverted": (255 - image[0], 0.5 * 0.9),
    }
    total = 0
    for name, (expected, probability) in cases.items():
        count = int((results == expected).flatten(1).all(1).sum())
        assert abs(count - 3000 * probability) < 5 * (3000 * probability) ** 0.5, name
        total += count
    assert total == 3000


def test_policies_follow_their_seed_and_leave_the_images_alone():
    images = noise(50)
    before = images.clone()
    policy = load_policy("autoaugment-cifar10").on("cpu")
    one, two, other = (policy(images, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert torch.equal(images, before) and one.dtype == torch.uint8


def test_policy_files(tmp_path):
    """Levels 0 to 1 span the published ranges, and sub-policies may differ in length."""
    path = tmp_path / "policy.json"
    path.write_text(json.dumps([[["Rotate", 0.3, 0.75]], [["Invert", 1, 0], ["Color", 0.5, 1.0]]]))
    policy = load_policy(str(path))
    assert policy.subpolicies == (
        (Step("Rotate", 0.3, 15.0),),
        (Step("Invert", 1.0, 0.0), Step("Color", 0.5, 1.9)),
    )
    images = noise(40, 8)
    results = policy.on("cpu")(images, torch.Generator().manual_seed(0))
    assert not torch.equal(results, images)


def test_the_archive_of_fast_autoaugment_is_read_and_not_executed(tmp_path, monkeypatch):
    (tmp_path / "fast-autoaugment-archive.py").write_text(ARCHIVE)
    monkeypatch.setenv("WIDE_FLAT_MINIMA_DATA", str(tmp_path))
    assert load_policy("fast-autoaugment-cifar10").subpolicies == (
        (Step("Contrast", 0.8, pytest.approx(1.0)), Step("TranslateX", 0.4, pytest.approx(-0.225))),
        (Step("Posterize", 1.0, 4.0),),
    )
    (imagenet,) = load_policy("fast-autoaugment-imagenet").subpolicies
    assert imagenet == (Step("ShearY", 0.125, 0.3), Step("Cutout", 0.5, pytest.approx(0.15)))
    with pytest.raises(ValueError, match=r"fa_reduced_svhn of .* is no literal list"):
        load_policy("fast-autoaugment-svhn")
    (tmp_path / "fast-autoaugment-archive.py").write_text("def other():\n    p = []\n")
    with pytest.raises(ValueError, match="has no function fa_reduced_cifar10"):
        load_policy("fast-autoaugment-cifar10")
    (tmp_path / "fast-autoaugment-archive.py").write_text("<html>")
    with pytest.raises(ValueError, match="cannot be read as Fast AutoAugment's archive"):
        load_policy("fast-autoaugment-cifar10")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "cannot be read as a policy file"),
        ("{}", "holds no list of sub-policies"),
        ("[]", "holds no list of sub-policies"),
        ("[[]]", r"sub-policy 0 .* a list of \[operation"),
        ('[[["Rotate", 0.5]]]', r"\[operation, probability, level\] was expected"),
        ('[[["Rotate", "often", 0.5]]]', r"\[operation, probability, level\] was expected"),
        ('[[["Spin", 0.5, 0.5]]]', "operation is 'Spin'; one of"),
        ('[[["Rotate", 1.5, 0.5]]]', "probability of Rotate is 1.5"),
        ('[[["Rotate", 0.5, 7]]]', "level of Rotate is 7.0"),
    ],
)
def test_bad_policy_files(tmp_path, content, message):
    path = tmp_path / "policy.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        load_policy(str(path))


def test_bad_policies():
    with pytest.raises(ValueError, match="policy is 'autoaugment'; one of"):
        load_policy("autoaugment")
    with pytest.raises(ValueError, match="subpolicies is empty or holds an empty one"):
        Policy(())
    assert {name for s in AUTOAUGMENT_CIFAR10 for name, _, _ in s} <= set(OPERATIONS)
