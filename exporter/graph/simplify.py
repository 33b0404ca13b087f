"""Simplify an ONNX model with onnxsim, and say what it did."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import onnx
import onnxsim

from exporter.core.errors import StageError

_RENAMING = ("fuse_bn_into_conv", "fuse_add_bias_into_conv", "fuse_mul_into_conv")
"""Passes that give the result of two ops the name that the first one's value had.

Taps are joined on names, so a layer that is right would be compared with another one's value.
onnxruntime fuses the same pairs when it loads the file; nothing is lost.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simplified:
    """A simplified model and the sizes before and after."""

    model: onnx.ModelProto
    nodes_before: int
    nodes_after: int
    bytes_before: int
    bytes_after: int

    @property
    def grew(self) -> bool:
        """True when the simplifier made the graph larger, or its weights by over one percent."""
        heavier = self.bytes_after > 1.01 * self.bytes_before
        return self.nodes_after > self.nodes_before or heavier


def simplify(model: onnx.ModelProto) -> Simplified:
    """Run onnxsim once; its own random check is off (the parity stage judges the result).

    Raises:
        StageError: onnxsim fails or drops a declared input or output.
    """
    try:
        with _quiet():
            result, _ = onnxsim.simplify(model, check_n=0, skipped_optimizers=list(_RENAMING))
    except Exception as error:
        raise StageError("simplify", f"onnxsim failed: {str(error)[:1000]}") from error
    for side in ("input", "output"):
        before = [value.name for value in getattr(model.graph, side)]
        after = [value.name for value in getattr(result.graph, side)]
        if before != after:
            raise StageError("simplify", f"onnxsim changed the {side}s: {before} became {after}")
    return Simplified(
        model=result,
        nodes_before=len(model.graph.node),
        nodes_after=len(result.graph.node),
        bytes_before=_weight_bytes(model),
        bytes_after=_weight_bytes(result),
    )


def _weight_bytes(model: onnx.ModelProto) -> int:
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """onnxsim's native part prints to file descriptors 1 and 2, also what it cannot fold.

    Our output is not its place; what stops it is raised.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [(number, os.dup(number)) for number in (1, 2)]
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        for number, _ in saved:
            os.dup2(sink, number)
        yield
    finally:
        for number, copy in saved:
            os.dup2(copy, number)
            os.close(copy)
        os.close(sink)
