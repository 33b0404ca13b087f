"""Faults inside the model: prompts, positions, attention, layers, weights, head, decoding."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from tests.faults.editor import Editor
from tests.faults.fault import Fault

ENCODER = "model.encoder"
FIRST = f"{ENCODER}.encoders0.0"
SECOND = f"{ENCODER}.encoders.0"
LAST = f"{ENCODER}.tp_encoders.0"
CTC = "model.ctc.ctc_lo"


def prompts_swapped(graph: Editor) -> None:
    """The language prompt stands where the text prompt belongs, and the other way round."""
    node = graph.node("model", "cat")
    node.input[0], node.input[2] = node.input[2], node.input[0]


def embedding_not_scaled(graph: Editor) -> None:
    """Features are not multiplied by the square root of the model's width."""
    graph.give(graph.node(ENCODER, "mul"), 1, np.float32(1))


def positions_from_zero(graph: Editor) -> None:
    """Positions are counted from 0 instead of 1."""
    graph.insert(graph.node(f"{ENCODER}.embed", "view"), 0, "Sub", np.float32(1))


def epsilon_of_the_first_norm(graph: Editor) -> None:
    """The first LayerNorm has epsilon 1e-6 instead of 1e-5."""
    graph.set(graph.node(f"{FIRST}.norm1", "layer_norm"), epsilon=1e-6)


def epsilon_of_a_deep_norm(graph: Editor) -> None:
    """The LayerNorm behind the last block has epsilon 1e-6 instead of 1e-5."""
    graph.set(graph.node(f"{ENCODER}.tp_norm", "layer_norm"), epsilon=1e-6)


def one_weight_element_zeroed(graph: Editor) -> None:
    """One of a million elements of a weight is zero."""
    name = graph.linear(f"{SECOND}.feed_forward.w_1").input[1]
    values = graph.array(name).copy()
    values[100, 1000] = 0
    graph.store(name, values)


def one_weight_element_in_float16(graph: Editor) -> None:
    """One of a million elements of a weight was rounded to float16."""
    name = graph.linear(f"{SECOND}.feed_forward.w_1").input[1]
    values = graph.array(name).copy()
    values[17, 23] = np.float32(np.float16(values[17, 23]))
    graph.store(name, values)


def square_weight_transposed(graph: Editor) -> None:
    """The attention's output weight is transposed; its shape hides it."""
    name = graph.linear(f"{SECOND}.self_attn.linear_out").input[1]
    graph.store(name, graph.array(name).T)


def query_and_key_swapped(graph: Editor) -> None:
    """Query and key change places."""
    query, key = (graph.node(f"{SECOND}.self_attn", "view", nth) for nth in (0, 1))
    query.input[0], key.input[0] = key.input[0], query.input[0]


def mask_dropped(graph: Editor) -> None:
    """Attention also looks at the padding of shorter segments."""
    graph.bypass(graph.node(f"{SECOND}.self_attn", "masked_fill"), 2)


def mask_value_finite(graph: Editor) -> None:
    """Masked scores are the least float32 instead of minus infinity."""
    node = graph.node(f"{LAST}.self_attn", "masked_fill")
    graph.give(node, 1, np.float32(np.finfo(np.float32).min))


def fsmn_mask_dropped(graph: Editor) -> None:
    """The memory block sees the padding of shorter segments."""
    graph.bypass(graph.node(f"{LAST}.self_attn", "mul"))


def softmax_over_queries(graph: Editor) -> None:
    """Softmax runs over the queries instead of the keys."""
    graph.set(graph.node(f"{LAST}.self_attn", "softmax"), axis=-2)


def scaled_twice(graph: Editor) -> None:
    """Queries are divided by the square root of the head's width twice."""
    node = graph.node(f"{FIRST}.self_attn", "mul", 2)
    graph.give(node, 1, graph.own(node, 1) ** 2)


def bias_missing(graph: Editor) -> None:
    """A linear layer has lost its bias."""
    graph.bypass(graph.node(f"{FIRST}.feed_forward.w_2", "linear"))


