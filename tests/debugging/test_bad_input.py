"""Input of the user that cannot be debugged: one message, exit 2."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from exporter import cli
from exporter.debugging.pair import Pair
from exporter.graph.onnx_file import read_model
from tests.support.tiny_run import ROOT, TINY, TinyRun

Said = Callable[..., str]


@pytest.fixture
def said(tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Said:
    """Run ``debug`` with more arguments; it must end with exit 2. Returns what it said."""

    def run(*arguments: object, pipeline: Path = TINY, folder: Path | None = None) -> str:
        texts = [str(a) for a in arguments]
        folder = folder or tiny_run.folder
        given = ["debug", str(pipeline), "--output-dir", str(folder), "--threads", "1", "--quiet"]
        code = cli.main([*given, "--bundles", str(tmp_path / "bundles"), *texts])
        printed = capsys.readouterr().err
        assert code == 2, printed
        assert "Traceback" not in printed
        assert not (tmp_path / "bundles").exists()
        return printed

    return run


def test_no_report_yet(said: Said, tmp_path: Path):
    assert "run the pipeline first" in said(folder=tmp_path)


def test_a_run_of_another_pipeline(said: Said):
    assert "'sensevoice_tiny'" in said(pipeline=ROOT / "pipelines" / "sensevoice_batch_tiny.yaml")


def test_a_model_that_was_changed_after_the_run(said: Said, folder_of, pair: Pair):
    model = onnx.ModelProto()
    model.CopyFrom(read_model(pair.path))
    model.graph.doc_string = "changed"
    told = said(folder=folder_of(model_onnx=model.SerializeToString()))
    assert "not the file that report.json describes" in told
    assert "--onnx" in told


def test_a_captured_program_that_is_cut_off(said: Said, tiny_run: TinyRun, folder_of):
    folder = folder_of()
    (folder / "program").unlink()
    (folder / "program").mkdir()
    text = (tiny_run.folder / "program" / "ops.json").read_bytes()
    (folder / "program" / "ops.json").write_bytes(text[: len(text) // 2])
    assert "the captured program cannot be read" in said(folder=folder)


def test_a_misspelt_layer(said: Said):
    told = said("--layer", "model.encoder.encoders.0.self_atn")
    assert "did you mean: model.encoder.encoders.0.self_attn" in told


def test_an_unknown_case(said: Said):
    assert "its cases: english" in said("--case", "englsh")


def test_layer_and_all_exclude_each_other(said: Said):
    assert "exclude each other" in said("--layer", "fbank", "--all")


def test_a_file_that_does_not_exist(said: Said):
    assert "does not exist" in said("--onnx", "nowhere.onnx")


def test_a_protobuf_that_is_cut_off(said: Said, tiny_run: TinyRun, tmp_path: Path):
    path = tmp_path / "cut.onnx"
    path.write_bytes(tiny_run.model_path.read_bytes()[:100_000])
    assert "cut off" in said("--onnx", path)


def other(pair: Pair, **metadata: str | None) -> onnx.ModelProto:
    """The run's graph with other metadata."""
    model = onnx.ModelProto()
    model.CopyFrom(read_model(pair.path))
    held = {entry.key: entry.value for entry in model.metadata_props}
    held |= {f"export_verify.{key}": value for key, value in metadata.items()}
    del model.metadata_props[:]
    for key, value in held.items():
        if value is not None:
            model.metadata_props.add(key=key, value=value)
    return model


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"graph_digest": "0" * 64, "pipeline": "whisper"}, "another pipeline"),
        ({"graph_digest": None}, "beside an export with torch's own names"),
        ({"weights_digest": "0" * 64}, "other weights"),
    ],
)
def test_a_file_of_something_else(
    said: Said, pair: Pair, tmp_path: Path, metadata: dict[str, str | None], words: str
):
    path = tmp_path / "other.onnx"
    onnx.save(other(pair, **metadata), str(path))
    assert words in said("--onnx", path)


def test_a_file_with_an_input_that_the_pipeline_lacks(said: Said, pair: Pair, tmp_path: Path):
    model = other(pair)
    extra = model.graph.input.add()
    extra.CopyFrom(model.graph.input[0])
    extra.name = "beam_size"
    path = tmp_path / "input.onnx"
    onnx.save(model, str(path))
    assert "'beam_size'" in said("--onnx", path)


@pytest.mark.parametrize(("keep", "words"), [(None, "is missing"), (100, "has 100 bytes")])
def test_external_data_that_is_missing_or_too_short(
    said: Said, pair: Pair, tmp_path: Path, keep: int | None, words: str
):
    model = other(pair)
    tensor = model.graph.initializer.add(name="w", data_type=1, dims=[1000])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "w.data"), ("offset", "0"), ("length", "4000")):
        tensor.external_data.add(key=key, value=value)
    path = tmp_path / "external.onnx"
    path.write_bytes(model.SerializeToString())
    if keep is not None:
        (tmp_path / "w.data").write_bytes(bytes(keep))
    assert words in said("--onnx", path)


def test_a_report_that_is_not_one(said: Said, folder_of):
    folder = folder_of(report_json=json.dumps({"schema_version": "0.0"}).encode())
    assert "schema version" in said(folder=folder)
