"""Which module raised, and on which line."""

from __future__ import annotations

from torch import nn

from exporter.contracts.locate.recorder import is_user_code, shortened
from exporter.contracts.result import Location
from exporter.contracts.target import ForwardError, Target


def place_of(target: Target, error: ForwardError) -> Location:
    """Innermost module of the target, and innermost line outside of torch, of an error."""
    return place_in(target.module, error.__cause__ or error)


def place_in(module: nn.Module, error: BaseException) -> Location:
    """The same for an error that a forward of ``module`` raised itself."""
    names = {id(part): path for path, part in module.named_modules()}
    path, op, source = "", "", ""
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        owner = frame.f_locals.get("self")
        if id(owner) in names:
            path, op = names[id(owner)], type(owner).__name__
        if is_user_code(frame.f_code.co_filename):
            source = f"{shortened(frame.f_code.co_filename)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return Location(module=path, op=op, source=source)
