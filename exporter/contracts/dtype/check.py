"""Dtype: at the declared precision every op gets operands of one dtype, and nothing overflows.

    float16, bfloat16                       the module converted to it
    autocast_float16, autocast_bfloat16     float32 weights under torch.autocast
    as_built                                the dtypes that the module was built with

First an audit of every call (``audit``), then a real run where this machine can, then what
float16 cannot hold on the golden inputs; on the ONNX side that the graph type-checks at that
precision (``onnx``).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from exporter.contracts.dtype.audit import ERROR, MIXED, DtypeAudit, Event
from exporter.contracts.dtype.convert import converted, input_dtype
from exporter.contracts.dtype.onnx import check_onnx
from exporter.contracts.dtype.overflow import (
    ADVICE,
    LIMIT,
    Finiteness,
    Overflow,
    find_overflow,
    run_and_watch,
    watching,
)
from exporter.contracts.dtype.scope import Part, scoped
from exporter.contracts.dtype.settings import Settings
from exporter.contracts.locate.recorder import ModuleStack, flat_tensors, raised_in
from exporter.contracts.probes import probe
from exporter.contracts.result import (
    SIDES,
    TORCH,
    Answer,
    ContractResult,
    Location,
    not_applicable,
)
from exporter.contracts.target import Target
from exporter.core.errors import first_line
from exporter.graph.torch_refusal import lacks_kernel

NAME = "dtype"


@dataclass(slots=True, kw_only=True)
class Findings:
    """What one precision gave on the PyTorch side.

    Attributes:
        audit: "meta device" or "real tensors".
        stopped: why the audit ended early.
        error: relative error of the real run against float32.
    """

    precision: str
    audit: str = ""
    events: list[Event] = field(default_factory=list)
    stopped: Location | None = None
    stopped_why: str = ""
    ran: str = ""
    raised: Location | None = None
    error: float | None = None
    overflow: Overflow | None = None

    @property
    def bad(self) -> bool:
        return bool(self.events or self.stopped or self.raised or self.overflow)


def check(target: Target, settings: Settings) -> tuple[ContractResult, ...]:
    """Check both sides."""
    inputs = probe(target)
    finiteness: list[Finiteness] = []

    @contextlib.contextmanager
    def watched(module: nn.Module) -> Iterator[None]:
        with watching(module) as seen:
            yield
        finiteness.append(seen)

    part = scoped(target, inputs, settings.scope, around=watched)
    if isinstance(part, str):
        return tuple(not_applicable(NAME, side, part) for side in SIDES)

    def reference() -> Finiteness:
        if not finiteness:
            finiteness.append(run_and_watch(part.module, part.args))
            part.restore()
        return finiteness[0]

    findings = [
        check_precision(part, precision, run=settings.run, reference=reference)
        for precision in settings.precisions
    ]
    for item in findings:
        item.events = [_within(event, settings.scope) for event in item.events]
    return _verdict(findings, settings.scope), check_onnx(target, settings, part)


def _within(event: Event, scope: str) -> Event:
    """An event of a submodule with its path from the root."""
    if not scope:
        return event
    path = f"{scope}.{event.place.module}" if event.place.module else scope
    return dataclasses.replace(event, place=dataclasses.replace(event.place, module=path))


def check_precision(
    part: Part, precision: str, *, run: bool, reference: Callable[[], Finiteness]
) -> Findings:
    """Audit and run a module at one precision; the module itself is not changed.

    Args:
        reference: the float32 run; called when it is needed.
    """
    findings = Findings(precision=precision)
    if precision.startswith("autocast_"):
        # Autocast is a mode of the device: only a real run shows what it does.
        findings.audit = "real tensors"
        _run(part, precision, findings, reference, audited=True)
        return findings
    _audit(part.module, part.args, precision, findings)
    if not run:
        findings.ran = "not run (not asked for)"
    elif findings.events or findings.stopped is not None:
        findings.ran = "not run (the audit found what would stop it)"
    else:
        _run(part, precision, findings, reference, audited=False)
    return findings


def _audit(module: nn.Module, args: tuple[Any, ...], precision: str, findings: Findings) -> None:
    for device in ("meta", "cpu"):
        copy = converted(module, precision, device=device)
        fed = [input_dtype(arg, precision, device) for arg in args]
        findings.audit = "meta device" if device == "meta" else "real tensors"
        with torch.no_grad(), ModuleStack(copy) as stack, _auditing(stack, precision) as audit:
            try:
                copy(*fed)
                findings.stopped = None
            except Exception as error:  # noqa: BLE001 - the refusal of an op is the finding
                text = first_line(error)
                findings.stopped = raised_in(copy, error)
                findings.stopped_why = text
                if device == "meta":
                    findings.stopped_why = f"not possible on the meta device: {text}"
        findings.events = audit.events
        if findings.stopped is None:
            return


def _auditing(stack: ModuleStack, precision: str) -> DtypeAudit:
    if precision == "as_built" or precision.startswith("autocast_"):
        return DtypeAudit(stack, None, autocast=precision != "as_built")
    return DtypeAudit(stack, getattr(torch, precision))


def _run(
    part: Part,
    precision: str,
    findings: Findings,
    reference: Callable[[], Finiteness],
    *,
    audited: bool,
) -> None:
    autocast = precision.startswith("autocast_")
    low = part.module if autocast else converted(part.module, precision, device="cpu")
    fed = [input_dtype(arg, precision, "cpu") for arg in part.args]
    audit: Any = contextlib.nullcontext()
    with contextlib.ExitStack() as around:
        if autocast:
            dtype = getattr(torch, precision.removeprefix("autocast_"))
            around.enter_context(torch.autocast("cpu", dtype=dtype))
        if audited:
            stack = around.enter_context(ModuleStack(low))
            audit = around.enter_context(_auditing(stack, precision))
        try:
            narrow = run_and_watch(low, fed)
        except Exception as error:  # noqa: BLE001 - the refusal of an op is the finding
            text = first_line(error)
            if lacks_kernel(text):
                findings.ran = f"not run (this machine: {text})"
                return
            findings.raised = raised_in(low, error)
            findings.ran = f"raises: {text}"
            return
        finally:
            part.restore()
            findings.events = audit.events if audited else findings.events
    findings.ran = "ran"
    if precision == "as_built":
        return
    wide = reference()
    findings.error = _relative_error(wide.returned, narrow.returned)
    if precision.removeprefix("autocast_") == "float16":
        mode = torch.autocast("cpu", dtype=torch.float16) if autocast else contextlib.nullcontext()
        with mode:
            findings.overflow = find_overflow(part.module, low, part.args, fed, wide, narrow)
        part.restore()


def _relative_error(full: Any, low: Any) -> float | None:
    worst = None
    for (_, a), (_, b) in zip(flat_tensors(full, ""), flat_tensors(low, ""), strict=False):
        if not isinstance(a, Tensor) or not a.is_floating_point() or a.shape != b.shape:
            continue
        wide, other = a.double(), b.double()
        finite = torch.isfinite(wide) & torch.isfinite(other)
        if bool(finite.any()):
            scale = float(wide[finite].abs().max()) or 1.0
            gap = float((wide - other)[finite].abs().max()) / scale
            worst = gap if worst is None else max(worst, gap)
    return worst


def _verdict(findings: list[Findings], scope: str) -> ContractResult:
    details = {
        item.precision: {
            "audit": item.audit,
            "events": [f"{event}; {event.repair}" for event in item.events],
            "stopped": str(item.stopped) if item.stopped else None,
            "real run": item.ran,
            "relative error": item.error,
            "overflow": str(item.overflow) if item.overflow else None,
        }
        for item in findings
    }
    bad = next((item for item in findings if item.bad), None)
    said = Answer(NAME, TORCH, details)
    if bad is None:
        errors = [f"{i.precision} {i.error:.2g}" for i in findings if i.error is not None]
        observed = "0 events" + (f"; relative error {', '.join(errors)}" if errors else "")
        where = f" in {scope}" if scope else ""
        return said.passed(observed, "0 events", ", ".join(i.precision for i in findings) + where)
    if bad.events:
        first = bad.events[0]
        # The first event is the cause; what people see is an attention or a product that refuses.
        later = [e for e in bad.events[1:] if e.kind in (ERROR, MIXED)]
        later.sort(key=lambda e: "attention" not in e.place.op)
        symptom = f"; later {later[0]}" if later else ""
        reason = f"{first}" + (f": {first.message}" if first.message else "") + symptom
        count = f"{len(bad.events)} event(s) at {bad.precision}"
        return said.failed(count, "0 events", reason, where=first.place, advice=first.repair)
    if bad.overflow is not None:
        return said.failed(
            f"a value of {bad.overflow.value:.6g} at {bad.precision}",
            LIMIT,
            f"float16 overflows on the golden inputs: {bad.overflow}",
            where=bad.overflow.place,
            advice=ADVICE,
        )
    return said.failed(
        f"an error at {bad.precision}",
        "runs",
        bad.ran if bad.raised else bad.stopped_why,
        where=bad.raised or bad.stopped,
        advice="cast the operands of this call to one dtype",
    )
