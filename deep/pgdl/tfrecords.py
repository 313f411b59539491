"""TFRecord files of PGDL's data sets, read without TensorFlow.

A file is a sequence of records: length (8 bytes, little endian), a checksum (4 bytes), the record,
a checksum (4 bytes). The checksums are not compared: the zip file has its own. A record is a
protobuf message, ``tf.train.Example``. Its features "inputs" and "output" each hold one byte
string, a ``TensorProto``: a number type, a shape, and the numbers, little endian.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

VARINT, BYTES = 0, 2  # protobuf's wire types in these messages
# The values of TensorFlow's enumeration DataType.
NUMBER_TYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 9: "<i8"}


def read_examples(content: bytes, name: str) -> tuple[NDArray, NDArray[np.int64]]:
    """Inputs (P, …) and labels (P,) of a TFRecord file; ``name`` is used in messages.

    Raises ``ValueError`` for a truncated file, a record that is no PGDL example, and inputs of
    different shapes.
    """
    inputs, labels = [], []
    for index, record in enumerate(records(content, name)):
        try:
            features = _features(record)
            inputs.append(_tensor(features["inputs"]))
            labels.append(int(_tensor(features["output"]).reshape(()).item()))
        except (ValueError, IndexError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(
                f"record {index} of {name} is no example with 'inputs' and 'output' ({error})."
            ) from error
    if not inputs:
        raise ValueError(f"{name} holds no record; at least one was expected.")
    if len(shapes := {image.shape for image in inputs}) > 1:
        raise ValueError(f"{name} has inputs of several shapes: {sorted(shapes)[:3]}.")
    return np.stack(inputs), np.array(labels, dtype=np.int64)


def records(content: bytes, name: str) -> Iterator[bytes]:
    """The records of a TFRecord file."""
    position = 0
    while position < len(content):
        start = position + 12
        length = struct.unpack("<Q", content[position : position + 8].ljust(8, b"\0"))[0]
        if start + length + 4 > len(content):
            raise ValueError(f"{name} is truncated at byte {position}.")
        yield content[start : start + length]
        position = start + length + 4


def _features(example: bytes) -> dict[str, bytes]:
    """Byte strings of a ``tf.train.Example`` by name: Example.features.feature[…].bytes_list."""
    found = {}
    for entry in (entry for features in _fields(example)[1] for entry in _fields(features)[1]):
        (name,), (feature,) = (_fields(entry)[number] for number in (1, 2))
        (value,) = (value for one in _fields(feature)[1] for value in _fields(one)[1])
        found[name.decode()] = value
    return found


def _tensor(message: bytes) -> NDArray:
    """The array of a ``TensorProto``: dtype (1), tensor_shape (2), tensor_content (4)."""
    fields = _fields(message)
    (number_type,) = fields[1]
    if number_type not in NUMBER_TYPES:
        raise ValueError(f"number type {number_type} where one of {list(NUMBER_TYPES)} was due")
    dimensions = (dimension for shape in fields[2] for dimension in _fields(shape)[2])
    shape = [size for dimension in dimensions for size in _fields(dimension)[1] or [0]]
    return np.frombuffer(b"".join(fields[4]), NUMBER_TYPES[number_type]).reshape(shape)


def _fields(message: bytes) -> defaultdict[int, list[Any]]:
    """Values of a protobuf message by field number: integers and byte strings."""
    fields: defaultdict[int, list[Any]] = defaultdict(list)
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        value, position = _varint(message, position)
        if key & 7 == BYTES:
            start, position = position, position + value
            if position > len(message):
                raise ValueError("a field that ends behind its message")
            fields[key >> 3].append(message[start:position])
        elif key & 7 == VARINT:
            fields[key >> 3].append(value)
        else:
            raise ValueError(f"wire type {key & 7}")
    return fields


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """An integer in groups of seven bits, lowest first, and the position after it."""
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
