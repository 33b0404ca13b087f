"""A stream held against what lies elsewhere: another pipeline, another file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from exporter.build.build import build
from exporter.config import load_pipeline
from exporter.contracts.onnx_side import opened
from exporter.contracts.runner import declared_settings
from exporter.contracts.stream.check import of_file
from exporter.core.errors import ConfigError
from exporter.flows.verify import verify
from exporter.graph.wrap import wrap
from exporter.parity.status import Status
from exporter.report.progress import Progress
from tests.support.planted_stream_files import Stand, not_returned, stand_of
from tests.support.planted_streams import FOLDER, Planted, judged

pytestmark = pytest.mark.slow
BESIDE = FOLDER / "zipformer_beside_offline.yaml"


def test_another_pipeline_sees_the_whole():
    pipeline = load_pipeline(BESIDE).with_trust()
    wrapped = wrap(pipeline)
    found = judged(pipeline, wrapped, limits=True)
    assert found.status is Status.PASS, found.reason
    assert found.observed == "lookahead 7 steps (70 ms), latency 9 steps (90 ms)"
    lost = Planted(pipeline="", words="", told="", lost=("next_caches.0",))
    found = judged(pipeline, wrapped, lost)
    assert found.status is Status.FAIL and "from call 1 on" in found.reason


def test_code_of_another_pipeline_is_run_only_when_it_is_trusted():
    pipeline = load_pipeline(BESIDE).with_trust()
    wrapped = wrap(pipeline)
    with pytest.raises(ConfigError, match="model.factory"):
        judged(load_pipeline(BESIDE), wrapped)


def test_a_method_beside_another_pipeline_is_refused(tmp_path):
    path = tmp_path / "both.yaml"
    both = "offline: {method: forward, pipeline: other.yaml}"
    path.write_text(f"extends: {BESIDE}\ncontracts:\n  stream:\n    {both}\n")
    pipeline = load_pipeline(path)
    with pytest.raises(ConfigError, match="leave it out"):
        declared_settings(pipeline.contracts, pipeline=pipeline)


def test_paths_count_from_the_yaml(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"extends: {BESIDE}\ncontracts:\n  stream:\n    offline_file: {{path: whole.onnx}}\n"
    )
    stream = load_pipeline(path).contracts["stream"]
    assert stream["offline_file"]["path"] == str(tmp_path / "whole.onnx")
    assert stream["offline"]["pipeline"] == str(FOLDER / "zipformer_offline.yaml")


@pytest.fixture(scope="module")
def stand(tmp_path_factory) -> Stand:
    """The streaming file, with the offline file declared beside it."""
    folder = tmp_path_factory.mktemp("files")
    held = stand_of("zipformer", folder / "stream")
    pipeline = load_pipeline(FOLDER / "zipformer_offline.yaml").with_trust()
    (folder / "offline").mkdir()
    built = build(pipeline, folder / "offline", Progress(quiet=True), prepare=lambda: None)
    return replace(held, settings=beside(held, built.shipped.path))


def beside(held: Stand, path, **more):
    given = {"path": path, "padded": True, **more}
    return type(held.settings).model_validate(
        {**held.settings.model_dump(exclude_unset=True), "offline_file": given}
    )


def changed(path, to, plant):
    model = onnx.load(path)
    plant(model)
    onnx.save(model, to)
    return to


def other_weights(model: onnx.ModelProto) -> None:
    for held in model.graph.initializer:
        if held.name == "model.out.bias":
            value = numpy_helper.to_array(held) + np.float32(0.5)
            held.CopyFrom(numpy_helper.from_array(value, held.name))


def judged_files(stand: Stand, stream=None, settings=None):
    stand.target.onnx = opened(stream or stand.file)
    return of_file(stand.target, settings or stand.settings, stand.whole)


def test_two_files_of_one_model_pass(stand):
    found = judged_files(stand)
    assert found.status is Status.PASS, found.reason
    assert "equal the whole" in found.details["the two files"]


def test_the_file_that_is_wrong_is_named(stand, tmp_path):
    offline = stand.settings.offline_file.path
    lost = changed(stand.file, tmp_path / "s.onnx", not_returned("next_caches.0", "caches.0"))
    found = judged_files(stand, lost)
    assert found.status is Status.FAIL and "from call 1 on" in found.reason
    other = changed(offline, tmp_path / "o.onnx", other_weights)
    found = judged_files(stand, settings=beside(stand, other))
    assert found.status is Status.FAIL and "the offline file is not PyTorch's" in found.reason
    both = changed(stand.file, tmp_path / "b.onnx", other_weights)
    found = judged_files(stand, both, beside(stand, other))
    assert found.status is Status.FAIL and "both files are of another model" in found.reason


def test_an_offline_file_that_cannot_be_used_is_not_green(stand, tmp_path):
    with pytest.raises(ConfigError, match="no file"):
        judged_files(stand, settings=beside(stand, tmp_path / "none.onnx"))
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    found = judged_files(stand, settings=beside(stand, tmp_path / "bad.onnx"))
    assert found.status is Status.NOT_RUN
    offline = stand.settings.offline_file.path
    found = judged_files(stand, settings=beside(stand, offline, outputs=["other"]))
    assert found.status is Status.NOT_RUN and "gives no 'y'" in found.reason
    with pytest.raises(ConfigError, match="has no input"):
        judged_files(stand, settings=beside(stand, offline, inputs={"x": "features"}))


def test_verify_holds_a_given_file_against_the_contract(stand, tmp_path):
    options = {"trust": True, "cache": False, "output_dir": tmp_path / "out"}
    yaml = FOLDER / "zipformer_stream.yaml"
    report = verify(yaml, stand.file, **options)
    kept = [(held.name, held.side, held.verdict, held.reason) for held in report.contracts]
    assert [held[:3] for held in kept] == [
        ("stream", "torch", "pass"),
        ("stream", "onnx", "pass"),
    ], kept
    assert report.verdict == "pass", report.headline
    lost = changed(stand.file, tmp_path / "s.onnx", not_returned("next_caches.0", "caches.0"))
    report = verify(yaml, lost, **options)
    (file,) = (held for held in report.contracts if held.side == "onnx")
    assert (report.verdict, file.verdict) == ("fail", "fail")
    assert "from call 1 on" in file.reason and "aten.slice" in str(file.where)