def relu_removed(graph: Editor) -> None:
    """The feed-forward's Relu is gone."""
    graph.bypass(graph.node(f"{SECOND}.feed_forward.activation", "relu"))


def fsmn_padding_shifted(graph: Editor) -> None:
    """The memory block pads 4 and 6 frames instead of 5 and 5."""
    node = graph.node(f"{SECOND}.self_attn.pad_fn", "pad")
    graph.give(node, 1, np.array([0, 0, 4, 0, 0, 6]))


def dropout_active(graph: Editor) -> None:
    """Dropout of 0.1 behind the feed-forward's Relu still draws at run time."""
    product = graph.linear(f"{FIRST}.feed_forward.w_2")
    graph.insert(product, 0, "Dropout", np.float32(0.1), np.bool_(True), seed=3)


def residual_dropped(graph: Editor) -> None:
    """A block's input is not added to what its attention computes."""
    graph.bypass(graph.node(SECOND, "add"), 1)


def weight_in_float16(graph: Editor) -> None:
    """The weight of one layer was rounded to float16."""
    name = graph.linear(f"{FIRST}.self_attn.linear_q_k_v").input[1]
    graph.store(name, graph.array(name).astype(np.float16))


def weight_in_int8(graph: Editor) -> None:
    """The weight of one layer was rounded to 8 bits, one scale per output."""
    name = graph.linear(f"{LAST}.feed_forward.w_1").input[1]
    values = graph.array(name)
    step = np.abs(values).max(axis=0) / 127
    graph.store(name, np.round(values / step) * step)


def layer_computed_in_float16(graph: Editor) -> None:
    """One layer's input passes through float16."""
    node = graph.linear(f"{SECOND}.feed_forward.w_2")
    graph.insert(node, 0, "Cast", to=TensorProto.FLOAT16)
    graph.insert(node, 0, "Cast", to=TensorProto.FLOAT)


def norm_weights_of_another_layer(graph: Editor) -> None:
    """A LayerNorm has the weight of its neighbour."""
    graph.store(f"{LAST}.norm2.weight", graph.array(f"{LAST}.norm1.weight"))


def time_axis_baked(graph: Editor) -> None:
    """The queries are reshaped to the number of frames of the example."""
    node = graph.node(f"{SECOND}.self_attn", "view")
    graph.give(node, 1, np.array([-1, 21, 4, 128]))


def mask_length_baked(graph: Editor) -> None:
    """The mask is as long as the example was."""
    graph.give(graph.node(ENCODER, "arange"), 1, np.int64(21))


def vocabulary_shifted(graph: Editor) -> None:
    """Each token has the weights of the one before it."""
    node = graph.linear(CTC)
    graph.store(node.input[1], np.roll(graph.own(node, 1), 1, axis=1))


def blank_is_another_token(graph: Editor) -> None:
    """Decoding removes token 1 instead of the blank."""
    graph.give(graph.behind(graph.tap("model", "ne", 1), "Equal"), 1, np.int64(1))


def padding_is_decoded(graph: Editor) -> None:
    """Tokens behind the end of a segment are kept."""
    graph.bypass(graph.node("model", "bitwise_and", 1))


def token_lengths_in_int32(graph: Editor) -> None:
    """The output `token_lengths` is int32 instead of int64."""
    node = graph.producer("token_lengths")
    node.output[0] = "token_lengths_int64"
    graph.add_behind(node, "Cast", "token_lengths", to=TensorProto.INT32)
    for value in graph.graph.output:
        if value.name == "token_lengths":
            value.type.tensor_type.elem_type = TensorProto.INT32


