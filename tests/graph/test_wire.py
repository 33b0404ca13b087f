"""Protobuf's wire format, held against protobuf itself."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.graph.wire import BYTES, VARINT, WireError, delimited, fields, varint
from tests.graph.test_onnx_file import small


@given(st.integers(0, 2**64 - 1))
def test_numbers_are_what_protobuf_writes(value: int):
    raw = varint(5 << 3 | VARINT) + varint(value)
    (found,) = fields(raw, 0, len(raw))
    assert (found.number, found.value, found.end) == (5, value, len(raw))
    if 0 < value < 2**63:
        assert raw == onnx.ModelProto(model_version=value).SerializeToString()


def test_a_model_is_walked_from_end_to_end():
    raw = small().SerializeToString()
    found = list(fields(raw, 0, len(raw)))
    assert [f.begin for f in found[1:]] == [f.end for f in found[:-1]]
    assert found[-1].end == len(raw)
    (graph,) = (f for f in found if f.number == 7)
    assert onnx.GraphProto.FromString(raw[graph.start : graph.end]) == small().graph


def test_what_is_appended_is_read_by_protobuf():
    entry = delimited(14, delimited(1, b"key") + delimited(2, "\N{SNOWMAN}".encode() * 100))
    model = onnx.ModelProto.FromString(small().SerializeToString() + entry)
    assert [(item.key, item.value) for item in model.metadata_props] == [("key", "☃" * 100)]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error(raw: bytes):
    try:
        found = list(fields(raw, 0, len(raw)))
    except WireError:
        return
    assert sum(f.end - f.begin for f in found) == len(raw)
    assert all(f.begin < f.start <= f.end or f.wire != BYTES for f in found)


@pytest.mark.parametrize("cut", [1, 5, 100, 4000])
def test_a_message_that_is_cut_off_is_an_error(cut: int):
    raw = small().SerializeToString()
    with pytest.raises(WireError):
        list(fields(raw, 0, len(raw) - cut))
