"""What an export made, from the cache and into it: all stages behind ``wrap``, before judging."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from torch import nn

from exporter.cache.entry import Entry, key_of
from exporter.cache.store import Store
from exporter.core.artifact import Artifact
from exporter.graph.program import Program
from exporter.graph.program_file import OPS_FILE, WEIGHTS_FILE, load_program
from exporter.graph.simplify import Simplified

STAGES = ("capture", "export", "simplify", "ship")
EXPORTED, SHIPPED, TAPS, PROGRAM = "exported.onnx", "model.onnx", "taps.json", "program"
_SHORT = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """What the making stages left, whether they ran now or in an earlier run.

    Attributes:
        program: what the exporter translated. exported, shipped: the two files.
        simplified: what onnxsim did, without its model; None when the pipeline leaves it out.
        said: stage -> what it showed as its result.
    """

    program: Program
    exported: Artifact
    shipped: Artifact
    simplified: Simplified | None
    said: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheUse:
    """What the cache had to do with an export.

    Attributes:
        key: sha256 of what the export is made of.
        taken: True when the files come from the cache. made: when they were made, ISO 8601.
        stored: True when the files are in the cache now.
        stages: those whose results it has.
        notes: what went wrong with it, in words; nothing of it stops a run.
    """

    key: str
    taken: bool
    stored: bool
    made: str
    stages: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        """The beginning of the key, for people."""
        return self.key[:_SHORT]


def clear_exported(folder: Path) -> None:
    """Take away what the exporter is about to write.

    The weights may be another name of a cached file, and the exporter would write into it.
    """
    for name in (EXPORTED, f"{EXPORTED}.data"):
        (folder / name).unlink(missing_ok=True)


def take(
    store: Store, parts: Mapping[str, str], folder: Path, module: nn.Module
) -> tuple[ExportResult | None, CacheUse, int]:
    """Look for an export; on a hit its files lie in ``folder``.

    Args:
        parts: what the export is made of, by name.
        module: its tensors take the place of equal ones in the program's file.

    Returns:
        what was made, what the cache did, and the bytes that were checked.
    """
    key = key_of(parts)
    missed = CacheUse(key=key, taken=False, stored=False, made="")
    try:
        taken = store.take(key, folder)
    except OSError as error:
        return None, dataclasses.replace(missed, notes=(_unusable(error),)), 0
    if taken.entry is None:
        notes = (taken.problem,) if taken.problem else ()
        return None, dataclasses.replace(missed, notes=notes), 0
    for name in {f"{EXPORTED}.data", f"{SHIPPED}.data"} - set(taken.entry.files):
        (folder / name).unlink(missing_ok=True)  # of an earlier export, which had them outside
    made = _made(taken.entry, folder, module)
    use = dataclasses.replace(
        missed, taken=True, stored=True, made=taken.entry.made, stages=stages_made(made.said)
    )
    return made, use, taken.entry.bytes


def keep(
    store: Store,
    parts: Mapping[str, str],
    folder: Path,
    made: ExportResult,
    label: str,
    before: CacheUse,
) -> CacheUse:
    """Store what was just made; a cache that cannot is said and otherwise ignored."""
    digests = {**made.exported.external, **made.shipped.external}
    names = [*digests, EXPORTED, SHIPPED, TAPS]
    names += [f"{PROGRAM}/{name}" for name in (WEIGHTS_FILE, OPS_FILE)]
    try:
        done = store.put(
            before.key,
            folder,
            names,
            parts=parts,
            label=label,
            facts=_facts(made),
            digests={**digests, EXPORTED: made.exported.sha256, SHIPPED: made.shipped.sha256},
        )
    except OSError as error:
        return dataclasses.replace(before, notes=(*before.notes, _unusable(error)))
    if isinstance(done, str):
        note = f"the export was not cached: {done}"
        return dataclasses.replace(before, notes=(*before.notes, note))
    stages = stages_made(made.said)
    return dataclasses.replace(before, stored=True, made=done.made, stages=stages)


def changed_since(store: Store, parts: Mapping[str, str], label: str) -> str:
    """Which parts differ from the cached export of the same name that has most in common."""
    try:
        others = [entry for entry in store.entries() if entry.label == label]
    except OSError:
        return ""
    differing = [
        [name for name, value in parts.items() if entry.parts.get(name) != value]
        for entry in others
    ]
    return ", ".join(min(differing, key=len, default=[]))


def _unusable(error: OSError) -> str:
    where = f": {error.filename}" if error.filename else ""
    return f"the cache cannot be used ({error.strerror or error}{where})"


def _facts(made: ExportResult) -> dict[str, Any]:
    figures = None
    if made.simplified is not None:
        figures = {
            field.name: getattr(made.simplified, field.name)
            for field in dataclasses.fields(Simplified)
            if field.name != "model"
        }
    return {
        "exported": _artifact_facts(made.exported),
        "shipped": _artifact_facts(made.shipped),
        "simplified": figures,
        "said": dict(made.said),
    }


def _artifact_facts(artifact: Artifact) -> dict[str, Any]:
    return {
        "sha256": artifact.sha256,
        "bytes": artifact.bytes,
        "nodes": artifact.nodes,
        "metadata": dict(artifact.metadata),
        "external": dict(artifact.external),
    }


def _made(entry: Entry, folder: Path, module: nn.Module) -> ExportResult:
    facts = entry.facts
    figures = facts["simplified"]
    program = load_program(folder / PROGRAM)
    return ExportResult(
        program=dataclasses.replace(program, tensors=_shared(program, module)),
        exported=Artifact(path=folder / EXPORTED, **facts["exported"]),
        shipped=Artifact(path=folder / SHIPPED, **facts["shipped"]),
        simplified=None if figures is None else Simplified(model=onnx.ModelProto(), **figures),
        said=facts["said"],
    )


def _shared(program: Program, module: nn.Module) -> dict[str, Any]:
    """The program's tensors; those of the module itself where it has them, as after a capture.

    They are equal, since the key holds the digest of the weights; so they are held once.
    """
    own = {
        **dict(module.named_buffers(remove_duplicate=False)),
        **dict(module.named_parameters(remove_duplicate=False)),
    }
    return {
        key: own[key].detach()
        if key in own and own[key].shape == tensor.shape and own[key].dtype == tensor.dtype
        else tensor
        for key, tensor in program.tensors.items()
    }


def stages_made(made: Mapping[str, str]) -> tuple[str, ...]:
    """The making stages that ran, in order."""
    return tuple(name for name in STAGES if name in made)
