"""Faults in front of the model: VAD, segments, cutting, features, stacking, normalisation."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from exporter.speech.fbank import frame_kernel, mel_matrix
from tests.faults.editor import Editor
from tests.faults.fault import Fault

NETWORK = "vad.network"
LSTM = "vad.network.lstm"


def vad_context_dropped(graph: Editor) -> None:
    """The 64 samples before each VAD frame are zero."""
    graph.insert(graph.node(NETWORK, "cat"), 0, "Mul", np.float32(0))


def vad_mirror_is_edge(graph: Editor) -> None:
    """The VAD frame is continued with its last sample instead of its mirror image."""
    node = graph.node(NETWORK, "index_select")
    graph.give(node, 1, np.full_like(graph.own(node, 1), 511))


def vad_relu_removed(graph: Editor) -> None:
    """A Relu of the VAD's encoder is gone."""
    graph.bypass(graph.node("vad.network.encoder.3", "relu"))


def vad_conv_padding_shifted(graph: Editor) -> None:
    """A convolution of the VAD pads 0 and 2 instead of 1 and 1."""
    graph.set(graph.node("vad.network.encoder.2", "conv2d"), pads=[0, 0, 0, 2])


def lstm_state_not_reset(graph: Editor) -> None:
    """The VAD's LSTM starts from the state that another recording left."""
    node = graph.behind(graph.tap(LSTM, "getitem"), "LSTM")
    left = np.tanh(np.random.default_rng(5).standard_normal((2, 1, 1, 128))).astype(np.float32)
    kept = [*node.input, *[""] * (5 - len(node.input))]
    node.input[:] = [*kept[:5], graph.constant(left[0]), graph.constant(left[1])]


def lstm_gates_in_torch_order(graph: Editor) -> None:
    """The LSTM's recurrent weight keeps torch's gate order (i f c o), not ONNX's (i o f c)."""
    node = graph.behind(graph.tap(LSTM, "getitem"), "LSTM")
    i, o, f, c = np.split(graph.own(node, 2), 4, axis=1)
    graph.give(node, 2, np.concatenate([i, f, c, o], axis=1))


def vad_sigmoid_is_hard(graph: Editor) -> None:
    """The VAD ends in HardSigmoid instead of Sigmoid."""
    node = graph.node(NETWORK, "sigmoid")
    graph.replace(node, "HardSigmoid", node.input[0])


def threshold_changed(graph: Editor) -> None:
    """The VAD threshold is 0.51 instead of 0.5."""
    graph.give(graph.node("segmenter", "ge"), 1, np.float32(0.51))


def min_silence_one_frame_shorter(graph: Editor) -> None:
    """Three frames of silence end a segment instead of four."""
    graph.give(graph.node("segmenter", "ge", 1), 1, np.int64(3))


def far_neighbour_overflows_int32(graph: Editor) -> None:
    """The place of the next segment passes through int32, where 2^60 becomes 0."""
    node = graph.behind(graph.tap("segmenter", "lt", 3), "Sub")
    graph.insert(node, 0, "Cast", to=TensorProto.INT32)
    graph.insert(node, 0, "Cast", to=TensorProto.INT64)


def padding_shared_with_neighbour_halved(graph: Editor) -> None:
    """Segments get 15 ms of padding in front instead of 30."""
    graph.give(graph.node("segmenter", "where", 1), 2, np.int64(240))


def cut_one_millisecond_late(graph: Editor) -> None:
    """Each row of samples begins one millisecond behind its segment's start."""
    graph.insert(graph.node("cut", "add"), 0, "Add", np.int64(1))


def row_runs_into_the_next_segment(graph: Editor) -> None:
    """Short rows are filled up with what follows in the recording, not with zeros."""
    node = graph.node("cut", "where")
    graph.replace(node, "Min", node.input[1], node.input[2])


def preemphasis_of_095(graph: Editor) -> None:
    """Pre-emphasis is 0.95 instead of 0.97."""
    _new_kernel(graph, "hamming", 0.95)


def window_is_hann(graph: Editor) -> None:
    """The analysis window is Hann instead of Hamming."""
    _new_kernel(graph, "hanning", 0.97)


def _new_kernel(graph: Editor, window: str, preemphasis: float) -> None:
    used = np.flatnonzero(mel_matrix(80, 512, 16000, 20, 0).any(axis=0))
    kernel = frame_kernel(400, 512, used, window, preemphasis) * 32768
    graph.store("fbank.kernel", kernel[:, None])


def mel_high_cut_at_7600(graph: Editor) -> None:
    """The mel filters end at 7,600 Hz instead of 8,000."""
    used = np.flatnonzero(mel_matrix(80, 512, 16000, 20, 0).any(axis=0))
    graph.store("fbank.mel", mel_matrix(80, 512, 16000, 20, 7600)[:, used].T)


