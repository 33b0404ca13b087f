"""Which module raised, and on which line."""

from __future__ import annotations

from exporter.contracts.recorder import _OURS, _TORCH, shortened
from exporter.contracts.result import Place
from exporter.contracts.subject import ForwardError, Subject


def place_of(subject: Subject, error: ForwardError) -> Place:
    """Innermost module of the subject, and innermost line outside of torch, of an error."""
    names = {id(part): path for path, part in subject.module.named_modules()}
    module, op, source = "", "", ""
    trace = error.__cause__.__traceback__ if error.__cause__ else None
    while trace is not None:
        frame = trace.tb_frame
        owner = frame.f_locals.get("self")
        if id(owner) in names:
            module, op = names[id(owner)], type(owner).__name__
        path = frame.f_code.co_filename
        if not path.startswith((_TORCH, _OURS, "<")):
            source = f"{shortened(path)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return Place(module=module, op=op, source=source)
