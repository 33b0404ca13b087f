"""The engines that write a file in a lower precision. They round; here is only said which nodes.

int8     onnxruntime.quantization, dynamic: weights in int8, activations as they come
int8_static  the same engine, QDQ pairs with ranges that it measures on given inputs
int4     MatMulNBits: weights in blocks of four bits
float16  onnxruntime's converter; inputs and outputs stay float32
mixed    four bits for some products, int8 for others
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx

from exporter.core.artifact import CERTIFICATE_PREFIX
from exporter.core.errors import ArtifactError, UserInputError
from exporter.core.files import temporary_folder
from exporter.core.tensors import Arrays
from exporter.graph.contents import metadata_entries
from exporter.graph.lowered.put_back import put_back
from exporter.graph.onnx_file import EXTERNAL_LIMIT, bytes_of, load, read_light
from exporter.graph.onnx_file_writer import store_shipped

INT8 = ("MatMul", "Gemm", "Conv", "LSTM")
STATIC = ("MatMul", "Gemm", "Conv", "ConvTranspose")
INT4 = ("MatMul", "Gemm")
KINDS: Mapping[str, tuple[str, ...]] = {
    "int8": INT8,
    "int8_static": STATIC,
    "int4": INT4,
    "mixed": INT8,
}
"""Operators of a float32 file that an engine lowers where their weights are constants."""
_KEEPS_NAMES = ("int8", "int4", "mixed", "float16")
"""The engine leaves the names of floating values as they are; the other one stores them."""
BLOCK = 32
"""Weights of one step in four bits."""
_REWRITTEN = ("", "_MatMul")
"""onnxruntime's quantisers write a Gemm as a product and a sum, with names of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What an engine is asked for.

    Attributes:
        to: a key of ``KINDS``, or "float16". keep: names of nodes that stay in float32.
        eight: of "mixed", nodes that get eight bits; all others get four.
        calibration: of "int8_static", inputs on which ranges are measured.
        keep_kinds: of "float16", operators that stay in float32 wherever they stand.
    """

    to: str
    keep: frozenset[str] = frozenset()
    eight: frozenset[str] = frozenset()
    calibration: Sequence[Arrays] = ()
    keep_kinds: tuple[str, ...] = field(default=())


def write_lowered(source: Path, target: Path, order: Order, everything: Path | None = None) -> None:
    """Let an engine write ``source`` in a lower precision to ``target``.

    The file says of its origin what the float32 file says, without that file's certificate. Above
    2 GB its weights lie beside it.

    Args:
        everything: the same with nothing kept, as written before. The file is then put together of
            this and ``source``, where the engine leaves names as they are, and nothing is rounded
            anew; with a gigabyte of weights that is a second instead of a minute.

    Raises:
        ArtifactError: the engine cannot, with what it says.
        UserInputError: no such precision.
    """
    engines = {
        "int8": _dynamic,
        "int8_static": _static,
        "int4": _four_bits,
        "float16": _float16,
        "mixed": _mixed,
    }
    if order.to not in engines:
        raise UserInputError(f"--to {order.to}: no such precision", remedy=", ".join(engines))
    target.parent.mkdir(parents=True, exist_ok=True)
    made = None
    if everything is not None and order.to in _KEEPS_NAMES:
        made = put_back(everything, source, order.keep)
    if made is None:
        try:
            with _quiet(), temporary_folder() as folder:
                made = engines[order.to](source, folder, order), {}
        except Exception as error:
            raise ArtifactError(
                f"onnxruntime cannot write it in {order.to}: {str(error)[:400]}", where=str(source)
            ) from error
    origin = {
        entry.key: entry.value
        for entry in metadata_entries(source)
        if not entry.key.startswith(CERTIFICATE_PREFIX)
    }
    store_shipped(*made, target, origin, outside=False)


def _large(source: Path) -> bool:
    """Whether a file and its external data are more than one message holds."""
    return bytes_of(source) > EXTERNAL_LIMIT


def _dynamic(source: Path, folder: Path, order: Order) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        source,
        folder / "dynamic.onnx",
        op_types_to_quantize=[kind for kind in INT8 if kind != "Gemm"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=_names(order.keep),
        use_external_data_format=_large(source),
    )
    return load(folder / "dynamic.onnx")


def _static(source: Path, folder: Path, order: Order) -> onnx.ModelProto:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    rows = iter(order.calibration)

    class Reader(CalibrationDataReader):
        def get_next(self) -> dict[str, Any] | None:
            row = next(rows, None)
            return None if row is None else dict(row)

    quantize_static(
        str(source),
        str(folder / "static.onnx"),
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(STATIC),
        per_channel=True,
        nodes_to_exclude=_names(order.keep),
        use_external_data_format=_large(source),
        # What stays in float32 must not read what was rounded for its neighbour.
        extra_options={"DedicatedQDQPair": True},
    )
    return load(folder / "static.onnx")


def _four_bits(source: Path, folder: Path, order: Order) -> onnx.ModelProto:
    del folder
    return _in_bits(source, _names(order.keep))


def _mixed(source: Path, folder: Path, order: Order) -> onnx.ModelProto:
    # Eight bits first: behind MatMulNBits the other engine knows no types, and lowers nothing.
    products = {n.name for n in read_light(source)[0].graph.node if n.op_type in INT4}
    held = folder / "eight_bits.onnx"
    eight = _dynamic(source, folder, replace(order, keep=order.keep | (products - order.eight)))
    store_shipped(eight, {}, held, {}, outside=False)
    return _in_bits(held, _names(order.keep))


def _in_bits(source: Path, keep: list[str]) -> onnx.ModelProto:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    from onnxruntime.quantization.onnx_model import ONNXModel

    model = load(source)
    # MatMulNBits is made of products alone.
    ONNXModel(model).replace_gemm_with_matmul()
    quantizer = MatMulNBitsQuantizer(
        model, bits=4, block_size=BLOCK, nodes_to_exclude=keep, accuracy_level=4
    )
    quantizer.process()
    held: Any = quantizer.model  # an ONNXModel from its first step on
    return held.model


def _float16(source: Path, folder: Path, order: Order) -> onnx.ModelProto:
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    del folder
    converted = convert_float_to_float16(
        # Given a model it hands the whole of it on as one message, to find its types.
        str(source) if _large(source) else load(source),
        keep_io_types=True,
        node_block_list=sorted(order.keep),
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *order.keep_kinds],
    )
    # The converter writes one cast for every reader, all with one name, and behind the readers.
    for entries in (converted.graph.node, converted.graph.value_info):
        without_repeats(entries)
    model = OnnxModel(converted)
    model.topological_sort()
    return model.model


def without_repeats(entries: Any) -> None:
    """Let each of the equal entries of a protobuf stand once."""
    once = {entry.SerializeToString(deterministic=True): entry for entry in entries}
    del entries[:]
    entries.extend(once.values())


def _names(keep: Collection[str]) -> list[str]:
    return sorted(f"{name}{ending}" for name in keep for ending in _REWRITTEN)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the engines log for people who write scripts."""
    names = ("root", "onnxruntime.quantization.matmul_nbits_quantizer")
    loggers = [logging.getLogger(None if name == "root" else name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
