"""What a module keeps between calls: parameters, buffers, and tensors in plain attributes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

PARAMETER = "parameter"
BUFFER = "buffer"
ATTRIBUTE = "attribute"

_TORCHS_OWN = frozenset({"_parameters", "_buffers", "_modules"})
_PLAIN = (int, float, str, type(None))
_COLUMNS = 64
_CHECKED_ELEMENTS = 65_536
_SMALL_PARAMETERS = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StateTensor:
    """One tensor that a module holds.

    Attributes:
        name: ``path.attribute``; nested containers add ``[index]`` or ``[key]``.
        kind: "parameter", "buffer" or "attribute".
        module: path of the module that holds it.
        tensor: the tensor itself, not a copy.
    """

    name: str
    kind: str
    module: str
    tensor: Tensor


def held_tensors(module: nn.Module) -> Iterator[StateTensor]:
    """Yield every tensor that a module and its submodules hold, each once per name."""
    for path, part in module.named_modules():
        head = f"{path}." if path else ""
        for name, value in part._parameters.items():
            if value is not None:
                yield StateTensor(name=head + name, kind=PARAMETER, module=path, tensor=value)
        for name, value in part._buffers.items():
            if value is not None:
                yield StateTensor(name=head + name, kind=BUFFER, module=path, tensor=value)
        for name, value in vars(part).items():
            if name not in _TORCHS_OWN and not isinstance(value, _PLAIN):
                for label, tensor in _tensors_in(value, name):
                    yield StateTensor(name=head + label, kind=ATTRIBUTE, module=path, tensor=tensor)


def _tensors_in(value: object, label: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        # An RNN keeps aliases of its parameters in a list; they are parameters already.
        if not isinstance(value, nn.Parameter):
            yield label, value
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _tensors_in(item, f"{label}[{index}]")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors_in(item, f"{label}[{key}]")


class Snapshot:
    """The state of a module, to be put back after a call that changed it.

    Buffers and tensors in attributes are copied; parameters only up to a few million elements,
    because nothing sane writes to them and a copy of a large model is expensive.
    """

    def __init__(self, module: nn.Module):
        self._module = module
        count = sum(parameter.numel() for parameter in module.parameters())
        self._saved = {
            entry.name: (entry, entry.tensor._version, entry.tensor.detach().clone())
            for entry in held_tensors(module)
            if entry.kind != PARAMETER or count <= _SMALL_PARAMETERS
        }
        self._plain = {
            path: {
                key: value
                for key, value in vars(part).items()
                if not key.startswith("_") and _is_state(value)
            }
            for path, part in module.named_modules()
        }
        self._lists = [
            (value, list(value))
            for part in module.modules()
            for key, value in vars(part).items()
            if isinstance(value, list) and not key.startswith("_")
        ]

    def restore(self) -> None:
        """Put back everything that a call changed; cheap when it changed nothing."""
        for path, part in self._module.named_modules():
            for key, value in self._plain.get(path, {}).items():
                if vars(part).get(key) is not value:
                    vars(part)[key] = value
            before = self._plain.get(path, {})
            for key, value in list(vars(part).items()):
                if key not in before and not key.startswith("_") and _is_state(value):
                    vars(part)[key] = None
            for name, buffer in list(part._buffers.items()):
                saved = self._saved.get(f"{path}.{name}" if path else name)
                if saved is not None and buffer is not saved[0].tensor:
                    part._buffers[name] = saved[0].tensor
        for kept, items in self._lists:
            if len(kept) != len(items) or any(a is not b for a, b in zip(kept, items, strict=True)):
                kept[:] = items
        with torch.no_grad():
            for name, (tensor, _version, copy) in self._saved.items():
                # Writes past the version counter are looked for in small tensors only.
                small = tensor.tensor.numel() <= _CHECKED_ELEMENTS
                if tensor.tensor._version != _version or small:
                    if tensor.tensor.shape != copy.shape:
                        tensor.tensor.data = copy.clone()
                    elif not _same(tensor.tensor, copy):
                        tensor.tensor.copy_(copy)
                    self._saved[name] = (tensor, tensor.tensor._version, copy)


def _is_state(value: object) -> bool:
    """Values of attributes that a forward may replace: tensors, counters, None."""
    return value is None or isinstance(value, (Tensor, int, float, tuple))


def _same(left: Tensor, right: Tensor) -> bool:
    if left.is_meta or right.is_meta:
        return True
    return left.dtype == right.dtype and checksum(left) == checksum(right)


def checksum(tensor: Tensor) -> int:
    """64-bit checksum of a tensor's bytes; NaN and -0.0 count as their bits.

    Words are summed in 64 columns, the columns weighted by odd numbers: a single changed word
    always shows, and moved ones do unless they move by a multiple of 64.
    """
    if tensor.is_meta or not tensor.numel():
        return 0
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    if flat.storage_offset() % 8:
        flat = flat.clone()
    whole = flat.numel() - flat.numel() % (8 * _COLUMNS)
    columns = flat[:whole].view(torch.int64).reshape(-1, _COLUMNS).sum(0)
    total = 0
    for index, column in enumerate(columns.tolist()):
        total += column * (2 * index + 1)
    rest = bytes(flat[whole:].tolist())
    return (total + 31 * int.from_bytes(rest, "little")) % (1 << 64)
