"""TFRecord files of PGDL's data sets, read without TensorFlow.

A file is a sequence of records: length (8 bytes, little endian), masked CRC-32C of these 8 bytes
(4 bytes), the record, its masked CRC-32C (4 bytes). The mask of a checksum c is
``rotate right(c, 15) + 0xa282ead8`` modulo 2³². A record is a protobuf message,
``tf.train.Example``. Its features "inputs" and "output" each hold one byte string, a
``TensorProto``: a number type, a shape, and the numbers, little endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deep.pgdl.archive import required

VARINT, BYTES = 0, 2  # protobuf's wire types
FIXED_SIZES = {1: 8, 5: 4}  # bytes of the other wire types
# The values of TensorFlow's enumeration DataType.
NUMBER_TYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 9: "<i8"}


def read_examples(content: bytes, name: str) -> tuple[NDArray, NDArray[np.int64]]:
    """Inputs (P, …) and labels (P,) of a TFRecord file; ``name`` is for messages.

    Raises ``ValueError`` for a truncated file, a wrong checksum, a record that is no example of
    PGDL, inputs of several shapes.
    """
    inputs, labels = [], []
    for index, record in enumerate(records(content, name)):
        try:
            features = _features(record)
            inputs.append(_tensor(features["inputs"]))
            labels.append(int(_tensor(features["output"]).reshape(()).item()))
        except (ValueError, IndexError, KeyError, struct.error) as error:
            raise ValueError(
                f"record {index} of {name} is no example with 'inputs' and 'output' ({error})."
            ) from error
    if not inputs:
        raise ValueError(f"{name} holds no record; at least one was expected.")
    if len(shapes := {image.shape for image in inputs}) > 1:
        raise ValueError(f"{name} has inputs of several shapes: {sorted(shapes)[:3]}.")
    return np.stack(inputs), np.array(labels, dtype=np.int64)


def records(content: bytes, name: str) -> Iterator[bytes]:
    """The records of a TFRecord file, checksums verified."""
    position = 0

    def checked(length: int) -> bytes:
        """The next bytes, which their checksum follows."""
        nonlocal position
        end = position + length
        part, checksum = content[position:end], content[end : end + 4]
        if len(checksum) < 4:
            raise ValueError(f"{name} is truncated at byte {position}.")
        if masked_crc32c(part) != struct.unpack("<I", checksum)[0]:
            raise ValueError(f"{name} is corrupt: the checksum at byte {end} is wrong.")
        position = end + 4
        return part

    while position < len(content):
        yield checked(*struct.unpack("<Q", checked(8)))


def masked_crc32c(content: bytes) -> int:
    """The checksum of TFRecord files."""
    checksum: int = required("google_crc32c").value(content)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _features(example: bytes) -> dict[str, bytes]:
    """Byte strings of a ``tf.train.Example`` by name: Example.features.feature[…].bytes_list."""
    found = {}
    for features in _parts(example, 1):
        for entry in _parts(features, 1):
            (name,), (feature,) = _parts(entry, 1), _parts(entry, 2)
            values = [value for byte_list in _parts(feature, 1) for value in _parts(byte_list, 1)]
            if len(values) != 1:
                raise ValueError(f"a feature of {len(values)} byte strings")
            found[name.decode()] = values[0]
    return found


def _tensor(message: bytes) -> NDArray:
    """The array of a ``TensorProto``: dtype (1), tensor_shape (2), tensor_content (4)."""
    number_type = dict(_fields(message)).get(1, 0)
    if number_type not in NUMBER_TYPES:
        raise ValueError(f"number type {number_type} where one of {list(NUMBER_TYPES)} was due")
    shape = [
        dict(_fields(dimension)).get(1, 0)
        for dimensions in _parts(message, 2)
        for dimension in _parts(dimensions, 2)
    ]
    return np.frombuffer(b"".join(_parts(message, 4)), NUMBER_TYPES[number_type]).reshape(shape)


def _parts(message: bytes, wanted: int) -> list[bytes]:
    """The byte strings of a protobuf message in the field of that number."""
    return [
        value for number, value in _fields(message) if number == wanted and isinstance(value, bytes)
    ]


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of the fields of a protobuf message: integers and byte strings."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire_type = key >> 3, key & 7
        if wire_type == VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire_type == BYTES:
            length, position = _varint(message, position)
        elif wire_type in FIXED_SIZES:
            length = FIXED_SIZES[wire_type]
        else:
            raise ValueError(f"wire type {wire_type}")
        if position + length > len(message):
            raise ValueError("a field that ends behind its message")
        if wire_type == BYTES:
            yield number, message[position : position + length]
        position += length


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """An integer in groups of seven bits, the lowest first, and the position behind it."""
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
