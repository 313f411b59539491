"""TFRecord files of PGDL's data sets, read without TensorFlow.

A file is a sequence of records: length (8 bytes, little endian), masked CRC-32C of these 8 bytes
(4 bytes), the record, its masked CRC-32C (4 bytes). The mask of a checksum c is
``rotate right(c, 15) + 0xa282ead8`` modulo 2³². A record is a protobuf message ``tf.train.Example``
whose features "inputs" and "output" each hold one byte string, and that is a ``TensorProto``: a
number type, a shape, and the numbers, little endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deep.pgdl.extra import required

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5  # protobuf's wire types
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
    shapes = {image.shape for image in inputs}
    if len(shapes) > 1:
        raise ValueError(f"{name} has inputs of several shapes: {sorted(shapes)[:3]}.")
    return np.stack(inputs), np.array(labels, dtype=np.int64)


def records(content: bytes, name: str) -> Iterator[bytes]:
    """The records of a TFRecord file, checksums verified."""
    position = 0
    while position < len(content):
        header = content[position : position + 12]
        if len(header) < 12:
            raise ValueError(f"{name} is truncated at byte {position}.")
        length, length_checksum = struct.unpack("<QI", header)
        if masked_crc32c(header[:8]) != length_checksum:
            raise ValueError(f"{name} is corrupt: the checksum at byte {position + 8} is wrong.")
        end = position + 12 + length
        record, checksum = content[position + 12 : end], content[end : end + 4]
        if len(checksum) < 4:
            raise ValueError(f"{name} is truncated at byte {position + 12}.")
        if masked_crc32c(record) != struct.unpack("<I", checksum)[0]:
            raise ValueError(f"{name} is corrupt: the checksum at byte {end} is wrong.")
        yield record
        position = end + 4


def masked_crc32c(content: bytes) -> int:
    """The checksum of TFRecord files."""
    checksum: int = required("google_crc32c").value(content)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _features(example: bytes) -> dict[str, bytes]:
    """Byte strings of a ``tf.train.Example`` by name: Example.features.feature[…].bytes_list."""
    found = {}
    for _, features in _fields(example, {1: BYTES}):
        for _, entry in _fields(features, {1: BYTES}):
            pair = dict(_fields(entry, {1: BYTES, 2: BYTES}))
            values = [
                value
                for _, byte_list in _fields(pair[2], {1: BYTES})
                for _, value in _fields(byte_list, {1: BYTES})
            ]
            if len(values) != 1:
                raise ValueError(f"a feature of {len(values)} byte strings")
            found[pair[1].decode()] = values[0]
    return found


def _tensor(message: bytes) -> NDArray:
    """The array of a ``TensorProto``: dtype (1), tensor_shape (2), tensor_content (4)."""
    number_type, shape, content = 0, [], b""
    for number, value in _fields(message, {1: VARINT, 2: BYTES, 4: BYTES}):
        if number == 1:
            number_type = value
        elif number == 2:
            for _, dimension in _fields(value, {2: BYTES}):
                shape.append(dict(_fields(dimension, {1: VARINT})).get(1, 0))
        else:
            content = value
    if number_type not in NUMBER_TYPES:
        raise ValueError(f"number type {number_type} where one of {list(NUMBER_TYPES)} was due")
    return np.frombuffer(content, NUMBER_TYPES[number_type]).reshape(shape)


def _fields(message: bytes, wanted: dict[int, int]) -> Iterator[tuple[int, Any]]:
    """(number, value) of the wanted fields of a protobuf message; others are passed over."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire_type = key >> 3, key & 7
        value: int | bytes
        if wire_type == VARINT:
            value, position = _varint(message, position)
        else:
            if wire_type == BYTES:
                length, position = _varint(message, position)
            elif wire_type in (EIGHT_BYTES, FOUR_BYTES):
                length = 8 if wire_type == EIGHT_BYTES else 4
            else:
                raise ValueError(f"wire type {wire_type}")
            value = message[position : position + length]
            position += length
            if position > len(message):
                raise ValueError("a field that ends behind its message")
        if wanted.get(number) == wire_type:
            yield number, value


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
