"""Keras' sequential networks in torch: layers from their description, weights from HDF5.

Keras has images as (P, H, W, C), torch as (P, C, H, W): kernels (H, W, in, out) become
(out, in, H, W), and ``Flatten`` puts the channels last before it flattens.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deep.pgdl.extra import required

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "elu": nn.ELU,
    "softmax": lambda: nn.Softmax(1),
}
# They matter for training alone.
TRAINING_ONLY = ("name", "trainable", "dtype", "momentum", "input_shape", "batch_input_shape")
TRAINING_ONLY_ENDS = ("_initializer", "_regularizer", "_constraint")


class SamePadding(nn.Module):
    """TensorFlow's padding "same": ⌈size/stride⌉ outputs, the odd pixel at the far side."""

    def __init__(
        self, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], value: float
    ) -> None:
        super().__init__()
        reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        self.reach, self.stride, self.value = reach, tuple(stride), value

    def forward(self, x: Tensor) -> Tensor:
        """Images (P, C, H, W), padded with ``value``."""
        margins: list[int] = []
        for size, reach, stride in zip(x.shape[2:], self.reach, self.stride, strict=True):
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
            margins = [total // 2, total - total // 2, *margins]  # the last axis comes first
        return nn.functional.pad(x, margins, value=self.value)


class SameAveragePooling(nn.Module):
    """Average pooling with padding "same"; padded pixels don't count."""

    def __init__(self, kernel: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        self.pad, self.pool = SamePadding(kernel, stride, (1, 1), 0.0), nn.AvgPool2d(kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Images (P, C, H, W)."""
        present: Tensor = self.pool(self.pad(torch.ones_like(x[:1, :1])))
        pooled: Tensor = self.pool(self.pad(x))
        return pooled / present


class GlobalPooling(nn.Module):
    """Mean or maximum of each channel: (P, C, H, W) to (P, C)."""

    def __init__(self, reduce: Callable[..., Tensor]) -> None:
        super().__init__()
        self.reduce = reduce

    def forward(self, x: Tensor) -> Tensor:
        """Images (P, C, H, W)."""
        return self.reduce(x, dim=(2, 3))


class ChannelsLastFlatten(nn.Module):
    """(P, C, H, W) to (P, HWC), in the order of Keras."""

    def forward(self, x: Tensor) -> Tensor:
        """Images, or vectors, which stay."""
        return x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x.flatten(1)


class _Arguments:
    """Arguments of one Keras layer; each has to be asked for, or it is an error."""

    def __init__(self, layer: Mapping[str, Any]) -> None:
        self.layer = str(layer["layer_name"])
        self.left = {
            key: value
            for key, value in layer.items()
            if key != "layer_name"
            and key not in TRAINING_ONLY
            and not key.endswith(TRAINING_ONLY_ENDS)
        }

    def take(self, key: str, default: Any = None) -> Any:
        """The value of an argument."""
        return self.left.pop(key, default)

    def pair(self, key: str, default: Any) -> tuple[int, int]:
        """Two integers; one number stands for both."""
        value = self.take(key)
        value = default if value is None else value
        first, second = (value, value) if isinstance(value, int | float) else value
        return int(first), int(second)

    def one_of(self, key: str, default: Any, known: Iterable[Any]) -> Any:
        """A value that has to be one of those known."""
        value = self.take(key, default)
        if value not in known:
            raise ValueError(f"{self.layer} has {key} {value!r}; one of {[*known]} was expected.")
        return value

    def activation(self) -> list[nn.Module]:
        """The module of the argument "activation"."""
        name = self.one_of("activation", None, (None, "linear", *ACTIVATIONS))
        return [] if name in (None, "linear") else [ACTIVATIONS[name]()]

    def finish(self) -> None:
        """Nothing may be left."""
        if self.left:
            raise ValueError(f"{self.layer} has the argument {min(self.left)!r}, which is unknown.")


def _convolution(arguments: _Arguments, x: Tensor) -> list[nn.Module]:
    filters, kernel = int(arguments.take("filters")), arguments.pair("kernel_size", None)
    stride, dilation = arguments.pair("strides", 1), arguments.pair("dilation_rate", 1)
    bias = bool(arguments.take("use_bias", True))
    module = nn.Conv2d(x.shape[1], filters, kernel, stride, dilation=dilation, bias=bias)
    same = _is_same(arguments)
    padding = [SamePadding(kernel, stride, dilation, 0.0)] if same else []
    return [*padding, module, *arguments.activation()]


def _is_same(arguments: _Arguments) -> bool:
    arguments.one_of("data_format", "channels_last", ("channels_last",))
    padding: str = arguments.one_of("padding", "valid", ("valid", "same"))
    return padding == "same"


def _max_pooling(arguments: _Arguments, x: Tensor) -> list[nn.Module]:
    kernel = arguments.pair("pool_size", 2)
    stride = arguments.pair("strides", kernel)
    pool = nn.MaxPool2d(kernel, stride)
    return [SamePadding(kernel, stride, (1, 1), -np.inf), pool] if _is_same(arguments) else [pool]


def _average_pooling(arguments: _Arguments, x: Tensor) -> list[nn.Module]:
    kernel = arguments.pair("pool_size", 2)
    stride = arguments.pair("strides", kernel)
    return [(SameAveragePooling if _is_same(arguments) else nn.AvgPool2d)(kernel, stride)]


def _dense(arguments: _Arguments, x: Tensor) -> list[nn.Module]:
    if x.ndim != 2:
        raise ValueError("Dense follows a layer of images; Flatten or a pooling was expected.")
    bias = bool(arguments.take("use_bias", True))
    module = nn.Linear(x.shape[1], int(arguments.take("units")), bias)
    return [module, *arguments.activation()]


def _batch_normalization(arguments: _Arguments, x: Tensor) -> list[nn.Module]:
    for key in ("scale", "center"):
        arguments.one_of(key, True, (True,))
    axis = arguments.take("axis", -1)
    if axis not in (-1, x.ndim - 1, [x.ndim - 1]):
        raise ValueError(f"BatchNormalization has axis {axis}; the channels' was expected.")
    kind = nn.BatchNorm2d if x.ndim == 4 else nn.BatchNorm1d
    return [kind(x.shape[1], eps=float(arguments.take("epsilon", 1e-3)))]


LAYERS: dict[str, Callable[[_Arguments, Tensor], list[nn.Module]]] = {
    "Conv2D": _convolution,
    "MaxPooling2D": _max_pooling,
    "MaxPool2D": _max_pooling,
    "AveragePooling2D": _average_pooling,
    "GlobalAveragePooling2D": lambda arguments, x: [GlobalPooling(torch.mean)],
    "GlobalMaxPooling2D": lambda arguments, x: [GlobalPooling(torch.amax)],
    "Flatten": lambda arguments, x: [ChannelsLastFlatten()],
    "Dense": _dense,
    "Dropout": lambda arguments, x: [nn.Dropout(float(arguments.take("rate")))],
    "BatchNormalization": _batch_normalization,
    "Activation": lambda arguments, x: arguments.activation(),
    "ReLU": lambda arguments, x: [nn.ReLU()],
    "Softmax": lambda arguments, x: [nn.Softmax(1)],
}


def build_network(layers: Sequence[Mapping[str, Any]], input_shape: Sequence[int]) -> nn.Sequential:
    """The torch network of Keras layers, its weights not yet set, in evaluation mode.

    Parameters
    ----------
    layers
        One mapping for each layer: "layer_name" is Keras' class, the rest its arguments; what is
        missing has Keras' default.
    input_shape
        (height, width, channels), or (inputs,). The network takes images as (P, C, H, W).

    Raises ``ValueError`` for an unknown layer, argument or value.
    """
    x = torch.zeros(1, *_channels_first(input_shape))
    modules: list[nn.Module] = []
    for index, layer in enumerate(layers):
        arguments = _Arguments(layer)
        if arguments.layer not in LAYERS:
            raise ValueError(
                f"layer {index} is {arguments.layer!r}; one of {sorted(LAYERS)} was expected."
            )
        try:
            added = nn.Sequential(*LAYERS[arguments.layer](arguments, x)).eval()
            arguments.finish()
            with torch.no_grad():
                x = added(x)
        except (TypeError, RuntimeError) as error:
            raise ValueError(f"layer {index}, {layer}, cannot be built: {error}.") from error
        modules += added
    return nn.Sequential(*modules).eval()


def _channels_first(shape: Sequence[int]) -> tuple[int, ...]:
    if len(shape) not in (1, 3):
        raise ValueError(f"input_shape is {shape}; (height, width, channels) was expected.")
    return (*shape[-1:], *shape[:-1])


def load_weights(network: nn.Sequential, content: bytes, name: str) -> None:
    """Set the weights to those of a Keras HDF5 file, layer by layer in its order.

    ``name`` is for messages. Raises ``ValueError`` for a broken file and for one of another
    network.
    """
    stored = _stored_layers(content, name)
    weighted = (nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d)
    modules = [module for module in network if isinstance(module, weighted)]
    if len(modules) != len(stored):
        raise ValueError(
            f"{name} has weights of {len(stored)} layers; {len(modules)} were expected."
        )
    for module, (layer, weights) in zip(modules, stored, strict=True):
        wanted = _torch_names(module)
        if set(weights) != set(wanted):
            raise ValueError(f"{layer} of {name} has {sorted(weights)}; {[*wanted]} was expected.")
        for key, parameter in wanted.items():
            array = weights[key]
            if key == "kernel":
                array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
            if array.shape != tuple(parameter.shape):
                raise ValueError(
                    f"{key} of {layer} of {name} has the shape {weights[key].shape}, which does "
                    f"not fit the description of the network."
                )
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(array)))


def _torch_names(module: nn.Module) -> dict[str, Tensor]:
    """Keras' names of the weights of a module."""
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        assert module.running_mean is not None and module.running_var is not None
        return {
            "gamma": module.weight, "beta": module.bias,
            "moving_mean": module.running_mean, "moving_variance": module.running_var,
        }  # fmt: skip
    names = {"weight": "kernel", "bias": "bias"}
    return {names[name]: parameter for name, parameter in module.named_parameters()}


def _stored_layers(content: bytes, name: str) -> list[tuple[str, dict[str, np.ndarray]]]:
    """(layer, its weights by their last name) in the order of Keras, layers with weights only."""
    h5py = required("h5py")
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
    """An attribute of names, which are bytes or text."""
    return [n.decode() if isinstance(n, bytes) else str(n) for n in group.attrs[attribute]]
