"""Arrays of formats that numpy itself lacks, into onnxruntime and out of it.

onnxruntime takes and gives numpy arrays of numpy's own dtypes. bfloat16, which ``ml_dtypes`` adds,
goes through values of its own, bit for bit. As everywhere in this package, what comes out in
bfloat16 is float32 (exactly), and float32 goes into what takes bfloat16.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort

from exporter.core.children import watched_step
from exporter.core.errors import OnnxStoppedError

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_FOREIGN = "tensor(bfloat16)"


def ort_value(array: np.ndarray) -> ort.OrtValue:
    """An array as a value of onnxruntime, in its own format."""
    array = np.asarray(array, order="C")
    if array.dtype == _BFLOAT16:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
            array.view(np.uint16), onnx.TensorProto.BFLOAT16
        )
    return ort.OrtValue.ortvalue_from_numpy(array)


def run_session(
    session: ort.InferenceSession,
    names: Sequence[str] | None,
    feeds: Mapping[str, np.ndarray],
    options: ort.RunOptions | None = None,
) -> list[np.ndarray]:
    """Outputs of a session, of any format.

    Raises:
        Exception: what onnxruntime raises.
    """
    with watched_step():
        return _run(session, names, feeds, options)


def _run(
    session: ort.InferenceSession,
    names: Sequence[str] | None,
    feeds: Mapping[str, np.ndarray],
    options: ort.RunOptions | None,
) -> list[np.ndarray]:
    kinds = {value.name: value.type for value in session.get_outputs()}
    wanted = list(kinds) if names is None else list(names)
    coarse = {value.name for value in session.get_inputs() if value.type == _FOREIGN}
    given: dict[str, Any] = {
        name: _narrow(array) if name in coarse else array for name, array in feeds.items()
    }
    if any(kinds.get(name) == _FOREIGN for name in wanted):
        values = {name: _value(array) for name, array in given.items()}
        return [_array(value) for value in session.run_with_ort_values(wanted, values, options)]
    return [np.asarray(value) for value in session.run(wanted, given, options)]


def _narrow(array: np.ndarray) -> ort.OrtValue:
    return ort_value(array if array.dtype == _BFLOAT16 else array.astype(_BFLOAT16))


def _value(given: Any) -> ort.OrtValue:
    return given if isinstance(given, ort.OrtValue) else ort_value(given)


def _array(value: ort.OrtValue) -> np.ndarray:
    if value.data_type() != _FOREIGN:
        return value.numpy()
    if value.device_name() != "cpu":
        raise OnnxStoppedError(f"bfloat16 cannot be read from '{value.device_name()}'")
    shape = tuple(value.shape())
    count = math.prod(shape)
    if not count:
        return np.empty(shape, np.float32)
    bits: Any = (ctypes.c_uint16 * count).from_address(value.data_ptr())
    return np.frombuffer(bits, np.uint16).view(_BFLOAT16).astype(np.float32).reshape(shape)
