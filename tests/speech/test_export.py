"""The front end as one graph: captured and in ONNX at lengths that were not the example."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from exporter.cases.draw import draw
from exporter.graph.capture import capture, keep_recurrent_ops, quiet_exporter
from exporter.graph.recurrent import TRANSLATIONS
from exporter.speech.cmvn import Cmvn, seeded_cmvn
from exporter.speech.cut import CutSegments
from exporter.speech.fbank import KaldiFbank
from exporter.speech.lfr import LowFrameRate
from exporter.speech.segments import SpeechSegments
from exporter.speech.vad import SileroVad

from .upstream import golden

LENGTHS = [0, 1, 399, 400, 511, 512, 513, 559, 560, 16000, 31999, 160000]


class FrontEnd(nn.Module):
    """Waveform to features, one row per segment."""

    def __init__(self, **segment_settings) -> None:
        super().__init__()
        self.vad = SileroVad.from_package()
        self.segments = SpeechSegments(**segment_settings)
        self.cut = CutSegments(granularity=self.segments.granularity)
        self.features = Features()

    def forward(self, waveform):
        probs = self.vad(waveform)
        segments = self.segments(probs, waveform.shape[0])
        pieces, lengths = self.cut(waveform, segments)
        frames, counts = self.features(pieces, lengths)
        return probs, segments, frames, counts


class Features(nn.Module):
    """A batch of rows to features."""

    def __init__(self) -> None:
        super().__init__()
        self.fbank = KaldiFbank()
        self.lfr = LowFrameRate(7, 6)
        self.cmvn = Cmvn(*seeded_cmvn(560, 0))

    def forward(self, pieces, lengths):
        frames, counts = self.lfr(*self.fbank(pieces, lengths))
        return self.cmvn(frames, counts), counts


class Exported:
    """A module, its captured program and its ONNX session."""

    def __init__(self, module: nn.Module, example: dict, dynamic: dict) -> None:
        self.module = module.eval().requires_grad_(False)
        program = capture(self.module, example, dynamic)
        self.captured = program.module()
        with torch.no_grad(), keep_recurrent_ops(), quiet_exporter():
            converted = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=18,
                optimize=False,
                verbose=False,
                custom_translation_table=TRANSLATIONS,
            )
        assert converted is not None
        self.proto: onnx.ModelProto = converted.model_proto
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            self.proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.names = list(example)

    def run(self, *inputs: torch.Tensor) -> tuple[list, list, list]:
        """Results of PyTorch, of the captured program and of ONNX, as numpy arrays."""
        eager = [value.numpy() for value in self.module(*inputs)]
        captured = [value.numpy() for value in self.captured(*inputs)]
        feed = {name: value.numpy() for name, value in zip(self.names, inputs, strict=True)}
        return eager, captured, list(self.session.run(None, feed))


def same(one: list, other: list, limit: float) -> None:
    for expected, found in zip(one, other, strict=True):
        assert found.shape == expected.shape
        assert found.dtype == expected.dtype
        if expected.dtype == np.int64:
            assert (found == expected).all()
        elif expected.size:
            assert np.abs(found - expected).max() <= limit


@pytest.fixture(scope="module")
def front_end() -> Exported:
    axis = {"waveform": {0: torch.export.Dim("num_samples")}}
    return Exported(FrontEnd(max_segment_ms=2000), {"waveform": golden("english")}, axis)


@pytest.mark.parametrize("length", LENGTHS)
def test_every_length_gives_the_same_in_pytorch_captured_and_onnx(front_end, length) -> None:
    speech = golden("english")
    for waveform in (speech[:length], speech[20000 : 20000 + length], torch.zeros(length)):
        eager, captured, found = front_end.run(waveform)
        same(eager, captured, 1e-4)
        same(eager, found, 2e-4)
        probs, segments, frames, counts = found
        assert probs.shape == (-(-len(waveform) // 512),)
        assert len(frames) == len(counts) == max(len(segments), 1)


def test_one_minute_with_many_segments(front_end) -> None:
    eager, captured, found = front_end.run(golden("long"))
    same(eager, captured, 1e-4)
    same(eager, found, 2e-4)
    assert len(found[1]) > 25
    assert (np.diff(found[1], axis=1) <= 32000).all()


def test_silence_has_no_segments_and_one_guard_row(front_end) -> None:
    _, _, (probs, segments, frames, counts) = front_end.run(golden("silence"))
    assert probs.max() < 0.5
    assert segments.shape == (0, 2)
    assert counts.tolist() == [0]
    assert (frames == 0).all()


def test_no_size_of_the_example_is_baked_into_an_output(front_end) -> None:
    for output in front_end.proto.graph.output:
        sizes = [dim.dim_value for dim in output.type.tensor_type.shape.dim]
        assert all(size in (0, 2, 560) for size in sizes), (output.name, sizes)


def test_the_graph_has_one_lstm_and_no_slow_lookups(front_end) -> None:
    ops = Counter(node.op_type for node in front_end.proto.graph.node)
    assert ops["LSTM"] == 1
    assert ops["CumSum"] == 2
    for slow in ("GatherND", "GatherElements", "ScatterND", "Loop", "Scan", "If", "Floor"):
        assert ops[slow] == 0, slow


def test_segments_stay_exact_beyond_2_to_the_24_samples_in_onnx() -> None:
    """The exporter writes some integer divisions through float32; none of ours."""

    class FromProbabilities(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.segments = SpeechSegments()

        def forward(self, probs, num_samples):
            return (self.segments(probs, num_samples),)

    example = {"probs": torch.rand(50), "num_samples": torch.tensor(50 * 512)}
    dynamic = {"probs": {0: torch.export.Dim("frames")}, "num_samples": None}
    exported = Exported(FromProbabilities(), example, dynamic)
    probs = torch.zeros(70001)
    probs[69001:69100] = 0.9
    probs[::977] = 0.6
    eager, captured, found = exported.run(probs, torch.tensor(70001 * 512 - 5))
    same(eager, captured, 0)
    same(eager, found, 0)
    assert found[0].tolist()[-1] == [69001 * 512 - 480, 69100 * 512 + 480]
    for frames in (0, 1, 2, 9, 300):
        eager, captured, found = exported.run(torch.ones(frames), torch.tensor(frames * 512))
        same(eager, captured, 0)
        same(eager, found, 0)
        assert len(found[0]) == (frames * 512 > 4000)


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("samples", [0, 1, 399, 400, 559, 560, 1359, 1360, 31999])
def test_a_batch_of_any_size_gives_the_same(batch, rows, samples) -> None:
    waveforms = torch.from_numpy(draw("normal", (rows, samples), seed=samples)) * 0.1
    lengths = torch.from_numpy(draw("integers", rows, seed=rows, low=0, high=samples + 1))
    eager, captured, found = batch.run(waveforms, lengths)
    same(eager, captured, 1e-4)
    same(eager, found, 1e-4)


@pytest.fixture(scope="module")
def batch() -> Exported:
    rows, samples = torch.export.Dim("batch"), torch.export.Dim("num_samples")
    example = {"pieces": torch.rand(3, 5000), "lengths": torch.tensor([5000, 3000, 300])}
    return Exported(Features(), example, {"pieces": {0: rows, 1: samples}, "lengths": {0: rows}})
