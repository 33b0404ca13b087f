"""Arrays out of files that somebody gave: the one door for them.

Nothing in such a file can run code. Of numpy's formats only plain numbers are taken, and what a
header announces is held against the bytes that follow before memory is taken for it. A Kaldi
archive is walked here: kaldiio is handed the bytes of one matrix whose kind and size were checked,
never a name (it would run ``cmd |``) and never the kinds of entry that it unpickles.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from exporter.cases.check_sizes import MOST_ELEMENTS
from exporter.core.errors import UserInputError
from exporter.core.extras import need
from exporter.core.reading import Door, reason

SUFFIXES = (".npy", ".npz", ".safetensors", ".ark")
_DOOR = Door(
    error=UserInputError,
    says="cannot be read as arrays",
    remedy=f"give a file of plain numbers: {', '.join(SUFFIXES)}",
)
_LONGEST_KEY = 4096
_MATRIX = re.compile(rb"\0B(?:(FM|DM|CM|CM2|CM3|FV|DV) |(\x04))")
_ITEM_BYTES = {b"FM": 4, b"DM": 8, b"FV": 4, b"DV": 8, b"CM": 1, b"CM2": 2, b"CM3": 1}
_MOST_TEXT = 64 << 20
_OLD, _NEW = (1, 0), (2, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """How a suffix is read: its keys, and the array of one key."""

    keys: Callable[[bytes], list[str]]
    array: Callable[[bytes, str], np.ndarray]


def read_array(path: Path, key: str | None) -> np.ndarray:
    """One array of a file, of any dtype of plain numbers, shape as it is there.

    Args:
        key: which array, in a file that holds several; may be left out where there is one.

    Raises:
        UserInputError: the file cannot be read, has no such key, or needs one to be named.
    """
    return _one_of(path, _kind_of(path), key)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file that has names for them.

    Raises:
        UserInputError: as ``read_array``, or its arrays have no names.
    """
    kind = _kind_of(path)
    data = _DOOR.bytes(path)
    keys = _read(path, lambda: kind.keys(data))
    if not keys:
        raise _key(path, "its array has no name", "give an .npz or .safetensors, by input")
    return {key: _read(path, partial(kind.array, data, key)) for key in keys}


def read_kaldi(path: Path, key: str | None = None) -> np.ndarray:
    """One matrix or vector of a Kaldi archive, or of a file of one without a key, any ending.

    Raises:
        UserInputError: as ``read_array``.
    """
    return _one_of(path, _KINDS[".ark"], key)


def _kind_of(path: Path) -> _Kind:
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise _DOOR.bad(path, f"'{path.suffix}' is no ending that says how")
    return kind


def _one_of(path: Path, kind: _Kind, key: str | None) -> np.ndarray:
    data = _DOOR.bytes(path)
    keys = _read(path, lambda: kind.keys(data))
    if not keys:
        if key is not None:
            raise _key(path, f"has no keys, and '{key}' is asked for", "leave out the key")
        return _read(path, lambda: kind.array(data, ""))
    listed = ", ".join(keys[:10]) + (f" and {len(keys) - 10} more" if len(keys) > 10 else "")
    if key is None and len(keys) > 1:
        raise _key(path, f"holds {len(keys)} arrays", f"name one by its key: {listed}")
    if key is not None and key not in keys:
        raise _key(path, f"holds no array '{key}'", f"its keys: {listed}")
    chosen = keys[0] if key is None else key
    return _read(path, lambda: kind.array(data, chosen))


def _key(path: Path, problem: str, remedy: str) -> UserInputError:
    return UserInputError(problem, where=str(path), remedy=remedy)


def _read(path: Path, what: Callable[[], Any]) -> Any:
    """Whatever a library raises over a file's bytes is the file's fault, and said as such."""
    try:
        return what()
    except UserInputError:
        raise
    except Exception as error:
        raise _DOOR.bad(path, reason(error)) from error


# -- numpy -----------------------------------------------------------------------------------------


def _npy(data: bytes, key: str = "") -> np.ndarray:
    return _from_stream(io.BytesIO(data))


def _from_stream(stream: BinaryIO | Any) -> np.ndarray:
    """The array of a stream in numpy's format: plain numbers, all of them there."""
    version = np.lib.format.read_magic(stream)
    if version not in (_OLD, _NEW):
        raise ValueError(f"version {version[0]}.{version[1]} of the format is not for numbers")
    header = np.lib.format
    read = header.read_array_header_1_0 if version == _OLD else header.read_array_header_2_0
    shape, in_columns, dtype = read(stream)
    if dtype.kind not in "biuf":
        raise ValueError(f"it holds {dtype}, which are no plain numbers")
    count = math.prod(shape)
    _check_count(count, shape)
    payload = stream.read(count * dtype.itemsize + 1)
    if len(payload) != count * dtype.itemsize:
        raise ValueError(f"shape {list(shape)} of {dtype} are not the bytes that follow")
    order = "F" if in_columns else "C"
    return np.frombuffer(payload, dtype).reshape(shape, order=order).copy(order="C")


