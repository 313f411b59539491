"""Augmentation policies: AutoAugment's for CIFAR-10, and lists of sub-policies in files.

A policy is a list of sub-policies. One of them is drawn for each image. Its operations are applied
in order, each with its own probability. Moves have a random direction.
"""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deep.images.operations import CODES, operate
from message_passing.tools.downloads import PublishedFile, find_files
from message_passing.tools.validation import check

# Ranges of the magnitudes in the files of Fast AutoAugment (Lim et al., 2019), levels 0 to 1.
RANGES = {
    **dict.fromkeys(("ShearX", "ShearY"), (-0.3, 0.3)),
    **dict.fromkeys(("TranslateX", "TranslateY"), (-0.45, 0.45)),
    "Rotate": (-30.0, 30.0),
    **dict.fromkeys(("AutoContrast", "Invert", "Equalize"), (0.0, 1.0)),
    "Solarize": (0.0, 256.0),
    "Posterize": (4.0, 8.0),
    **dict.fromkeys(("Contrast", "Color", "Brightness", "Sharpness"), (0.1, 1.9)),
    "Cutout": (0.0, 0.2),
}
MOVES = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")

# The 25 sub-policies found on CIFAR-10 (Cubuk et al., 2018, Table 7): operation, probability,
# level from 0 to 9.
AUTOAUGMENT_CIFAR10 = (
    (("Invert", 0.1, 7), ("Contrast", 0.2, 6)),
    (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5, 8), ("Equalize", 0.9, 2)),
    (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6, 5), ("Equalize", 0.5, 1)),
    (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    (("Equalize", 0.3, 7), ("AutoContrast", 0.4, 8)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0, 3)),
    (("Equalize", 0.2, 0), ("AutoContrast", 0.6, 0)),
    (("Equalize", 0.2, 8), ("Equalize", 0.6, 4)),
    (("Color", 0.9, 9), ("Equalize", 0.6, 6)),
    (("AutoContrast", 0.8, 4), ("Solarize", 0.2, 8)),
    (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9, 3)),
    (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9, 2), ("Solarize", 0.8, 3)),
    (("Equalize", 0.8, 8), ("Invert", 0.1, 3)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 1)),
)

# The policies of Lim et al. (2019), in the file published by the authors.
FAST_AUTOAUGMENT = PublishedFile(
    "https://raw.githubusercontent.com/kakaobrain/fast-autoaugment/"
    "2424224291616a2158a2265069ee95a78a2d13d9/FastAutoAugment/archive.py",
    "fast-autoaugment-archive.py",
    "b0bbb32853252f7273838cac3017833a4acb3cf06e0f6f6c5f89dfcfa549d723",
)
# Functions of this file, by the name of the policy.
ARCHIVED = {
    "fast-autoaugment-imagenet": "fa_resnet50_rimagenet",
    "fast-autoaugment-cifar10": "fa_reduced_cifar10",
    "fast-autoaugment-svhn": "fa_reduced_svhn",
}


@dataclass(frozen=True)
class Step:
    """An operation of ``deep.images.operations``, its probability and its magnitude."""

    operation: str
    probability: float
    magnitude: float

    def __post_init__(self) -> None:
        check("operation", self.operation, self.operation in CODES, f"one of {[*CODES]}")
        chance = self.probability
        check(f"probability of {self.operation}", chance, 0 <= chance <= 1, "a number in [0, 1]")


@dataclass(frozen=True)
class Policy:
    """A list of sub-policies; one is drawn for each image."""

    subpolicies: tuple[tuple[Step, ...], ...]

    def __post_init__(self) -> None:
        if not self.subpolicies or not all(self.subpolicies):
            raise ValueError(
                "subpolicies is empty or holds an empty one; at least one operation was expected."
            )

    def on(self, device: torch.device | str) -> PolicyOnDevice:
        """The policy as tensors on a device."""
        return PolicyOnDevice(self, device)


