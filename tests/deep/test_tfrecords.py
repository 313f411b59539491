"""TFRecord files without TensorFlow: against TensorBoard's writer and protobuf, broken files."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.summary.writer.record_writer import RecordWriter

from deep.pgdl.tfrecords import read_examples, records
from tests.deep.pgdl_archive import SHAPE, example, field, framed, tensor


def test_records_are_framed_as_tensorboard_does_it():
    file = io.BytesIO()
    writer = RecordWriter(file)
    contents = [b"", b"abc", bytes(300)]
    for content in contents:
        writer.write(content)
    assert [*records(file.getvalue(), "x")] == contents
    assert [*records(b"".join(map(framed, contents)), "x")] == contents


@pytest.mark.parametrize("fields", ["inputs first", "output first"])
def test_tensors_of_protobuf(fields):
    """Tensors that protobuf serialised are read, with the map entries in either order."""
    image = np.arange(90, dtype="<f4").reshape(SHAPE)
    inputs, output = TensorProto(dtype=1, tensor_content=image.tobytes()), TensorProto(dtype=3)
    for size in SHAPE:
        inputs.tensor_shape.dim.add(size=size)
    output.tensor_shape.SetInParent()
    output.tensor_content = struct.pack("<i", 300)
    values = [(b"inputs", inputs), (b"output", output)]
    if fields == "output first":
        values.reverse()
    entries = [
        field(1, field(1, name) + field(2, field(1, field(1, message.SerializeToString()))))
        for name, message in values
    ]
    record = field(1, b"".join(entries))
    images, labels = read_examples(framed(record), "x")
    assert np.array_equal(images, image[None]) and labels.tolist() == [300]
    if fields == "inputs first":
        assert example(image, 300) == record


def test_corrupt_records():
    good = framed(example(np.ones(SHAPE), 2))
    inputs, labels = read_examples(good * 2, "x")
    assert inputs.shape == (2, *SHAPE) and labels.tolist() == [2, 2]
    other_type = field(1, field(1, field(1, b"inputs") + field(2, field(1, field(1, b"\x08\x13")))))
    no_bytes = field(1, field(1, field(1, b"inputs") + field(2, field(3, b""))))
    for content, words in [
        (good[:-1], "x is truncated at byte 0"),
        (good + good[:7], f"x is truncated at byte {len(good)}"),
        (struct.pack("<Q", 2**60) + good[8:], "x is truncated at byte 0"),
        (framed(b"\x0a\x7f"), r"record 0 of x is no example .* ends behind"),
        (framed(b"\x0a"), "record 0 of x is no example"),
        (framed(other_type), "number type 19"),
        (framed(no_bytes), "record 0 of x is no example"),
        (good + framed(field(1, b"")), "record 1 of x is no example"),
        (good + framed(example(np.ones(3), 0)), "inputs of several shapes"),
        (b"", "holds no record"),
    ]:
        with pytest.raises(ValueError, match=words):
            read_examples(content, "x")
    assert tensor(np.array(1, "<i4"), 3) == b"\x08\x03\x12\x00\x22\x04\x01\x00\x00\x00"
