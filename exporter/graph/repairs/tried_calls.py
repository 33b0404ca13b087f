"""A call of a layer that raises, and is caught: ``try: layer(x, lengths=n) except TypeError: ...``.

While a model is traced, torch keeps a list of the layers that it is inside of, and leaves a layer
on it that an error threw it out of; the next layer that ends is then not the one it expects. Here
such a layer is taken off the list. PyTorch itself runs the same code either way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.fx._symbolic_trace import Tracer

from exporter.graph.repairs.frame import Log, Repair, replaced_names
from exporter.graph.repairs.module_run import ModuleRun


@contextlib.contextmanager
def _apply(run: ModuleRun, log: Log) -> Iterator[None]:
    own = Tracer.call_module

    def call_module(self: Any, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        inside = list(self.module_stack)
        try:
            return own(self, m, forward, args, kwargs)
        except Exception as error:
            log.at(f"a call of {type(m).__name__} that raises {type(error).__name__}")
            for key in list(self.module_stack):
                if key not in inside:
                    del self.module_stack[key]
            raise

    with replaced_names([(Tracer, "call_module", call_module)]):
        yield


REPAIR = Repair(
    name="tried_calls",
    replaces="what the model catches there is forgotten by the trace",
    strategy="calls that are tried and fail forgotten",
    matches=lambda run: True,
    apply=_apply,
)
