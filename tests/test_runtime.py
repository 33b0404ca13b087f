"""The runner gives what the whole file gives, in batches, and says what a user did wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from exporter.cases.audio import read_waveform
from exporter.core.errors import ArtifactError, AudioError, ExportVerifyError, UserInputError
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import FileRun, PartRun
from exporter.runtime import SpeechRunner
from tests.support.segment_toys import BLOCK, loud, toy_file

ROOT = Path(__file__).resolve().parents[1]
TOY_SECONDS = 2 * BLOCK / 16000
"""Two rows of a toy."""
PROMPTS = {"language": "en", "text_norm": "woitn"}


@pytest.mark.parametrize("blocks", [(), (3,), (0, 7), (1, 2, 4, 5, 6)])
def test_a_toy_gives_what_the_whole_file_gives(tmp_path: Path, blocks: tuple[int, ...]):
    path, waveform = toy_file(tmp_path), loud(*blocks)
    whole = FileRun(path).run({"waveform": waveform})
    found = SpeechRunner(path, max_padded_s=TOY_SECONDS).run(waveform)
    assert list(found) == list(whole)
    for name in ("segments", "peaks", "total"):
        assert np.array_equal(found[name], whole[name]) and found[name].dtype == whole[name].dtype


def test_batches_are_as_small_as_asked(tmp_path: Path):
    runner = SpeechRunner(toy_file(tmp_path), max_padded_s=TOY_SECONDS)
    sizes = runner.run(loud(1, 2, 4, 5, 6))["row_sizes"]
    # Each row holds how many rows it was computed with, once per row; -1 fills up.
    assert sorted(int(row.max()) for row in sizes) == [1, 2, 2, 2, 2]


def test_a_count_that_is_not_of_the_segments_is_refused(tmp_path: Path):
    other = [
        helper.make_node("Shape", ["peaks"], ["num_blocks"]),
        helper.make_node("Add", ["segments", "num_blocks"], ["wrong"]),
    ]
    runner = SpeechRunner(toy_file(tmp_path, extra=other, outputs=["segments", "wrong"]))
    with pytest.raises(ArtifactError, match="'num_blocks' is not the number of segments"):
        runner.run(loud(1, 2))


def test_an_output_without_a_row_per_segment_is_refused(tmp_path: Path):
    summed = helper.make_node("ReduceSum", ["segments"], ["all"])
    runner = SpeechRunner(toy_file(tmp_path, extra=[summed], outputs=["segments", "all"]))
    with pytest.raises(ArtifactError, match="'all' has the shape"):
        runner.run(loud(1, 2))


@pytest.mark.parametrize(
    ("waveform", "rate", "said"),
    [
        (loud(1), 8000, "8000 Hz"),
        (loud(1).reshape(1, -1), None, "shape"),
        (loud(1)[:0], None, "shape"),
        ((loud(1) * 100).astype(np.int16), 16000, "int16"),
    ],
)
def test_wrong_audio_is_an_error_of_the_user(tmp_path: Path, waveform, rate, said: str):
    runner = SpeechRunner(toy_file(tmp_path))
    with pytest.raises(AudioError, match=said):
        runner.run(waveform, sample_rate_hz=rate)


def test_wrong_files_and_options_are_errors_of_the_user(tmp_path: Path):
    with pytest.raises(ArtifactError, match="no such ONNX file"):
        SpeechRunner(tmp_path / "none.onnx")
    with pytest.raises(ArtifactError, match="sample rate"):
        SpeechRunner(toy_file(tmp_path, metadata=False))
    path = toy_file(tmp_path)
    with pytest.raises(UserInputError, match="max_padded_s"):
        SpeechRunner(path, max_padded_s=0)
    with pytest.raises(UserInputError, match="given are the inputs language"):
        SpeechRunner(path).run(loud(1), language="en")


def test_it_loads_nothing_heavy():
    heavy = {"torch", "onnx_ir", "onnxscript", "onnxsim", "funasr", "pydantic", "yaml"}
    code = f"import sys, exporter.runtime\nprint(sorted(set(sys.modules) & {heavy!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.01, 1.5, 5.0, 60.0])
def test_the_tiny_pipeline_gives_what_its_whole_file_gives(tiny_run, seconds: float):
    runner = SpeechRunner(tiny_run.model_path, threads=1, max_padded_s=8)
    waveform = read_waveform(ROOT / "golden" / "audio" / "long.wav", 16000)
    _same(runner, tiny_run.model_path, waveform[: int(seconds * 16000)])


@pytest.mark.slow
def test_the_tiny_pipeline_on_silence(tiny_run):
    found = _same(
        SpeechRunner(tiny_run.model_path, threads=1),
        tiny_run.model_path,
        np.zeros(16000, np.float32),
    )
    assert found["segments"].shape == (0, 2)


@pytest.mark.slow
def test_prompts_are_given_by_name_or_number(tiny_run):
    runner = SpeechRunner(tiny_run.model_path, threads=1)
    waveform = np.zeros(1600, np.float32)
    runner.run(waveform, language=4, text_norm=np.array(15))
    with pytest.raises(UserInputError, match=r"'english' is no language\n.*one of auto, en"):
        runner.run(waveform, language="english", text_norm="woitn")
    with pytest.raises(ExportVerifyError, match="given are the inputs none"):
        runner.run(waveform)


@pytest.mark.slow
def test_weights_stay_in_the_file(tiny_run, monkeypatch: pytest.MonkeyPatch):
    sizes = []

    def note(self, part, *arguments, **options):
        sizes.append(part.model.ByteSize())
        made(self, part, *arguments, **options)

    made = PartRun.__init__
    monkeypatch.setattr(PartRun, "__init__", note)
    SpeechRunner(tiny_run.model_path, threads=1)
    assert len(sizes) == 2
    assert sum(sizes) < tiny_run.model_path.stat().st_size / 20


def _same(runner: SpeechRunner, path: Path, waveform: np.ndarray) -> dict[str, np.ndarray]:
    numbers = {"language": np.array(4), "text_norm": np.array(15)}
    whole = FileRun(path, Deployment(threads=1)).run({"waveform": waveform, **numbers})
    found = runner.run(waveform, sample_rate_hz=16000, **PROMPTS)
    assert list(found) == list(whole)
    for name, expected in whole.items():
        assert found[name].dtype == expected.dtype
        if expected.dtype == np.float32:
            np.testing.assert_allclose(found[name], expected, atol=1e-6)
        else:
            assert np.array_equal(found[name], expected), name
    return found


def said_of(path: Path, **values: str) -> Path:
    """The file with other words in its metadata."""
    model = onnx.load(path)
    kept = [held for held in model.metadata_props if held.key.rpartition(".")[2] not in values]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    for name, value in values.items():
        model.metadata_props.add(key=f"export_verify.{name}", value=value)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("rate", ["", "0", "-1", "²", "9" * 5000, "1e3", "16000.0"])
def test_a_rate_that_is_none_is_refused(tmp_path: Path, rate: str):
    with pytest.raises(ArtifactError, match="sample rate"):
        SpeechRunner(said_of(toy_file(tmp_path), sample_rate_hz=rate))


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, '{"language": 3}', "null"])
def test_choices_that_are_none_name_none(tmp_path: Path, text: str):
    runner = SpeechRunner(said_of(toy_file(tmp_path), input_choices=text))
    with pytest.raises(UserInputError, match="given are the inputs"):
        runner.run(loud(1), language="en")


def test_an_input_that_is_no_tensor_is_refused(tmp_path: Path):
    path = toy_file(tmp_path)
    model = onnx.load(path)
    table = onnx.TypeProto()
    table.map_type.key_type = 7
    model.graph.input.append(onnx.ValueInfoProto(name="table", type=table))
    onnx.save(model, path)
    with pytest.raises(ArtifactError, match="'table' is declared as no tensor"):
        SpeechRunner(path)


@pytest.mark.parametrize("domain", ["nowhere", "ai.onnx.ml"])
def test_a_file_of_which_no_types_are_known_is_onnxruntimes_to_refuse(tmp_path: Path, domain: str):
    path = toy_file(tmp_path)
    model = onnx.load(path)
    next(node for node in model.graph.node if node.op_type == "NonZero").domain = domain
    onnx.save(model, path)
    with pytest.raises(ExportVerifyError):
        SpeechRunner(path).run(loud(1, 2))