MODEL_FAULTS = (
    Fault(change=prompts_swapped, layers=("model",), finding=("inputs changed",)),
    Fault(change=embedding_not_scaled, layers=(ENCODER,), finding=("constant",), detail="22.6"),
    Fault(
        change=positions_from_zero,
        layers=(f"{ENCODER}.embed",),
        finding=("node added",),
        detail="Sub",
    ),
    Fault(
        change=epsilon_of_the_first_norm,
        layers=(f"{FIRST}.norm1",),
        finding=("attribute",),
        detail="epsilon",
    ),
    Fault(
        change=epsilon_of_a_deep_norm,
        layers=(f"{ENCODER}.tp_norm",),
        finding=("attribute",),
        detail="epsilon",
    ),
    Fault(
        change=one_weight_element_zeroed,
        layers=(f"{SECOND}.feed_forward.w_1",),
        finding=("weight",),
        detail="[100, 1000]",
    ),
    Fault(
        change=one_weight_element_in_float16,
        layers=(f"{SECOND}.feed_forward.w_1",),
        finding=("weight",),
        detail="[17, 23]",
    ),
    Fault(
        change=square_weight_transposed,
        layers=(f"{SECOND}.self_attn.linear_out",),
        finding=("weight",),
    ),
    Fault(
        change=query_and_key_swapped,
        layers=(f"{SECOND}.self_attn",),
        finding=("inputs changed",),
    ),
    Fault(change=mask_dropped, layers=(f"{SECOND}.self_attn",), finding=("op changed",)),
    Fault(
        change=mask_value_finite,
        layers=(f"{LAST}.self_attn",),
        finding=("inputs changed", "constant"),
        detail="-3.4028",
    ),
    Fault(change=fsmn_mask_dropped, layers=(f"{LAST}.self_attn",), finding=("op changed",)),
    Fault(
        change=softmax_over_queries,
        layers=(f"{LAST}.self_attn",),
        finding=("attribute",),
        detail="axis",
    ),
    Fault(
        change=scaled_twice, layers=(f"{FIRST}.self_attn",), finding=("constant",), detail="0.0883"
    ),
    Fault(
        change=bias_missing,
        layers=(f"{FIRST}.feed_forward.w_2",),
        finding=("inputs changed",),
        detail="bias",
    ),
    Fault(
        change=relu_removed,
        layers=(f"{SECOND}.feed_forward.activation",),
        finding=("op changed",),
        detail="Relu",
    ),
    Fault(
        change=fsmn_padding_shifted,
        layers=(f"{SECOND}.self_attn.pad_fn",),
        finding=("constant",),
        detail="4",
    ),
    Fault(
        change=dropout_active,
        layers=(f"{FIRST}.feed_forward.dropout", f"{FIRST}.feed_forward.w_2"),
        finding=("node added",),
        detail="Dropout",
    ),
    Fault(change=residual_dropped, layers=(SECOND,), finding=("op changed",), detail="Add"),
    Fault(
        change=weight_in_float16,
        layers=(f"{FIRST}.self_attn.linear_q_k_v",),
        finding=("weight",),
    ),
    Fault(
        change=weight_in_int8,
        layers=(f"{LAST}.feed_forward.w_1",),
        finding=("weight",),
    ),
    Fault(
        change=layer_computed_in_float16,
        layers=(f"{SECOND}.feed_forward.w_2",),
        finding=("node added",),
        detail="Cast",
    ),
    Fault(
        change=norm_weights_of_another_layer,
        layers=(f"{LAST}.norm2",),
        finding=("weight",),
        detail="norm2.weight",
    ),
    Fault(
        change=time_axis_baked,
        layers=(f"{SECOND}.self_attn",),
        finding=("inputs changed",),
        detail="21",
    ),
    Fault(change=mask_length_baked, layers=(ENCODER,), finding=("inputs changed",), detail="21"),
    Fault(change=vocabulary_shifted, layers=(CTC,), finding=("weight",)),
    Fault(change=blank_is_another_token, layers=("model",), finding=("constant",), detail="1"),
    Fault(change=padding_is_decoded, layers=("model",), finding=("op changed",)),
    Fault(change=token_lengths_in_int32, layers=("",), finding=("interface",), detail="int32"),
)
