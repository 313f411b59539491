"""Keras' sequential networks in torch: layers from their description, weights from HDF5.

Keras stores images as (P, H, W, C), torch as (P, C, H, W). Kernels (H, W, in, out) become
(out, in, H, W), and ``Flatten`` puts the channels last before it flattens.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from message_passing.tools.validation import check

# Names, and arguments that matter only for training.
LEFT_OUT = (
    "layer_name", "name", "trainable", "dtype", "momentum", "input_shape", "batch_input_shape",
)  # fmt: skip
LEFT_OUT_ENDS = ("_initializer", "_regularizer", "_constraint")


class SamePadding(nn.Module):
    """TensorFlow's padding "same": ⌈size/stride⌉ outputs, the odd pixel at the far side."""

    def __init__(self, reach: Sequence[int], stride: Sequence[int], value: float) -> None:
        super().__init__()
        self.reach, self.stride, self.value = tuple(reach), tuple(stride), value

    def forward(self, x: Tensor) -> Tensor:
        """Images (P, C, H, W), padded with ``value``."""
        margins: list[int] = []
        for size, reach, stride in zip(x.shape[2:], self.reach, self.stride, strict=True):
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
            margins = [total // 2, total - total // 2, *margins]  # the last axis comes first
        return nn.functional.pad(x, margins, value=self.value)


class ChannelsLastFlatten(nn.Module):
    """(P, C, H, W) to (P, HWC), in the order of Keras."""

    def forward(self, x: Tensor) -> Tensor:
        """Takes images or vectors; vectors are unchanged."""
        return x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x.flatten(1)


# Each function takes a layer's input and Keras' arguments. Unknown ones raise TypeError.


def conv2d(
    x: Tensor, filters: float, kernel_size: Any, strides: Any = 1, padding: str = "valid",
    use_bias: bool = True,
) -> list[nn.Module]:  # fmt: skip
    kernel, stride = _pair(kernel_size), _pair(strides)
    module = nn.Conv2d(x.shape[1], int(filters), kernel, stride, bias=bool(use_bias))
    return [*_padding(padding, kernel, stride, 0.0), module]


def max_pooling(
    x: Tensor, pool_size: Any = 2, strides: Any = None, padding: str = "valid"
) -> list[nn.Module]:
    kernel = _pair(pool_size)
    stride = kernel if strides is None else _pair(strides)
    return [*_padding(padding, kernel, stride, -np.inf), nn.MaxPool2d(kernel, stride)]


def dense(x: Tensor, units: float, use_bias: bool = True) -> list[nn.Module]:
    if x.ndim != 2:
        raise ValueError("Dense follows a layer of images; Flatten or a pooling was expected")
    return [nn.Linear(x.shape[1], int(units), bool(use_bias))]


def batch_normalization(
    x: Tensor, axis: Any = -1, epsilon: float = 1e-3, center: bool = True, scale: bool = True
) -> list[nn.Module]:
    _check("center", center, (True,))
    _check("scale", scale, (True,))
    _check("axis", axis, (-1, x.ndim - 1, [x.ndim - 1]))
    kind = nn.BatchNorm2d if x.ndim == 4 else nn.BatchNorm1d
    return [kind(x.shape[1], eps=float(epsilon))]


LAYERS: dict[str, Callable[..., list[nn.Module]]] = {
    "Conv2D": conv2d,
    "MaxPooling2D": max_pooling,
    "GlobalAveragePooling2D": lambda x: [nn.AdaptiveAvgPool2d(1), nn.Flatten()],
    "Flatten": lambda x: [ChannelsLastFlatten()],
    "Dense": dense,
    "Dropout": lambda x, rate: [nn.Dropout(float(rate))],
    "BatchNormalization": batch_normalization,
    "Activation": lambda x: [],  # every layer may have the argument "activation"
    "ReLU": lambda x: [nn.ReLU()],
    "Softmax": lambda x: [nn.Softmax(1)],
}
ACTIVATIONS: dict[Any, Callable[[], nn.Module]] = {
    None: nn.Identity,
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "softmax": lambda: nn.Softmax(1),
}


def _check(name: str, value: Any, expected: Collection[Any]) -> None:
    check(name, value, value in expected, f"one of {[*expected]}")


def _pair(value: Any) -> tuple[int, int]:
    """Two integers; one number stands for both."""
    first, second = (value, value) if isinstance(value, int | float) else value
    return int(first), int(second)


def _padding(
    padding: str, reach: Sequence[int], stride: Sequence[int], value: float
) -> list[nn.Module]:
    _check("padding", padding, ("valid", "same"))
    return [SamePadding(reach, stride, value)] if padding == "same" else []


def build_network(layers: Sequence[Mapping[str, Any]], input_shape: Sequence[int]) -> nn.Sequential:
    """Build the torch network of Keras layers, in evaluation mode and without its weights.

    Parameters
    ----------
    layers
        One mapping for each layer. "layer_name" is Keras' class. The other entries are its
        arguments, with Keras' defaults.
    input_shape
        (height, width, channels), or (inputs,). The network takes images as (P, C, H, W).

    Raises ``ValueError`` for an unknown layer, argument or value.
    """
    if len(input_shape) not in (1, 3):
        raise ValueError(f"input_shape is {input_shape}; (height, width, channels) was expected.")
    x = torch.zeros(1, *input_shape[-1:], *input_shape[:-1])
    modules: list[nn.Module] = []
    for index, layer in enumerate(layers):
        name = layer["layer_name"]
        if name not in LAYERS:
            raise ValueError(f"layer {index} is {name!r}; one of {sorted(LAYERS)} was expected.")
        arguments = {
            key: value
            for key, value in layer.items()
            if key not in LEFT_OUT and not key.endswith(LEFT_OUT_ENDS)
        }
        try:
            activation = arguments.pop("activation", None)
            _check("activation", activation, ACTIVATIONS)
            data_format = arguments.pop("data_format", "channels_last")
            _check("data_format", data_format, ("channels_last",))
            parts = [*LAYERS[name](x, **arguments), ACTIVATIONS[activation]()]
            added = nn.Sequential(*parts).eval()
            with torch.no_grad():
                x = added(x)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"layer {index}, {layer}, cannot be built: {error}.") from error
        modules += added
    return nn.Sequential(*modules).eval()


