"""An input of a case out of a file: ``inputs: {features: {file: theirs.npz, key: speech}}``.

Arrays are taken as they are, but for two things that cannot be misread: numbers become the input's
dtype where that loses nothing that the dtype could hold, and ``[T, D]`` goes into ``[batch, T, D]``
as its one row. A recording (``.wav``, ``.flac``) is read as the one of ``audio`` is.
"""

from __future__ import annotations

import hashlib

import numpy as np

from exporter.cases.array_file import SUFFIXES, read_array
from exporter.cases.audio_input import recorded_array, takes_mono
from exporter.config.inputs import FileInput
from exporter.core.errors import ConfigError, UserInputError
from exporter.core.tensors import BATCH_NAMES, TensorSpec

_SOUND = (".wav", ".flac", ".ogg")


def file_array(
    given: FileInput, spec: TensorSpec, where: str, *, sample_rate_hz: int
) -> tuple[np.ndarray, str]:
    """The array of a file as ``spec`` takes it, and what a report says of where it is from.

    Args:
        where: the place in the YAML, for what does not fit the input.

    Raises:
        ConfigError: the array is not one of that input. AudioError: the recording is not usable.
        UserInputError: the file cannot be read.
    """
    if given.file.suffix.lower() in _SOUND:
        array = _sound(given, spec, where, sample_rate_hz)
    else:
        array = _fitted(read_array(given.file, given.key), given, spec, where)
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
    key = f"[{given.key}]" if given.key is not None else ""
    return array, f"{spec.name}: {given.file.name}{key} sha256:{digest}"


def _sound(given: FileInput, spec: TensorSpec, where: str, sample_rate_hz: int) -> np.ndarray:
    if given.key is not None:
        raise ConfigError(
            "a recording has no keys", where=where, remedy=f"leave out 'key: {given.key}'"
        )
    if not takes_mono(spec):
        raise ConfigError(
            f"'{spec.name}' ({spec.dtype}, shape {list(spec.shape)}) cannot take a recording",
            where=where,
            remedy=f"give its values in a file of arrays: {', '.join(SUFFIXES)}",
        )
    return recorded_array(given.file, spec, sample_rate_hz, rows=1)


def _fitted(array: np.ndarray, given: FileInput, spec: TensorSpec, where: str) -> np.ndarray:
    shown = f"'{given.file.name}'"
    fits = array.ndim == len(spec.shape)
    row = bool(spec.shape) and (spec.shape[0] in BATCH_NAMES or spec.shape[0] == 1)
    if not fits and row and array.ndim == len(spec.shape) - 1:
        array = array[None]
    elif not fits:
        raise ConfigError(
            f"{shown} has shape {list(array.shape)}, '{spec.name}' takes {list(spec.shape)}",
            where=where,
            remedy=f"write an array with {len(spec.shape)} axes",
        )
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise UserInputError(
            f"{int(np.isnan(array).sum())} of {array.size} values are NaN",
            where=str(given.file),
            remedy="find out where they come from; no comparison on them could pass",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(spec.dtype)
    if spec.dtype.startswith(("float", "bfloat")):
        same = bool((np.isinf(array) == np.isinf(cast)).all())
    else:
        same = bool((cast == array).all())
    if not same:
        raise ConfigError(
            f"{shown} holds {array.dtype} values that no {spec.dtype} can hold",
            where=where,
            remedy=f"'{spec.name}' takes {spec.dtype}; write the file so",
        )
    return np.ascontiguousarray(cast)