class PolicyOnDevice:
    """A policy as tensors (sub-policy, step), so that no number has to leave the device."""

    def __init__(self, policy: Policy, device: torch.device | str) -> None:
        self.length = max(len(steps) for steps in policy.subpolicies)
        nothing = Step("Identity", 0.0, 0.0)
        padded = [[*s, *[nothing] * (self.length - len(s))] for s in policy.subpolicies]
        self.codes = torch.tensor([[CODES[s.operation] for s in row] for row in padded]).to(device)
        mirrored = [[s.operation in MOVES for s in row] for row in padded]
        self.mirrored = torch.tensor(mirrored).to(device)
        numbers = [[(s.probability, s.magnitude) for s in row] for row in padded]
        values = torch.tensor(numbers, dtype=torch.float64).to(device)
        self.probabilities, self.magnitudes = values.unbind(2)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images (B, 3, H, W) in uint8 after their operations, drawn from ``generator``."""
        count, device = len(images), images.device
        chosen = torch.randint(len(self.codes), (count,), generator=generator, device=device)
        for step in range(self.length):
            draws = torch.rand((4, count), generator=generator, device=device)
            applied = draws[0] < self.probabilities[chosen, step]
            reversed_ = self.mirrored[chosen, step] & (draws[1] < 0.5)
            magnitudes = self.magnitudes[chosen, step]
            images = operate(
                images,
                torch.where(applied, self.codes[chosen, step], CODES["Identity"]),
                torch.where(reversed_, -magnitudes, magnitudes),
                draws[2:].T,
            )
        return images


def load_policy(name: str) -> Policy:
    """A policy by name, or from the path of a policy file.

    The names are "autoaugment-cifar10" and the keys of ``ARCHIVED``: Fast AutoAugment's policies.
    Their published file is found like a data set, or downloaded, and checked. It is parsed, not
    executed. A policy file is JSON in the same format: a list of sub-policies, each a list of
    [operation, probability, level] with levels from 0 to 1 in ``RANGES``.

    Raises ``ValueError`` for an unknown name and for a malformed file, and
    ``DataUnavailableError`` if the published file cannot be found or downloaded.
    """
    if name == "autoaugment-cifar10":
        return autoaugment_cifar10()
    if name in ARCHIVED:
        path = find_files([FAST_AUTOAUGMENT]) / FAST_AUTOAUGMENT.name
        return _from_levels(_archived_list(path, ARCHIVED[name]), f"{ARCHIVED[name]} of {path}")
    path = Path(name)
    expected = f"one of {['autoaugment-cifar10', *ARCHIVED]} or the path of a policy file"
    check("policy", name, path.is_file(), expected)
    try:
        content = json.loads(path.read_text())
    except ValueError as error:  # not JSON, or not text
        raise ValueError(f"{path} cannot be read as a policy file: {error}.") from error
    return _from_levels(content, str(path))


def autoaugment_cifar10() -> Policy:
    """AutoAugment's policy for CIFAR-10 with the magnitudes of its authors' published code.

    The magnitudes of level l, with x = l/10, are 0.3x (shears), 10x of 32 pixels (translations;
    the same fraction of larger images), 30x degrees (rotation), 0.1 + 1.8x (Color, Contrast,
    Brightness, Sharpness), 256 − 256x (Solarize), and 4 − 4x bits (Posterize; the paper starts at
    8). 30x, 256x and 4x are rounded towards zero.
    """

    def step(name: str, probability: float, level: int) -> Step:
        factor = 0.1 + 1.8 * level / 10
        magnitude = {
            **dict.fromkeys(("ShearX", "ShearY"), 0.3 * level / 10),
            **dict.fromkeys(("TranslateX", "TranslateY"), level / 32),
            "Rotate": int(30 * level / 10),
            "Solarize": 256 - int(256 * level / 10),
            "Posterize": 4 - int(4 * level / 10),
            **dict.fromkeys(("Color", "Contrast", "Brightness", "Sharpness"), factor),
        }
        return Step(name, probability, magnitude.get(name, 0.0))

    return Policy(tuple(tuple(step(*entry) for entry in s) for s in AUTOAUGMENT_CIFAR10))


def _from_levels(content: Any, source: str) -> Policy:
    """A policy from a list in Fast AutoAugment's format; levels become magnitudes."""
    if not (isinstance(content, list | tuple) and content):
        raise ValueError(f"{source} holds no list of sub-policies.")
    subpolicies = []
    for number, entry in enumerate(content):
        try:
            steps = tuple(_step(str(n), float(chance), float(level)) for n, chance, level in entry)
            check("its length", len(steps), len(steps) > 0, "at least one operation")
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"sub-policy {number} of {source} is {entry!r}; a list of [operation, probability, "
                f"level] was expected ({error})."
            ) from error
        subpolicies.append(steps)
    return Policy(tuple(subpolicies))


def _step(name: str, probability: float, level: float) -> Step:
    check("operation", name, name in RANGES, f"one of {[*RANGES]}")
    check(f"level of {name}", level, 0 <= level <= 1, "a number in [0, 1]")
    low, high = RANGES[name]
    return Step(name, probability, low + level * (high - low))


def _archived_list(path: Path, function: str) -> Any:
    """The list that a function of the published file assigns, parsed as a literal."""
    try:
        tree = ast.parse(path.read_text())
    except (SyntaxError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read as Fast AutoAugment's archive: {error}."
        ) from error
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            for line in node.body:
                if isinstance(line, ast.Assign):
                    try:
                        return ast.literal_eval(line.value)
                    except ValueError as error:
                        raise ValueError(f"{function} of {path} is no literal list.") from error
    raise ValueError(f"{path} has no function {function} with a list in it.")