def _npz_keys(data: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
    if len(set(names)) != len(names):
        raise ValueError("two arrays have the same name")
    # An empty archive, or one of other files, has keys that nobody can mean.
    keys = [name.removesuffix(".npy") for name in names if name.endswith(".npy")]
    if not keys:
        raise ValueError("it holds no arrays")
    return keys


def _npz(data: bytes, key: str) -> np.ndarray:
    with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(f"{key}.npy") as stream:
        return _from_stream(stream)


# -- safetensors -----------------------------------------------------------------------------------


def _tensor_keys(data: bytes) -> list[str]:
    from safetensors import deserialize

    keys = [name for name, _ in deserialize(data)]
    if not keys:
        raise ValueError("it holds no arrays")
    return sorted(keys)


def _tensor(data: bytes, key: str) -> np.ndarray:
    from safetensors import deserialize

    tensor = next(value for name, value in deserialize(data) if name == key)
    dtype = _SAFETENSORS.get(tensor["dtype"])
    if dtype is None:
        raise ValueError(f"'{key}' is {tensor['dtype']}; numpy has {', '.join(_SAFETENSORS)}")
    _check_count(math.prod(tensor["shape"]), tensor["shape"])
    return np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"]).copy()


_SAFETENSORS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "?",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1",
}  # fmt: skip

# -- Kaldi -----------------------------------------------------------------------------------------


def _ark_keys(data: bytes) -> list[str]:
    return [] if _has_no_key(data) else list(_ark_entries(data))


def _has_no_key(data: bytes) -> bool:
    """A matrix in a file by itself, as ``copy-matrix`` writes it; it is held against its size."""
    if not data.startswith(b"\0B") and not data[:64].lstrip().startswith(b"["):
        return False
    if _ark_end(data, 0, "the matrix") != len(data):
        raise ValueError("something stands behind the matrix")
    return True


def _ark(data: bytes, key: str) -> np.ndarray:
    need("kaldiio", who="reading Kaldi's archives")
    from kaldiio import matio

    start = _ark_entries(data)[key] if key else 0
    stream = io.BytesIO(data[start:])
    header = _MATRIX.match(data, start)
    if header is None:
        value = matio.read_ascii_mat(stream)
    else:
        read = matio.read_int32vector if header[2] else matio.read_matrix_or_vector
        value = read(stream)
    return np.asarray(value)


def _ark_entries(data: bytes) -> Mapping[str, int]:
    """Key -> where its value begins; every value is one of Kaldi's matrices or vectors, whole."""
    entries: dict[str, int] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + _LONGEST_KEY)
        if space <= at:
            raise ValueError(f"no key of a Kaldi archive stands at byte {at}")
        key = data[at:space].decode("utf-8")
        if key in entries:
            raise ValueError(f"the key '{key[:100]}' stands in it twice")
        entries[key] = space + 1
        at = _ark_end(data, space + 1, key)
    if not entries:
        raise ValueError("it holds no arrays")
    return entries


def _ark_end(data: bytes, start: int, key: str) -> int:
    """Where the value that begins at ``start`` ends."""
    binary = _MATRIX.match(data, start)
    if binary is None:
        return _text_end(data, start, key)
    at = binary.end()
    if binary[2]:  # int32, each with its size in front
        rows = _int32(data, at)
        end = at + 4 + 5 * rows
    elif binary[1].startswith(b"CM"):
        rows, columns = _int32(data, at + 8), _int32(data, at + 12)
        heads = 8 * columns if binary[1] == b"CM" else 0
        end = at + 16 + heads + rows * columns * _ITEM_BYTES[binary[1]]
    else:
        rows, at = _sized(data, at, key)
        columns, at = _sized(data, at, key) if binary[1].endswith(b"M") else (1, at)
        end = at + rows * columns * _ITEM_BYTES[binary[1]]
    if end > len(data):
        raise ValueError(f"'{key[:100]}' announces more than the file holds")
    return end


def _text_end(data: bytes, start: int, key: str) -> int:
    head = data[start : start + 64].lstrip()
    if not head.startswith(b"["):
        raise ValueError(
            f"'{key[:100]}' is no matrix or vector of Kaldi's; sound, pickles and numpy's files"
            " inside of an archive are not read"
        )
    end = data.find(b"]", start, start + _MOST_TEXT)
    if end < 0:
        raise ValueError(f"the ']' of '{key[:100]}' is missing")
    return end + 2 if data[end + 1 : end + 2] == b"\n" else end + 1


def _sized(data: bytes, at: int, key: str) -> tuple[int, int]:
    if data[at : at + 1] != b"\x04":
        raise ValueError(f"the size of '{key[:100]}' is not written as Kaldi does")
    return _int32(data, at + 1), at + 5


def _int32(data: bytes, at: int) -> int:
    (number,) = struct.unpack_from("<i", data, at)
    if number < 0:
        raise ValueError("a size is negative")
    return number


def _check_count(count: int, shape: Any) -> None:
    if not 0 <= count <= MOST_ELEMENTS:
        raise ValueError(f"shape {list(shape)} has too many elements, {MOST_ELEMENTS:,} may be")


_KINDS = {
    ".npy": _Kind(keys=lambda data: [], array=_npy),
    ".npz": _Kind(keys=_npz_keys, array=_npz),
    ".safetensors": _Kind(keys=_tensor_keys, array=_tensor),
    ".ark": _Kind(keys=_ark_keys, array=_ark),
}
