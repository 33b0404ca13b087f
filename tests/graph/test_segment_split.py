"""A file cut at its segments, or refused with the value that stands in the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import helper

from exporter.core.errors import ArtifactError
from exporter.graph.index import index_graph
from exporter.graph.onnx_file import read_in_place
from exporter.graph.segment_split import SegmentSplit, split_at_segments
from tests.support.segment_toys import toy_file


def split(path: Path) -> SegmentSplit:
    return split_at_segments(index_graph(read_in_place(path), path.parent), str(path))


def test_the_vad_is_in_front_and_the_number_of_segments_crosses(tmp_path: Path):
    found = split(toy_file(tmp_path))
    assert found.counts == ("num_rows",)
    assert set(found.front.outputs) == {"segments", "peaks", "num_rows"}
    assert set(found.back.outputs) == {"total", "row_sizes"}
    assert set(found.back.inputs) == {"waveform", "segments", "num_rows"}
    assert "NonZero" not in {node.op_type for node in found.back.model.graph.node}


def test_types_and_shapes_are_declared_at_the_cut(tmp_path: Path):
    graph = split(toy_file(tmp_path)).back.model.graph
    (count,) = [value for value in graph.input if value.name == "num_rows"]
    assert [dim.dim_value for dim in count.type.tensor_type.shape.dim] == [1]
    (waveform,) = [value for value in graph.input if value.name == "waveform"]
    assert waveform.type.tensor_type.shape.dim[0].dim_param == "num_samples"


def test_an_output_beside_the_vad_is_computed_once(tmp_path: Path):
    beside = helper.make_node("ReduceMin", ["blocks", "axis_1"], ["per_frame"], keepdims=0)
    path = toy_file(tmp_path, extra=[beside], outputs=["segments", "per_frame", "total"])
    assert set(split(path).front.outputs) >= {"segments", "per_frame"}


def test_sizes_of_the_waveform_are_computed_on_both_sides(tmp_path: Path):
    size = [
        helper.make_node("Shape", ["waveform"], ["num_samples"]),
        helper.make_node("Sub", ["num_samples", "num_samples"], ["nothing"]),
        helper.make_node("Cast", ["nothing"], ["nothing_f"], to=1),
        helper.make_node("Add", ["total", "nothing_f"], ["moved"]),
    ]
    path = toy_file(tmp_path, extra=size, outputs=["segments", "moved"])
    assert "num_samples" not in split(path).counts


def test_what_reads_more_of_the_vad_than_its_segments_is_refused(tmp_path: Path):
    reads = helper.make_node("Add", ["places", "places"], ["twice"])
    path = toy_file(tmp_path, extra=[reads, join("twice")], outputs=["segments", "both"])
    with pytest.raises(ArtifactError, match=r"reads 'places' of the VAD") as caught:
        split(path)
    assert str(path) in str(caught.value)


def join(name: str):
    return helper.make_node("Add", ["segments", name], ["both"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"waveform": "audio"}, "has no 'waveform'"),
        ({"outputs": ["segments", "peaks"]}, "nothing to run per segment"),
    ],
)
def test_a_file_that_has_nothing_to_cut_is_refused(tmp_path: Path, arguments, said: str):
    with pytest.raises(ArtifactError, match=said):
        split(toy_file(tmp_path, **arguments))