def load_weights(network: nn.Sequential, content: bytes, name: str) -> None:
    """Set the weights from a Keras HDF5 file, layer by layer in its order.

    ``name`` is used in messages. Raises ``ValueError`` for a damaged file, and for the weights of
    another network.
    """
    stored = _stored_layers(content, name)
    weighted = (nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d)
    modules = [module for module in network if isinstance(module, weighted)]
    if len(modules) != len(stored):
        raise ValueError(
            f"{name} has weights of {len(stored)} layers; {len(modules)} were expected."
        )
    for module, (layer, weights) in zip(modules, stored, strict=True):
        wanted = _keras_names(module)
        if set(weights) != set(wanted):
            raise ValueError(f"{layer} of {name} has {sorted(weights)}; {[*wanted]} was expected.")
        for key, parameter in wanted.items():
            array = weights[key]
            if key == "kernel":
                array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
            if array.shape != tuple(parameter.shape):
                raise ValueError(
                    f"{key} of {layer} of {name} has the shape {weights[key].shape}, which does "
                    "not fit the description of the network."
                )
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(array)))


def _keras_names(module: nn.Module) -> dict[str, Tensor]:
    """The weights of a module by Keras' names."""
    names = {"weight": "kernel", "bias": "bias"}
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean",
                 "running_var": "moving_variance"}  # fmt: skip
    return {names[key]: value for key, value in module.state_dict().items() if key in names}


def _stored_layers(content: bytes, name: str) -> list[tuple[str, dict[str, np.ndarray]]]:
    """Layers with weights, in Keras' order. The last part of a path is the key of a weight."""
    try:
        import h5py
    except ImportError as error:
        raise ValueError(
            f'Keras\' weights need the package h5py ({error}): pip install "wide-flat-minima[pgdl]"'
        ) from error
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            layers = []
            for layer in _names(file, "layer_names"):
                weights = {
                    path.split("/")[-1].split(":")[0]: file[layer][path][()]
                    for path in _names(file[layer], "weight_names")
                }
                if weights:
                    layers.append((layer, weights))
            return layers
    except (OSError, KeyError, RuntimeError) as error:
        raise ValueError(f"{name} cannot be read as Keras' weights: {error}.") from error


def _names(group: Any, attribute: str) -> list[str]:
    """An attribute that lists names, as bytes or as text."""
    return [n.decode() if isinstance(n, bytes) else str(n) for n in group.attrs[attribute]]
