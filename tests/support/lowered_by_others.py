"""A float32 file in lower precisions, as tools of other people write it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from tests.support import lowered
from tests.support import other_tools as tools

Make = Callable[[Path, Path], None]
"""``(source, target)``"""
_PRODUCTS = ["MatMul", "Conv", "Gemm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A file in a lower precision.

    Attributes:
        tool: who writes it, in words. precision: what a pipeline has to declare for it.
    """

    tool: str
    precision: str
    make: Make


def _float16(source: Path, target: Path) -> None:
    lowered.to_float16(source, target)


def _converter(source: Path, target: Path) -> None:
    from onnxconverter_common import float16

    model = float16.convert_float_to_float16(onnx.load(source), keep_io_types=True)
    onnx.save(model, target)


def _mixed(source: Path, target: Path) -> None:
    """Float16 where half of float16's own error is kept."""
    from onnxconverter_common.auto_mixed_precision import auto_convert_mixed_precision

    model = onnx.load(source)
    with contextlib.redirect_stdout(io.StringIO()):
        found = auto_convert_mixed_precision(
            model, lowered.calibration()[0], rtol=0.02, atol=2e-3, keep_io_types=True
        )
    onnx.save(found, target)


def _dynamic(source: Path, target: Path) -> None:
    lowered.to_dynamic(source, target)


def _channels(source: Path, target: Path) -> None:
    lowered.to_dynamic(source, target, per_channel=True, reduce_range=True)


def _qdq(source: Path, target: Path) -> None:
    lowered.to_static(source, target, lowered.calibration(), qdq=True)


def _qdq_channels(source: Path, target: Path) -> None:
    lowered.to_static(source, target, lowered.calibration(), qdq=True, per_channel=True)


def _percentile(source: Path, target: Path) -> None:
    from onnxruntime.quantization import CalibrationMethod

    method = CalibrationMethod.Percentile
    lowered.to_static(source, target, lowered.calibration(), qdq=True, calibrate_method=method)


def _operators(source: Path, target: Path) -> None:
    lowered.to_static(
        source, target, lowered.calibration(), qdq=False, op_types_to_quantize=_PRODUCTS
    )


def _symmetric(source: Path, target: Path) -> None:
    extra = {"ActivationSymmetric": True}
    lowered.to_static(source, target, lowered.calibration(), qdq=False, extra_options=extra)


def _eight(source: Path, target: Path) -> None:
    lowered.to_bits(source, target, 8)


def _four(source: Path, target: Path) -> None:
    lowered.to_bits(source, target, 4)


def _optimised(source: Path, target: Path) -> None:
    made = target.with_name(f"{target.stem}_before.onnx")
    lowered.to_dynamic(source, made)
    tools.optimised(made).rename(target)


def _simplified(source: Path, target: Path) -> None:
    made = target.with_name(f"{target.stem}_before.onnx")
    _qdq_channels(source, made)
    tools.simplified(made).rename(target)


def _sim_dynamic(source: Path, target: Path) -> None:
    from onnxsim.quark_dynamic import quantize_dynamic_integer

    onnx.save(quantize_dynamic_integer(onnx.load(source)), target)


def _sim_qdq(source: Path, target: Path) -> None:
    from onnxsim.full_qdq import quantize_full_qdq

    rows = [{k: np.asarray(v) for k, v in row.items()} for row in lowered.calibration()]
    made = quantize_full_qdq(onnx.load(source), rows, op_types=_PRODUCTS)
    onnx.save(made, target)


FORMS: dict[str, Form] = {
    "float16": Form(tool="onnxruntime, float16", precision="float16", make=_float16),
    "converter": Form(tool="onnxconverter-common, float16", precision="float16", make=_converter),
    "mixed": Form(
        tool="onnxconverter-common, auto_mixed_precision", precision="float16", make=_mixed
    ),
    "dynamic": Form(tool="quantize_dynamic", precision="int8_weights", make=_dynamic),
    "channels": Form(
        tool="quantize_dynamic, per channel, 7 bits", precision="int8_weights", make=_channels
    ),
    "optimised": Form(
        tool="quantize_dynamic, optimised by onnxruntime",
        precision="int8_weights",
        make=_optimised,
    ),
    "qdq": Form(tool="quantize_static, QDQ", precision="int8_weights", make=_qdq),
    "qdq_channels": Form(
        tool="quantize_static, QDQ, per channel", precision="int8_weights", make=_qdq_channels
    ),
    "percentile": Form(
        tool="quantize_static, QDQ, percentiles", precision="int8_weights", make=_percentile
    ),
    "simplified": Form(
        tool="quantize_static, QDQ, per channel, then onnxsim",
        precision="int8_weights",
        make=_simplified,
    ),
    "operators": Form(tool="quantize_static, QOperator", precision="int8_weights", make=_operators),
    "symmetric": Form(
        tool="quantize_static, QOperator, symmetric", precision="int8_weights", make=_symmetric
    ),
    "eight": Form(tool="MatMulNBits, 8 bits", precision="int8_weights", make=_eight),
    "four": Form(tool="MatMulNBits, 4 bits", precision="int4_weights", make=_four),
    "sim_dynamic": Form(tool="onnxsim, dynamic", precision="int8_weights", make=_sim_dynamic),
    "sim_qdq": Form(tool="onnxsim, QDQ", precision="int8_weights", make=_sim_qdq),
}
"""By a short name. The model of ``lowered`` has all that they lower: products, a convolution, an
LSTM."""
