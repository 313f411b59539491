"""Augmentation policies: AutoAugment's for CIFAR-10, and lists of sub-policies in files.

A policy is a list of sub-policies. For each image one of them is drawn; its operations are then
applied in order, each with its probability, and the moves in a random direction.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deep.images.operations import CODES, operate
from message_passing.tools.downloads import PublishedFile, find_files

# Ranges of the magnitudes in the files of Fast AutoAugment (Lim et al., 2019), levels 0 to 1.
RANGES = {
    "ShearX": (-0.3, 0.3),
    "ShearY": (-0.3, 0.3),
    "TranslateX": (-0.45, 0.45),
    "TranslateY": (-0.45, 0.45),
    "Rotate": (-30.0, 30.0),
    "AutoContrast": (0.0, 1.0),
    "Invert": (0.0, 1.0),
    "Equalize": (0.0, 1.0),
    "Solarize": (0.0, 256.0),
    "Posterize": (4.0, 8.0),
    "Contrast": (0.1, 1.9),
    "Color": (0.1, 1.9),
    "Brightness": (0.1, 1.9),
    "Sharpness": (0.1, 1.9),
    "Cutout": (0.0, 0.2),
}
MOVES = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")

# The 25 sub-policies found on CIFAR-10 (Cubuk et al., 2018, Table 7): operation, probability,
# level 0 to 9.
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


# The policies that Lim et al. (2019) found, as their authors published them.
FAST_AUTOAUGMENT = PublishedFile(
    "https://raw.githubusercontent.com/kakaobrain/fast-autoaugment/"
    "2424224291616a2158a2265069ee95a78a2d13d9/FastAutoAugment/archive.py",
    "fast-autoaugment-archive.py",
    "b0bbb32853252f7273838cac3017833a4acb3cf06e0f6f6c5f89dfcfa549d723",
)
# Its functions, by the name of the policy.
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


@dataclass(frozen=True)
class Policy:
    """Sub-policies, one of which is drawn for each image; called with a batch of them."""

    subpolicies: tuple[tuple[Step, ...], ...]

    def __post_init__(self) -> None:
        if not self.subpolicies or not all(self.subpolicies):
            raise ValueError("subpolicies is, or holds one that is, empty; operations expected.")
        for step in (step for steps in self.subpolicies for step in steps):
            if step.operation not in CODES:
                raise ValueError(
                    f"operation is {step.operation!r}; one of {list(CODES)} was expected."
                )
            if not 0 <= step.probability <= 1:
                raise ValueError(
                    f"probability of {step.operation} is {step.probability}; "
                    "a number in [0, 1] was expected."
                )

    def on(self, device: torch.device | str) -> PolicyOnDevice:
        """The policy as tensors on a device."""
        return PolicyOnDevice(self, device)


class PolicyOnDevice:
    """A policy as tensors (sub-policy, step), so that no number has to leave the device."""

    def __init__(self, policy: Policy, device: torch.device | str) -> None:
        length = max(len(steps) for steps in policy.subpolicies)
        nothing = Step("Identity", 0.0, 0.0)
        padded = [[*steps, *[nothing] * (length - len(steps))] for steps in policy.subpolicies]
        self.length = length
        self.codes = torch.tensor([[CODES[s.operation] for s in row] for row in padded]).to(device)
        self.mirrored = torch.tensor([[s.operation in MOVES for s in row] for row in padded])
        self.mirrored = self.mirrored.to(device)
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
    """``"autoaugment-cifar10"``, ``"fast-autoaugment-imagenet"``, or the path of a policy file.

    A policy file is JSON in the format of Fast AutoAugment: a list of sub-policies, which are
    lists of [operation, probability, level] with levels from 0 to 1 in ``RANGES``. Fast
    AutoAugment's own policies are read from its published ``archive.py``, which is looked for
    like the data sets, then downloaded and checked (SHA-256); no line of it is executed.

    Raises ``ValueError`` for an unknown name and for a file that is not what it should be.
    """
    if name == "autoaugment-cifar10":
        return autoaugment_cifar10()
    if name in ARCHIVED:
        path = find_files([FAST_AUTOAUGMENT]) / FAST_AUTOAUGMENT.name
        return _from_levels(_archived_list(path, ARCHIVED[name]), f"{ARCHIVED[name]} of {path}")
    path = Path(name)
    if not path.is_file():
        raise ValueError(
            f"policy is {name!r}; one of {['autoaugment-cifar10', *ARCHIVED]} or the path of a "
            "policy file was expected."
        )
    try:
        content = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as a policy file: {error}.") from error
    return _from_levels(content, str(path))


def autoaugment_cifar10() -> Policy:
    """AutoAugment's policy for CIFAR-10 with the magnitudes of its authors' published code.

    Level l is l/10 of: 0.3 (shears), 10 of 32 pixels (translations; the same fraction of larger
    images), 30° (rotation), 1.8 from 0.1 on (Color, Contrast, Brightness, Sharpness), 256 down
    from 256 (Solarize), 4 bits down from 4 (Posterize; the paper says from 8). The whole
    part is taken of pixels, degrees, thresholds and bits.
    """

    def magnitude(operation: str, level: int) -> float:
        match operation:
            case "ShearX" | "ShearY":
                return 0.3 * level / 10
            case "TranslateX" | "TranslateY":
                return int(10 * level / 10) / 32
            case "Rotate":
                return int(30 * level / 10)
            case "Solarize":
                return 256 - int(256 * level / 10)
            case "Posterize":
                return 4 - int(4 * level / 10)
            case "Color" | "Contrast" | "Brightness" | "Sharpness":
                return 0.1 + 1.8 * level / 10
        return 0.0

    return Policy(
        tuple(
            tuple(Step(name, probability, magnitude(name, level)) for name, probability, level in s)
            for s in AUTOAUGMENT_CIFAR10
        )
    )


def _from_levels(content: Any, source: str) -> Policy:
    """Check a list in Fast AutoAugment's format and turn levels into magnitudes."""
    if not (isinstance(content, list | tuple) and content):
        raise ValueError(f"{source} holds no list of sub-policies.")
    subpolicies = []
    for number, entry in enumerate(content):
        if not (isinstance(entry, list | tuple) and entry):
            raise ValueError(f"sub-policy {number} of {source} is {entry!r}; a list was expected.")
        subpolicies.append(tuple(_step(step, number, source) for step in entry))
    return Policy(tuple(subpolicies))


def _step(step: Any, number: int, source: str) -> Step:
    where = f"sub-policy {number} of {source}"
    if not (isinstance(step, Sequence) and len(step) == 3 and isinstance(step[0], str)):
        raise ValueError(f"{where} has {step!r}; [operation, probability, level] was expected.")
    name, probability, level = step
    if name not in RANGES:
        raise ValueError(f"{where} has the operation {name!r}; one of {list(RANGES)} was expected.")
    for kind, value in (("probability", probability), ("level", level)):
        if not (isinstance(value, int | float) and 0 <= value <= 1):
            raise ValueError(f"{where}: {kind} of {name} is {value!r}; in [0, 1] was expected.")
    low, high = RANGES[name]
    return Step(name, float(probability), low + level * (high - low))


def _archived_list(path: Path, function: str) -> Any:
    """The list that a function of the archive assigns, read as a literal."""
    try:
        tree = ast.parse(path.read_text())
    except (SyntaxError, ValueError, UnicodeDecodeError) as error:
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