def dither_left_on(graph: Editor) -> None:
    """Noise of one unit of int16 is added to the samples before the filter bank."""
    node = graph.node("fbank", "pad")
    noise = graph.add_before(node, "RandomNormalLike", [node.input[0]], scale=1 / 32768, seed=1.0)
    node.input[0] = graph.add_before(node, "Add", [node.input[0], noise])


def log_floor_lowered(graph: Editor) -> None:
    """Mel energies are floored at 1e-10 before the logarithm instead of 1.19e-7."""
    node = graph.node("fbank", "clamp")
    graph.give(node, 1, np.float32(1e-10))


def power_is_magnitude(graph: Editor) -> None:
    """The mel filters see magnitudes instead of powers."""
    graph.insert(graph.node("fbank", "matmul"), 0, "Sqrt")


def lfr_clamp_off_by_one(graph: Editor) -> None:
    """The last frame that is stacked is one behind the end."""
    graph.give(graph.node("lfr", "sub"), 1, np.int64(0))


def lfr_frame_count_baked(graph: Editor) -> None:
    """The number of stacks is the one of the example."""
    node = graph.producer(graph.size("lfr", "floordiv"))
    graph.replace(node, "Identity", graph.constant(np.int64(21)))


def lfr_without_left_context(graph: Editor) -> None:
    """A stack is the frames 0..6 behind its place instead of -3..3 around it."""
    graph.store("lfr.offset", np.arange(7))


def cmvn_skipped(graph: Editor) -> None:
    """Features are not normalised."""
    graph.bypass(graph.node("cmvn", "add"))
    graph.bypass(graph.node("cmvn", "mul"))


def cmvn_divides_by_variance(graph: Editor) -> None:
    """Features are divided by the variance instead of the standard deviation."""
    graph.store("cmvn.scale", graph.array("cmvn.scale") ** 2)


INITIALISER = ("weight", "constant")
SPEECH_FAULTS = (
    Fault(
        change=vad_context_dropped,
        layers=("vad", NETWORK),
        finding=("node added",),
        detail="Mul",
    ),
    Fault(change=vad_mirror_is_edge, layers=(NETWORK,), finding=INITIALISER, detail="511"),
    Fault(change=vad_relu_removed, layers=("vad.network.encoder.3",), finding=("op changed",)),
    Fault(
        change=vad_conv_padding_shifted,
        layers=("vad.network.encoder.2",),
        finding=("attribute",),
        detail="pads",
    ),
    Fault(
        change=lstm_state_not_reset,
        layers=(LSTM,),
        finding=("inputs changed",),
        detail="initial_h",
    ),
    Fault(change=lstm_gates_in_torch_order, layers=(LSTM,), finding=("weight",)),
    Fault(
        change=vad_sigmoid_is_hard,
        layers=(NETWORK,),
        finding=("op changed",),
        detail="HardSigmoid",
    ),
    Fault(change=threshold_changed, layers=("segmenter",), finding=("constant",), detail="0.50999"),
    Fault(
        change=min_silence_one_frame_shorter,
        layers=("segmenter",),
        finding=("constant",),
        detail="3",
    ),
    Fault(
        change=far_neighbour_overflows_int32,
        layers=("segmenter",),
        finding=("node added",),
        detail="Cast",
    ),
    Fault(
        change=padding_shared_with_neighbour_halved,
        layers=("segmenter",),
        finding=("constant",),
        detail="240",
    ),
    Fault(change=cut_one_millisecond_late, layers=("cut",), finding=("node added",), detail="Add"),
    Fault(
        change=row_runs_into_the_next_segment,
        layers=("cut",),
        finding=("op changed",),
        detail="Min",
    ),
    Fault(change=preemphasis_of_095, layers=("fbank",), finding=("weight",), detail="fbank.kernel"),
    Fault(change=window_is_hann, layers=("fbank",), finding=("weight",), detail="fbank.kernel"),
    Fault(change=mel_high_cut_at_7600, layers=("fbank",), finding=("weight",), detail="fbank.mel"),
    Fault(
        change=dither_left_on,
        layers=("fbank",),
        finding=("node added",),
        detail="RandomNormalLike",
    ),
    Fault(
        change=log_floor_lowered,
        layers=("fbank",),
        finding=("inputs changed", "constant"),
        detail="1e-10",
    ),
    Fault(change=power_is_magnitude, layers=("fbank",), finding=("node added",), detail="Sqrt"),
    Fault(change=lfr_clamp_off_by_one, layers=("lfr",), finding=("constant",)),
    Fault(change=lfr_frame_count_baked, layers=("lfr",), finding=("op changed",), detail="Div"),
    Fault(
        change=lfr_without_left_context, layers=("lfr",), finding=("weight",), detail="lfr.offset"
    ),
    Fault(change=cmvn_skipped, layers=("cmvn",), finding=("op changed",), detail="Identity"),
    Fault(
        change=cmvn_divides_by_variance,
        layers=("cmvn",),
        finding=("weight",),
        detail="cmvn.scale",
    ),
)
