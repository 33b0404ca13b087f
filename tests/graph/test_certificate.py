"""A certificate holds for the bytes that were judged, and says what has changed since."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from exporter.core.artifact import Artifact, sha256_of
from exporter.core.errors import ArtifactError
from exporter.execution.onnx_runs import FileRun
from exporter.graph import certificate
from exporter.graph.certificate import PREFIX, certify, check_certificate, strip_certificate
from exporter.graph.contents import metadata_field, read_contents
from exporter.graph.onnx_file import open_artifact
from tests.graph.test_onnx_file import small
from tests.support.files import write_model

FACTS = {"verdict": "pass", "headline": "all 5 links agree"}
Change = Callable[[onnx.ModelProto], object]


def shipped(folder: Path, *, split: bool = False, functions: bool = False) -> Artifact:
    model = small()
    model.producer_name = "maker"
    model.graph.initializer.append(numpy_helper.from_array(np.arange(3.0), "unused"))
    model.graph.initializer.append(
        helper.make_tensor("typed", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
    )
    if functions:
        body = helper.make_node("Neg", ["a"], ["b"])
        opset = helper.make_opsetid("", 18)
        model.functions.append(helper.make_function("own", "Neg2", ["a"], ["b"], [body], [opset]))
        model.opset_import.append(helper.make_opsetid("own", 1))
    return write_model(
        model, folder / "model.onnx", external_data=split, metadata={"export_verify.pipeline": "p"}
    )


@pytest.fixture(params=[False, True], ids=["one file", "external data"])
def judged(request: pytest.FixtureRequest, tmp_path: Path) -> Artifact:
    return shipped(tmp_path, split=request.param)


def rewritten(path: Path, change: Change) -> None:
    """What a careless tool does: load, change, save."""
    model = onnx.load(path, load_external_data=False)
    change(model)
    onnx.save(model, path)


def test_a_certified_file_is_intact_and_still_runs(judged: Artifact):
    before = judged.path.read_bytes()
    digest = certify(judged, FACTS)
    assert digest == sha256_of(judged.path) != judged.sha256
    assert judged.path.read_bytes().startswith(before)
    checked = check_certificate(judged.path)
    assert checked.intact and checked.changes == () and checked.weights_intact
    assert checked.certificate is not None
    assert {key: checked.certificate[key] for key in FACTS} == FACTS
    assert checked.certificate["content_sha256"] == judged.sha256
    assert FileRun(judged.path).run({"x": np.ones(1024, np.float32)})["y"][0] == 2.0
    found, _ = open_artifact(judged.path)
    assert found.metadata[f"{PREFIX}verdict"] == "pass"
    assert found.metadata["export_verify.pipeline"] == "p"
    assert not list(judged.path.parent.glob("*.part"))


def test_without_certificate_nothing_is_said_to_be_intact(judged: Artifact):
    checked = check_certificate(judged.path)
    assert checked.certificate is None and not checked.intact and checked.weights_intact is None


def test_a_load_and_a_save_change_nothing(tmp_path: Path):
    judged = shipped(tmp_path)
    certify(judged, FACTS)
    rewritten(judged.path, lambda model: None)
    assert check_certificate(judged.path).intact


def test_a_file_that_is_written_in_another_order_is_told_from_one_that_computes_otherwise(
    tmp_path: Path,
):
    judged = shipped(tmp_path, functions=True)
    certify(judged, FACTS)
    rewritten(judged.path, lambda model: None)
    checked = check_certificate(judged.path)
    assert not checked.intact and checked.weights_intact
    (said,) = checked.changes
    assert "written again" in said


def test_bytes_that_compute_nothing_count_too(judged: Artifact):
    certify(judged, FACTS)
    raw = judged.path.read_bytes()
    judged.path.write_bytes(raw.replace(b"maker", b"faker"))
    checked = check_certificate(judged.path)
    assert not checked.intact and checked.weights_intact
    assert checked.changes[0].startswith("the bytes of the file")


def weight(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == "unused":
            tensor.raw_data = np.array([0.0, 1.0, 2.5]).tobytes()


def typed(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == "typed":
            tensor.float_data[1] = 2.5


def renamed(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == "unused":
            tensor.name = "used"


def lost(model: onnx.ModelProto) -> None:
    del model.graph.initializer[-1]


def node(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Sub"


def axis(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"


def opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 19


def added(model: onnx.ModelProto) -> None:
    model.metadata_props.add(key="author", value="someone")


def altered(model: onnx.ModelProto) -> None:
    model.metadata_props[0].value = "another"


def dropped(model: onnx.ModelProto) -> None:
    del model.metadata_props[0]


def verdict(model: onnx.ModelProto) -> None:
    for item in model.metadata_props:
        if item.key == f"{PREFIX}verdict":
            item.value = "pass, really"


def twice(model: onnx.ModelProto) -> None:
    model.metadata_props.add(key=f"{PREFIX}verdict", value="pass")


def unsealed(model: onnx.ModelProto) -> None:
    for index, item in enumerate(model.metadata_props):
        if item.key == f"{PREFIX}seal":
            del model.metadata_props[index]
            return


def garbled(model: onnx.ModelProto) -> None:
    for item in model.metadata_props:
        if item.key == f"{PREFIX}metadata_sha256":
            item.value = "[" * 100_000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (weight, "the weights: values"),
        (typed, "the weights: values"),
        (renamed, "the weights: values, names"),
        (lost, "the weights: 3 initialisers were certified, there are 2"),
        (node, "the graph: nodes"),
        (axis, "the graph: nodes, attributes, inputs"),
        (opset, "the graph: nodes"),
        (added, "the metadata: new: author"),
        (altered, "the metadata: another value: export_verify.pipeline"),
        (dropped, "the metadata: gone: export_verify.pipeline"),
        (verdict, "the certificate: its own digest"),
        (twice, "the certificate: its own digest"),
        (unsealed, "the certificate: its own digest"),
        (garbled, "the certificate: its own digest"),
    ],
)
def test_what_has_changed_is_named_and_nothing_else(judged: Artifact, change: Change, said: str):
    certify(judged, FACTS)
    rewritten(judged.path, change)
    checked = check_certificate(judged.path)
    assert not checked.intact
    assert checked.changes[0].startswith(said)
    if change is not garbled:
        assert len(checked.changes) == 1
    assert checked.weights_intact is not said.startswith("the weights")


def test_one_bit_of_a_weight_in_place_is_seen(judged: Artifact):
    certify(judged, FACTS)
    data = judged.path.with_name("model.onnx.data")
    place = data if data.exists() else judged.path
    raw = bytearray(place.read_bytes())
    at = raw.index(np.ones(8, np.float32).tobytes()) + 64
    raw[at] ^= 1
    place.write_bytes(raw)
    checked = check_certificate(judged.path)
    assert checked.weights_intact is False
    assert checked.changes == ("the weights: values, names or dtypes of initialisers",)


def test_bytes_of_external_data_that_no_weight_uses_are_seen(tmp_path: Path):
    judged = shipped(tmp_path, split=True)
    certify(judged, FACTS)
    with judged.path.with_name("model.onnx.data").open("ab") as stream:
        stream.write(b"more")
    (said,) = check_certificate(judged.path).changes
    assert "model.onnx.data" in said and "no weight uses" in said


def test_weights_that_move_to_another_file_are_the_same_weights(tmp_path: Path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = shipped(tmp_path / "one"), shipped(tmp_path / "two", split=True)
    assert two.external
    assert read_contents(one.path).weights == read_contents(two.path).weights
    assert read_contents(one.path).graph == read_contents(two.path).graph


def test_only_what_was_judged_is_certified(judged: Artifact):
    rewritten(judged.path, weight)
    now = judged.path.read_bytes()
    with pytest.raises(ArtifactError, match="changed while it was judged"):
        certify(judged, FACTS)
    assert judged.path.read_bytes() == now
    assert not list(judged.path.parent.glob("*.part"))


def test_external_data_must_be_what_was_judged(tmp_path: Path):
    judged = shipped(tmp_path, split=True)
    data = judged.path.with_name("model.onnx.data")
    data.write_bytes(data.read_bytes()[:-4] + b"abcd")
    with pytest.raises(ArtifactError, match="changed while it was judged"):
        certify(judged, FACTS)
    assert check_certificate(judged.path).certificate is None


def test_there_is_one_certificate_at_most(judged: Artifact):
    certify(judged, FACTS)
    with pytest.raises(ArtifactError, match="has a certificate already"):
        certify(judged, FACTS)


def test_a_fact_cannot_take_the_place_of_a_digest(judged: Artifact):
    with pytest.raises(ValueError, match="content_sha256"):
        certify(judged, {**FACTS, "content_sha256": "0"})


def test_an_interruption_leaves_the_file_without_certificate(
    judged: Artifact, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(source: object, target: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(certificate.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        certify(judged, FACTS)
    assert sha256_of(judged.path) == judged.sha256
    assert check_certificate(judged.path).certificate is None
    assert not list(judged.path.parent.glob("*.part"))


def test_taking_it_off_gives_the_judged_bytes_back(judged: Artifact):
    assert strip_certificate(judged.path) is False
    certify(judged, FACTS)
    assert strip_certificate(judged.path) is True
    assert sha256_of(judged.path) == judged.sha256
    assert check_certificate(judged.path).certificate is None


def test_taking_it_off_leaves_another_name_of_the_file_alone(judged: Artifact):
    certify(judged, FACTS)
    kept = judged.path.with_name("kept.onnx")
    os.link(judged.path, kept)
    before = kept.read_bytes()
    assert strip_certificate(judged.path)
    assert kept.read_bytes() == before
    assert sha256_of(judged.path) == judged.sha256


def test_it_comes_off_too_when_something_stands_behind_it(tmp_path: Path):
    judged = shipped(tmp_path)
    certify(judged, FACTS)
    with judged.path.open("ab") as stream:
        stream.write(metadata_field("late", "x"))
    assert check_certificate(judged.path).changes == ("the metadata: new: late",)
    assert strip_certificate(judged.path)
    assert read_contents(judged.path).metadata == {"export_verify.pipeline": "p", "late": "x"}


@pytest.mark.parametrize("content", [b"", b"no protobuf", b"\x08\x0a", bytes(100), b"\x3a\x02\x2a"])
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match="not an ONNX file, or cut off"):
        check_certificate(tmp_path / "m.onnx")


@pytest.mark.parametrize("kept", [0.999, 0.9, 0.5, 0.01])
def test_a_certified_file_that_is_cut_off_is_never_intact(judged: Artifact, kept: float):
    certify(judged, FACTS)
    raw = judged.path.read_bytes()
    judged.path.write_bytes(raw[: int(kept * len(raw))])
    try:
        assert not check_certificate(judged.path).intact
    except ArtifactError as error:
        assert "cut off" in error.problem or "external" in error.problem


def test_external_data_is_only_read_beside_the_file(tmp_path: Path):
    judged = shipped(tmp_path, split=True)

    def elsewhere(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            for item in tensor.external_data:
                item.value = "/etc/passwd" if item.key == "location" else item.value

    rewritten(judged.path, elsewhere)
    with pytest.raises(ArtifactError, match="lies outside the file's folder"):
        check_certificate(judged.path)


@pytest.mark.parametrize("entries", [{"location": "\0"}, {"offset": "-1"}, {"offset": "x"}])
def test_damaged_entries_of_external_data_are_said(tmp_path: Path, entries: dict[str, str]):
    judged = shipped(tmp_path, split=True)

    def damaged(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            for item in tensor.external_data:
                item.value = entries.get(item.key, item.value)

    rewritten(judged.path, damaged)
    with pytest.raises(ArtifactError, match="external data"):
        check_certificate(judged.path)
