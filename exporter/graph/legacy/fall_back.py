"""Where torch.export refuses a model, or its program cannot be written: the legacy exporter's file.

It is made only where a trace can be right: what the model's Python decides by the values of its
inputs, a trace keeps as the example decided it, and no comparison of sizes would show that. Then
the refusal stands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

import onnx_ir as ir

from exporter.core.errors import StageError, first_line
from exporter.graph.export import Exported, checked_interface
from exporter.graph.guards import Guard
from exporter.graph.kept_state import KeptState
from exporter.graph.legacy.file import LegacyFile, legacy_file
from exporter.graph.legacy.trace import PythonRead
from exporter.graph.repairs.frame import repaired
from exporter.graph.repairs.module_run import ModuleRun
from exporter.graph.repairs.scripted import REPAIR as SCRIPTED
from exporter.graph.wrap import Wrapped

NAME = "traced by torch's legacy exporter"
_MOST_NAMED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FallBack:
    """A file of the legacy exporter, in place of a captured program and of its file.

    Attributes:
        exported: file and program. why: what torch.export said, with place and remedy.
        notes: what a report should say of it.
        guards: conditions on sizes that the trace rests on, as far as they are known.
    """

    exported: Exported
    why: str
    notes: tuple[str, ...] = ()
    guards: tuple[Guard, ...] = ()

    @property
    def digest(self) -> str:
        """sha256 of the graph that was traced, weights included."""
        written = ir.to_proto(self.exported.model).SerializeToString(deterministic=True)
        return hashlib.sha256(written).hexdigest()


def fall_back(
    wrapped: Wrapped,
    refused: StageError,
    opset: int,
    *,
    place: Callable[[Any], str],
    without: Collection[str] = (),
) -> FallBack:
    """Make the legacy exporter's file.

    Args:
        refused: why there is no other one; it is raised again where there is none of this kind.
        place: says at which line of the user's code an error was raised.
        without: names of repairs that are switched off.

    Raises:
        StageError: ``refused``, with why the legacy exporter makes no file either.
    """
    kept = KeptState(wrapped.module)
    # The tracer does not enter scripted parts of a module that is none itself.
    needed = () if SCRIPTED.name in without else (SCRIPTED,)
    try:
        # It does not ask what the module runs.
        with repaired(ModuleRun(module=wrapped.module, functions=frozenset()), needed):
            made = legacy_file(
                wrapped.module,
                wrapped.example,
                inputs=wrapped.inputs,
                outputs=wrapped.outputs,
                opset=opset,
            )
    except Exception as error:  # noqa: BLE001 - whatever model, tracer or exporter raise
        at = place(error.__cause__ or error)
        where = f" at {at}" if at else ""
        text = f"torch's legacy exporter stops{where}: {first_line(error)}"
        raise and_legacy(refused, text) from refused.__cause__
    finally:
        kept.restore()
    by_data = [decision for decision in made.decisions if decision.by_data]
    if by_data:
        said = f"Python decides by values of the inputs at {_places(by_data)}"
        raise and_legacy(
            refused, f"torch's legacy exporter would keep what the example decides: {said}"
        ) from refused.__cause__
    try:
        exported = _exported(made, wrapped)
    except StageError as error:
        raise and_legacy(refused, f"torch's legacy exporter: {error.detail}") from refused.__cause__
    guards = dict.fromkeys(
        decision.guard for decision in made.decisions if decision.guard is not None
    )
    return FallBack(
        exported=exported,
        why=_why(refused),
        notes=_notes(made, wrapped, refused),
        guards=tuple(guards),
    )


def _exported(made: LegacyFile, wrapped: Wrapped) -> Exported:
    program = checked_interface(made.model, made.program, wrapped.inputs, wrapped.outputs)
    return Exported(model=made.model, program=program, left="")


def and_legacy(refused: StageError, more: str) -> StageError:
    """The refusal, and what the legacy exporter has to say to it."""
    return StageError(
        refused.stage,
        f"{refused.detail}\n{more}",
        finished=refused.finished,
        remedy=refused.remedy,
        frozen=refused.frozen,
        source=refused.source,
        file=refused.file,
    )


def _why(refused: StageError) -> str:
    lines = refused.detail.strip().splitlines() or [""]
    at = f" (at {refused.source})" if refused.source else ""
    remedy = f"; {refused.remedy}" if refused.remedy else ""
    return f"{lines[0][:300]}{at}{remedy}"


def _notes(made: LegacyFile, wrapped: Wrapped, refused: StageError) -> tuple[str, ...]:
    sizes = ", ".join(f"{name} {size}" for name, size in wrapped.sizes.items())
    notes = [
        f"no captured program: {_why(refused)}. The file was made by torch's legacy exporter, from"
        f" a trace at {sizes or 'the example'}; 'captured' is that trace, and has no conditions on"
        " sizes: what it is worth at others was only tried"
    ]
    sized = [decision for decision in made.decisions if not decision.by_data]
    if sized:
        notes.append(
            f"Python read sizes as numbers while it was traced, at {_places(sized)}: what it"
            f" decided there is that of {sizes or 'the example'}"
        )
    return tuple(notes)


def _places(decisions: list[PythonRead]) -> str:
    places = list(dict.fromkeys(decision.place or decision.asked for decision in decisions))
    more = f" and {len(places) - _MOST_NAMED} more" if len(places) > _MOST_NAMED else ""
    return ", ".join(places[:_MOST_NAMED]) + more


def with_words(made: FallBack) -> Exported:
    """File and program of a fall-back; the program says that it is one."""
    program = replace(
        made.exported.program, fallback=made.why, notes=made.notes, guards=made.guards
    )
    return replace(made.exported, program=program)
