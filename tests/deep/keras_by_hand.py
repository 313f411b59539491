"""Keras' layers in plain numpy, channels last, pixel by pixel: a twin of the torch networks."""

from __future__ import annotations

import math

import numpy as np


def windows(x, size, stride, padding):
    """Yield (row, column, window) for TensorFlow's "valid" or "same". Pixels outside are NaN."""
    starts, counts = [], []
    for n, reach, s in zip(x.shape[1:3], size, stride, strict=True):
        if padding == "same":
            count = math.ceil(n / s)
            missing = max((count - 1) * s + reach - n, 0)
            before = missing // 2  # an odd pixel goes to the end
        else:
            count, before = math.ceil((n - reach + 1) / s), 0
        starts.append([i * s - before for i in range(count)])
        counts.append(count)
    for i, top in enumerate(starts[0]):
        for j, left in enumerate(starts[1]):
            window = np.full((len(x), *size, x.shape[3]), np.nan)
            for a in range(size[0]):
                for b in range(size[1]):
                    row, column = top + a, left + b
                    if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                        window[:, a, b] = x[:, row, column]
            yield i, j, window


def gathered(x, size, stride, padding, of_window):
    """The image with the value of ``of_window`` for each window."""
    found = {(i, j): of_window(w) for i, j, w in windows(x, size, stride, padding)}
    rows, columns = (max(index) + 1 for index in zip(*found, strict=True))
    return np.stack([np.stack([found[i, j] for j in range(columns)], 1) for i in range(rows)], 1)


def activate(x, name):
    if name in (None, "linear"):
        return x
    if name == "softmax":
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)
    assert name == "relu"
    return np.maximum(x, 0)


def pair(value):
    return tuple(int(v) for v in value) if isinstance(value, list | tuple) else (int(value),) * 2


def forward(layers, weights, x):
    """Outputs of the network for images (P, H, W, C), in double precision."""
    x = x.astype(np.float64)
    left = iter(weights)
    for layer in layers:
        name, padding = layer["layer_name"], layer.get("padding", "valid")
        if name == "Conv2D":
            own = next(left)
            kernel = own["kernel"].astype(np.float64)
            x = gathered(
                x, kernel.shape[:2], pair(layer.get("strides", 1)), padding,
                lambda w, kernel=kernel: np.einsum("phwi,hwio->po", np.nan_to_num(w), kernel),
            ) + own.get("bias", 0)  # fmt: skip
            x = activate(x, layer.get("activation"))
        elif name == "Dense":
            own = next(left)
            x = activate(x @ own["kernel"] + own.get("bias", 0), layer.get("activation"))
        elif name == "BatchNormalization":
            own = next(left)
            scale = own["gamma"] / np.sqrt(own["moving_variance"] + layer.get("epsilon", 1e-3))
            x = (x - own["moving_mean"]) * scale + own["beta"]
        elif name == "MaxPooling2D":
            size = pair(layer.get("pool_size", 2))
            stride = pair(layer.get("strides") or size)
            x = gathered(x, size, stride, padding, lambda w: np.nanmax(w, axis=(1, 2)))
        elif name == "GlobalAveragePooling2D":
            x = x.mean(axis=(1, 2))
        elif name == "Flatten":
            x = x.reshape(len(x), -1)
        elif name in ("Activation", "ReLU", "Softmax"):
            x = activate(x, layer.get("activation", name.lower()))
        else:
            assert name == "Dropout"
    return x
