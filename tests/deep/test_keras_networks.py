"""Keras networks in torch: against numpy in Keras' own layout, and refused layers."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from deep.pgdl.keras_networks import build_network, load_weights
from tests.deep.keras_by_hand import forward
from tests.deep.pgdl_archive import write_weights

RNG = np.random.default_rng(0)
DENSE = {"layer_name": "Dense", "units": 3}


def random_weights(layers, network):
    """Random values in Keras' layout with the shapes of the torch network."""
    weights = []
    for module in network:
        if isinstance(module, torch.nn.Conv2d):
            o, i, h, w = module.weight.shape
            own = {"kernel": RNG.normal(size=(h, w, i, o))}
        elif isinstance(module, torch.nn.Linear):
            own = {"kernel": RNG.normal(size=module.weight.shape[::-1])}
        elif isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            size = module.num_features
            own = {name: RNG.normal(size=size) for name in ("gamma", "beta", "moving_mean")}
            # The variances are small, so that epsilon matters.
            weights.append(own | {"moving_variance": RNG.uniform(0, 0.01, size)})
            continue
        else:
            continue
        if module.bias is not None:
            own["bias"] = RNG.normal(size=module.bias.shape)
        weights.append(own)
    return [{k: v.astype(np.float32) for k, v in own.items()} for own in weights]


def conv(filters, kernel, **others):
    return {"layer_name": "Conv2D", "filters": filters, "kernel_size": kernel, **others}


NETWORKS = {
    "vgg": [
        conv(4, [3, 3], padding="same", activation="relu"),
        conv(5.0, 3.0, padding="same", activation="relu", kernel_regularizer=None),
        {"layer_name": "MaxPooling2D"}, {"layer_name": "Flatten"},
        {**DENSE, "units": 6.0, "activation": "relu"}, {"layer_name": "Dropout", "rate": 0.5},
        {**DENSE, "activation": "softmax"},
    ],
    "valid and strides": [
        conv(4, [3, 2], strides=[2, 1], use_bias=False), {"layer_name": "ReLU"},
        {"layer_name": "MaxPooling2D", "pool_size": 2, "strides": 1}, {"layer_name": "Flatten"},
        DENSE,
    ],
    "same with strides, even kernels": [
        conv(4, [4, 2], strides=2, padding="same"), conv(3, 2, strides=[1, 3], padding="same"),
        {"layer_name": "MaxPooling2D", "pool_size": 3, "strides": [2, 1], "padding": "same"},
        {"layer_name": "Flatten"}, {**DENSE, "use_bias": False},
    ],
    "network in network": [
        conv(4, 3, padding="same"), {"layer_name": "BatchNormalization"},
        {"layer_name": "Activation", "activation": "relu"}, conv(6, 1),
        {"layer_name": "BatchNormalization", "epsilon": 0.1, "axis": [3], "momentum": 0.9},
        {"layer_name": "GlobalAveragePooling2D"}, {"layer_name": "Softmax"},
    ],
    "dense with norm": [
        conv(5, 3), {"layer_name": "GlobalAveragePooling2D"}, {"layer_name": "BatchNormalization"},
        DENSE, {"layer_name": "Activation", "activation": "linear"},
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_those_of_keras_layout(name, tmp_path):
    layers = NETWORKS[name]
    network = build_network(layers, (7, 6, 3))
    weights = random_weights(layers, network)
    write_weights(tmp_path / "weights.hdf5", layers, weights)
    load_weights(network, (tmp_path / "weights.hdf5").read_bytes(), "weights.hdf5")
    x = RNG.normal(size=(4, 7, 6, 3)).astype(np.float32)
    with torch.no_grad():
        ours = network(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    expected = forward(layers, weights, x)
    assert ours.shape == expected.shape and np.std(expected) > 1e-3
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([{"layer_name": "LSTM", "units": 3}], "layer 0 is 'LSTM'; one of"),
        ([conv(3, 3, groups=3)], "unexpected keyword argument 'groups'"),
        ([conv(3, 3, padding="causal")], "padding is 'causal'"),
        ([conv(3, 3, data_format="channels_first")], "data_format is 'channels_first'"),
        ([conv(3, 3, activation="swish")], "activation is 'swish'"),
        ([DENSE], "Dense follows a layer of images"),
        ([conv(3, 9)], "layer 0, .* cannot be built"),
        ([{"layer_name": "Conv2D", "kernel_size": 3}], "layer 0, .* cannot be built"),
        ([{"layer_name": "BatchNormalization", "axis": 1}], "axis is 1"),
        ([{"layer_name": "BatchNormalization", "scale": False}], "scale is False"),
    ],
)
def test_what_is_unknown_is_refused(layers, words):
    with pytest.raises(ValueError, match=words):
        build_network(layers, (7, 6, 3))


def test_weights_of_another_network_are_refused(tmp_path):
    layers = NETWORKS["vgg"]
    network = build_network(layers, (7, 6, 3))
    weights = random_weights(layers, network)
    path = tmp_path / "weights.hdf5"

    def load(layers, weights):
        write_weights(path, layers, weights)
        load_weights(network, path.read_bytes(), "weights.hdf5")

    with pytest.raises(ValueError, match="has weights of 3 layers; 4 were expected"):
        load(layers[1:], weights[1:])
    swapped = [weights[1], weights[0], *weights[2:]]
    with pytest.raises(ValueError, match=r"kernel of conv2d_17 of weights\.hdf5 has the shape"):
        load(layers, swapped)
    without_bias = [{"kernel": weights[0]["kernel"]}, *weights[1:]]
    with pytest.raises(ValueError, match=r"has \['kernel'\]; \['kernel', 'bias'\] was expected"):
        load(layers, without_bias)
    with pytest.raises(ValueError, match="cannot be read as Keras' weights"):
        load_weights(network, b"no HDF5 at all", "weights.hdf5")
    write_weights(path, layers, weights)
    with pytest.raises(ValueError, match="cannot be read as Keras' weights"):
        load_weights(network, path.read_bytes()[:1000], "weights.hdf5")
    with h5py.File(path, "w") as file:
        file.attrs["other"] = 1
    with pytest.raises(ValueError, match="cannot be read as Keras' weights"):
        load_weights(network, path.read_bytes(), "weights.hdf5")
