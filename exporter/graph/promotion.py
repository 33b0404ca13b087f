"""torch's type promotion pass without computing again what the program says already.

Before it translates a program, the exporter inserts casts where operands of an op differ in dtype.
torch finds them by running the whole program once more on abstract tensors: a fifth of an export.
But what every op gives is in the program since it was traced; only what gets a cast is run here.
Nodes and weights of the file are the same; the sizes that the file states of a cast bear the names
that all others bear (torch's second run gave them names of their own).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.fx import Node

_fx_passes: Any = None
passes: Any = None
type_promotion: Any = None
with contextlib.suppress(ImportError):  # another torch keeps them elsewhere: it runs its own pass
    from torch.onnx._internal.exporter import _fx_passes
    from torch.onnx._internal.fx import passes
    from torch.onnx._internal.fx.passes import type_promotion


@contextlib.contextmanager
def known_values() -> Iterator[None]:
    """Let the exporter take the values that a program holds, while the block runs."""
    own = getattr(_fx_passes, "insert_type_promotion_nodes", None)
    interpreter = getattr(type_promotion, "_TypePromotionInterpreter", None)
    if own is None or interpreter is None or not hasattr(passes, "InsertTypePromotion"):
        yield
        return
    kind = _on_known_values(interpreter)

    def insert(graph_module: torch.fx.GraphModule) -> None:
        for module in graph_module.modules():
            done = passes.InsertTypePromotion(module)
            done.interpreter.__class__ = kind
            done.run()

    _fx_passes.insert_type_promotion_nodes = insert
    try:
        yield
    finally:
        _fx_passes.insert_type_promotion_nodes = own


def _on_known_values(interpreter: type) -> type:
    """The pass's interpreter, which is handed each op as it comes and gives its value."""

    class OnKnownValues(interpreter):
        def run_node(self, n: Node) -> Any:
            if n.op != "call_function" or "val" not in n.meta:
                return super().run_node(n)
            rule = type_promotion.get_type_promotion_rule(n, self.type_promotion_table)
            if rule:
                with self._set_current_node(n):
                    # Casts, and what they change, are run, and say so in the program.
                    self._maybe_promote_node(n, rule)
            return n.meta["val"]

    return OnKnownValues
