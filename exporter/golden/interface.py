"""What an ONNX file takes and gives, as a golden records it: names, types, axes, opset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Dim = int | str | None
"""A fixed size, the name of an axis, or nothing: an axis of any size without a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output: numpy's name of its dtype ("" when it is no tensor), and its axes.

    ``dims`` is ``None`` where the file does not say how many axes there are.
    """

    name: str
    dtype: str
    dims: tuple[Dim, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """Inputs that must be given, outputs, and the opset of ONNX's own operators."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    opset: int

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "inputs": [[port.name, port.dtype, _listed(port.dims)] for port in self.inputs],
            "outputs": [[port.name, port.dtype, _listed(port.dims)] for port in self.outputs],
            "opset": self.opset,
        }


def _listed(dims: tuple[Dim, ...] | None) -> list[Dim] | None:
    return None if dims is None else list(dims)
