"""A module, and which functions of Python run when it is called.

A repair of a model's source asks for its functions, and a package has many: all that a model could
call, with their loops and branches. Those that it does call are seen by running it.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ModuleRun:
    """What a repair is asked about, and applied to.

    Attributes:
        module: in eval mode.
        functions: code of each function of Python that a run on the example called.
    """

    module: nn.Module
    functions: frozenset[CodeType]

    def calls(self, function: Any) -> bool:
        """True for a function that ran."""
        return getattr(function, "__code__", None) in self.functions


def module_run(module: nn.Module, example: Mapping[str, Tensor]) -> ModuleRun:
    """Run a copy of a module on its example, and see what it calls.

    Args:
        example: one tensor per argument of ``forward``, in order.
    """
    called: set[CodeType] = set()

    def see(frame: FrameType, event: str, arg: Any) -> None:
        if event == "call":
            called.add(frame.f_code)

    own, values = copy.deepcopy(module), [value.clone() for value in example.values()]
    before = sys.getprofile()
    # Where it stops here, it stops while it is traced, and is reported there.
    with contextlib.suppress(Exception), torch.random.fork_rng(devices=[]), torch.no_grad():
        sys.setprofile(see)
        try:
            own(*values)
        finally:
            sys.setprofile(before)
    return ModuleRun(module=module, functions=frozenset(called))
