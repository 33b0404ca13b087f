"""The overlay and the file fit what Model Explorer's extension for ONNX shows."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from exporter.core.errors import ArtifactError
from exporter.graph.viewer_keys import modules_of, viewer_keys, write_modules
from exporter.report.overlay import render_overlay
from exporter.report.schema import REPORT
from exporter.report.write import OVERLAY, write_renderings
from tests.support import reports

SCOPES, CLASSES = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"


def node(op: str, given: str, made: str, name: str, module: str = "") -> onnx.NodeProto:
    found = helper.make_node(op, [given], [made], name=name)
    if module:
        found.metadata_props.add(key=SCOPES, value=str(["", module, made]))
        found.metadata_props.add(key=CLASSES, value=str(["M", "Linear", "aten.relu.default"]))
    return found


def model(*nodes: onnx.NodeProto, output: str) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, 1, [4]) for name in ("x", output)]
    graph = helper.make_graph(list(nodes), "main", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def test_a_value_is_shown_as_its_node_and_an_output_also_as_itself(tmp_path: Path):
    path = tmp_path / "model.onnx"
    nodes = [node("Relu", "x", "relu", "node_1"), node("Abs", "relu", "abs", "")]
    # Two nodes of one name: a viewer needs one for each, as the pass that it runs makes them.
    onnx.save(model(*nodes, node("Neg", "abs", "y", "node_1"), output="y"), path)
    found = viewer_keys(path)
    assert found["relu"] == ("node_1",)
    assert len({keys[0] for keys in found.values()}) == 3 and all(k[0] for k in found.values())
    assert found["y"][1] == "[value] y"


def test_a_value_that_is_stored_in_the_file_is_shown_as_itself(tmp_path: Path):
    folded = model(helper.make_node("Mul", ["x", "scale"], ["y"], name="node_1"), output="y")
    folded.graph.initializer.append(helper.make_tensor("scale", 1, [1], [2.0]))
    onnx.save(folded, tmp_path / "model.onnx")
    assert viewer_keys(tmp_path / "model.onnx")["scale"] == ("[value] scale",)


def test_what_onnx_ir_cannot_read_has_no_keys(tmp_path: Path):
    held = model(node("Relu", "x", "y", "node_1"), output="y")
    table = onnx.TypeProto()
    table.map_type.key_type = 7
    table.map_type.value_type.tensor_type.elem_type = 1
    held.graph.input.append(onnx.ValueInfoProto(name="table", type=table))
    onnx.save(held, tmp_path / "model.onnx")
    with pytest.raises(ArtifactError, match="onnx-ir cannot read the file"):
        viewer_keys(tmp_path / "model.onnx")


def test_the_overlay_is_keyed_by_these_names_and_the_worst_value_colours_a_node():
    report = reports.layer_fail()
    bare = json.loads(render_overlay(report))["results"]
    name = report.culprits[0].tap
    keys = dict.fromkeys(bare, ("all_in_one",))
    joined = json.loads(render_overlay(report, keys=keys))["results"]
    assert list(joined) == ["all_in_one"]
    assert joined["all_in_one"]["value"] == max(held["value"] for held in bare.values())
    one = json.loads(render_overlay(report, keys={name: ("node_7", "[value] y")}))["results"]
    assert one["node_7"] == one["[value] y"] == bare[name] and name not in one


def test_a_report_beside_its_file_is_keyed_by_it(tmp_path: Path):
    report = reports.passed()
    name = next(iter(json.loads(render_overlay(report))["results"]))
    shipped = report.artifacts[0].model_copy(update={"name": "model.onnx"})
    assert shipped.made and shipped.nodes
    report = report.model_copy(update={"artifacts": [shipped, *report.artifacts[1:]]})
    write_renderings(report, tmp_path)
    assert name in json.loads((tmp_path / OVERLAY).read_text())["results"]
    onnx.save(model(node("Relu", "x", name, "node_9"), output=name), tmp_path / "model.onnx")
    write_renderings(report, tmp_path)
    found = json.loads((tmp_path / OVERLAY).read_text())["results"]
    assert {"node_9", f"[value] {name}"} <= set(found) and name not in found
    assert not (tmp_path / REPORT).exists()


def test_modules_come_back_into_a_simplified_file():
    exported = model(
        node("Relu", "x", "relu", "a", "encoder.layers.0"),
        node("Abs", "relu", "y", "b", "encoder.head"),
        output="y",
    )
    simplified = model(node("Relu", "x", "relu", "c"), node("Abs", "relu", "y", "d"), output="y")
    write_modules(simplified, modules_of(exported))
    write_modules(simplified, modules_of(exported))  # once, however often it is asked
    spaces = [
        [(entry.key, entry.value) for entry in held.metadata_props]
        for held in simplified.graph.node
    ]
    assert spaces == [[("namespace", "encoder/layers/0")], [("namespace", "encoder/head")]]
    # What torch wrote of a node is another thing, and this does not look like it.
    assert modules_of(simplified) == {}
    assert [n.metadata_props["namespace"] for n in ir.from_proto(simplified).graph] == [
        "encoder/layers/0",
        "encoder/head",
    ]
