"""A module and example inputs instead of a YAML: ``exporter.verify`` and ``exporter.export``.

    report = exporter.export(module, (waveform,), "model.onnx")
    report = exporter.verify(module, (waveform,), "their.onnx")

The pipeline is made in memory (``exporter.draft``) and goes the way of every other one. What is
written besides the file lies in a folder next to it, ``model_report/``.
"""

from __future__ import annotations

import filecmp
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import onnx
from torch import nn

from exporter.config import Pipeline
from exporter.config.run_options import RunOptions
from exporter.core.errors import EXIT_PASS, ArtifactError, UserInputError
from exporter.core.files import remove, replacing
from exporter.core.stages import Stages
from exporter.draft.axes import lengths_of
from exporter.draft.content import Draft, draft_of, pipeline_content, pipeline_name
from exporter.draft.values import CallerModule, InOrder, named_values, save_values, subject_of
from exporter.flows import verify as verifying
from exporter.flows.run import run
from exporter.graph.certificate import is_own
from exporter.graph.onnx_file import read_light
from exporter.graph.stored_tensors import external_entry, external_tensors
from exporter.models.results import leaves_by_path
from exporter.report.schema import Report
from exporter.report.write import write_reports

GIVEN = "given"
"""The case of the values that the caller gave."""
_INPUTS = "inputs.npz"


def export(
    module: Callable[..., Any],
    args: Any,
    path: Path | str = "model.onnx",
    *,
    dynamic_axes: Mapping[str, Any] | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    contracts: Mapping[str, Any] | None = None,
    opset: int | None = None,
    keep_failed: bool = False,
    progress: Stages | None = None,
    **fields: Any,
) -> Report:
    """Export a module, and judge the file against it, stage by stage and layer by layer.

    Args:
        module: an ``nn.Module``, a method of one, or an instance that is called; a copy of it is
            exported, in eval mode.
        args: a tuple of tensors in the order of forward's parameters, or a dict by their names;
            lists, tuples and dicts inside are taken apart: ``caches.0.key``. They are one of the
            cases; others are drawn like them, at other sizes.
        path: the file to write. Only one that passes is: of another verdict ``ExportFailedWarning``
            is given, and the file lies in the report's folder alone.
        dynamic_axes: as torch.onnx.export takes them. None: every size at which the module runs
            when it is another one may vary; the report's notes name them.
        input_names, output_names: other names, in order.
        contracts: as in a YAML: ``{"causality": {"lookahead_samples": 0}}``.
        opset: of the file. progress: is told the stages.
        keep_failed: write the file to ``path`` whatever the verdict; the warning is given all the
            same.
        fields: of ``RunOptions``: ``output_dir``, ``threads``, ``provider`` ...

    Raises:
        UserInputError: module, inputs, axes or names do not fit each other.
        ModelError: the module raises.
    """
    path = _file(path)
    asked = _Asked(module, args, dynamic_axes, input_names, output_names)
    made = _made(asked, name=path.stem, contracts=contracts, opset=opset)
    options, folder = _options(fields, path)
    report = run(made.pipeline(folder), options, progress=progress)
    report = _noted(report, made, folder)
    stopped = report.stopped is not None
    if report.exit_code != EXIT_PASS:
        stopped = stopped or not keep_failed
        lies = "" if report.stopped else f"; the file lies in {folder / 'model.onnx'}"
        written = f"{path} was not written{lies}" if stopped else f"{path} was written all the same"
        said = f"{report.verdict}: {report.headline} ({written})"
        warnings.warn(said, ExportFailedWarning, stacklevel=2)
    _hand_over(folder, path, stopped=stopped)
    return report


class ExportFailedWarning(UserWarning):
    """An export whose verdict is no pass."""


@overload
def verify(
    subject: Pipeline | Path | str,
    onnx: Path,
    options: RunOptions | None = None,
    *,
    progress: Stages | None = None,
    changed_on_purpose: bool = False,
    **fields: Any,
) -> Report: ...


@overload
def verify(
    subject: Callable[..., Any],
    args: Any,
    path: Path | str,
    *,
    dynamic_axes: Mapping[str, Any] | None = None,
    progress: Stages | None = None,
    changed_on_purpose: bool = False,
    **fields: Any,
) -> Report: ...


def verify(subject: Any, *given: Any, **fields: Any) -> Report:
    """Judge an ONNX file against a module, or against the pipeline of a YAML.

    ``verify(module, args, "model.onnx")``: ``module``, ``args`` and ``dynamic_axes`` as in
    ``exporter.export``. Names of inputs and outputs are the file's, in its order; axes that are
    fixed in the file are judged as they are, and named in the report's notes.

    ``verify("pipeline.yaml", Path("model.onnx"), options)``: a pipeline, or the path of its YAML.

    Raises:
        ArtifactError: the file is unreadable, or onnxruntime refuses to load it.
        UserInputError: module, inputs, pipeline or options cannot be used.
    """
    if isinstance(subject, Pipeline | Path | str):
        return verifying.verify(subject, *given, **fields)
    return _verify_module(subject, *given, **fields)


def _verify_module(
    module: Callable[..., Any],
    args: Any,
    path: Path | str,
    *,
    dynamic_axes: Mapping[str, Any] | None = None,
    progress: Stages | None = None,
    changed_on_purpose: bool = False,
    **fields: Any,
) -> Report:
    path = Path(path)
    if not path.is_file():
        raise ArtifactError(
            "there is no file here", where=str(path), remedy="give the path of an .onnx file"
        )
    model, _ = read_light(path)
    stored = {tensor.name for tensor in model.graph.initializer}
    asked = _Asked(
        module,
        args,
        dynamic_axes,
        [value.name for value in model.graph.input if value.name not in stored],
        [value.name for value in model.graph.output],
        model,
    )
    made = _made(asked, name=path.stem)
    options, folder = _options(fields, path)
    report = verifying.verify(
        made.pipeline(folder),
        path,
        options,
        progress=progress,
        changed_on_purpose=changed_on_purpose,
    )
    return _noted(report, made, folder / "verify")


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the caller gave; with a file, names are the file's."""

    module: Callable[..., Any]
    args: Any
    dynamic_axes: Mapping[str, Any] | None
    input_names: Sequence[str] | None
    output_names: Sequence[str] | None
    file: onnx.ModelProto | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A pipeline as data, its module, the values that the caller gave, and what is to be said."""

    content: Mapping[str, Any]
    module: nn.Module
    values: Mapping[str, Any]
    notes: tuple[str, ...]

    def pipeline(self, folder: Path) -> Pipeline:
        """The pipeline; the caller's values are one more case, which a file in ``folder`` holds."""
        places = save_values(self.values, folder / _INPUTS)
        case = [] if places is None else [{"name": GIVEN, "inputs": places}]
        outputs = tuple(self.content["outputs"])
        content = {
            **self.content,
            "cases": [*self.content["cases"], *case],
            "outputs": [f"output_{number}" for number in range(len(outputs))],
        }
        # A file may call its outputs what it likes ("25"); a YAML may not.
        pipeline = Pipeline.model_validate(content).model_copy(update={"outputs": outputs})
        return pipeline.with_module(self.module)


def _made(
    asked: _Asked,
    *,
    name: str,
    contracts: Mapping[str, Any] | None = None,
    opset: int | None = None,
) -> _Made:
    subject = subject_of(asked.module)
    values = named_values(subject.called, asked.args)
    subject, values = _renamed(subject, values, asked)
    outputs = _output_names(subject, values, asked)
    draft = draft_of(subject, values, dynamic_axes=asked.dynamic_axes, outputs=outputs)
    fixed: tuple[str, ...] = ()
    if asked.file is not None and asked.dynamic_axes is None:
        draft, fixed = _as_in_file(draft, values, asked.file)
    kind = type(asked.module)
    called = kind.__name__ if kind.__name__.isidentifier() else "module"
    model: dict[str, Any] = {"factory": f"{kind.__module__}:{called}"}
    if subject.method != "forward":
        model["method"] = subject.method
    content = pipeline_content(
        draft, name=pipeline_name(name), model=model, contracts=contracts or {}
    )
    if opset is not None:
        content["export"] = {"opset": opset}
    said = tuple(f"axis '{axis.name}' may vary: {axis.why}" for axis in draft.axes)
    none = () if draft.axes else ("no axis varies: the file takes the sizes of the example alone",)
    notes = (*subject.notes, *said, *none, *fixed)
    return _Made(content=content, module=subject.module, values=values, notes=notes)


def _renamed(
    subject: CallerModule, values: Mapping[str, Any], asked: _Asked
) -> tuple[CallerModule, dict[str, Any]]:
    """The same inputs under the names that are asked for, in order."""
    names = asked.input_names
    if names is None or set(names) == set(values):
        return subject, dict(values)
    if len(names) != len(values):
        who = "the file takes" if asked.file is not None else "input_names has"
        raise UserInputError(
            f"{who} {len(names)} ({', '.join(names)}), args has {len(values)}"
            f" ({', '.join(values)})",
            where="args",
            remedy="give one tensor per input",
        )
    module = InOrder(subject.module, subject.binding(list(values)), list(names))
    return replace(subject, module=module, method="forward"), dict(
        zip(names, values.values(), strict=True)
    )


def _output_names(
    subject: CallerModule, values: Mapping[str, Any], asked: _Asked
) -> Sequence[str] | None:
    """Names for what the module returns; None: its own."""
    names = asked.output_names
    if names is None:
        return None
    paths = [".".join(path) for path, _ in leaves_by_path(subject.run(values))]
    if set(names) <= set(paths) or len(names) == len(paths):
        return names
    raise UserInputError(
        f"there are {len(names)} name(s) of outputs ({', '.join(names)}), and the module returns"
        f" {len(paths)} ({', '.join(paths)})",
        where="output_names" if asked.file is None else "the file",
        remedy="they must be as many, or be called alike",
    )


def _as_in_file(
    draft: Draft, values: Mapping[str, Any], file: onnx.ModelProto
) -> tuple[Draft, tuple[str, ...]]:
    """The draft with the axes alone that vary in the file, and what is to be said of the others."""
    dims = {value.name: value.type.tensor_type.shape.dim for value in file.graph.input}

    def varies(name: str, at: int) -> bool:
        shape = dims.get(name, ())
        return len(shape) <= at or not shape[at].HasField("dim_value")

    free = tuple(axis for axis in draft.axes if all(varies(*place) for place in axis.places))
    fixed = [axis for axis in draft.axes if axis not in free]
    said = tuple(
        f"the file fixes {', '.join(f'{n}[{d}]' for n, d in axis.places)} at the example's size,"
        " at which it is judged; the module takes others"
        for axis in fixed
    )
    stay = {place for axis in fixed for place in axis.places}
    kept = {name: _cut(value, values[name], name, stay) for name, value in draft.values.items()}
    return replace(draft, axes=free, values=kept, lengths=lengths_of(kept)), said


def _cut(value: Any, given: Any, name: str, stay: set[tuple[str, int]]) -> Any:
    """The value, at the caller's size where that is fixed."""
    for at in range(value.dim()):
        if (name, at) in stay:
            value = value.narrow(at, 0, given.shape[at])
    return value.contiguous()


def _options(fields: Mapping[str, Any], path: Path) -> tuple[RunOptions, Path]:
    folder = Path(fields.get("output_dir") or path.with_name(f"{path.stem}_report"))
    chosen = {"all_cases": "cases" not in fields, **fields, "output_dir": folder}
    return RunOptions.given(None, chosen), folder


def _file(path: Path | str) -> Path:
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir():
        raise UserInputError(
            "no file can be written here", where=str(path), remedy="give the path of a file"
        )
    return path


def _noted(report: Report, made: _Made, folder: Path) -> Report:
    report = report.model_copy(update={"notes": [*report.notes, *made.notes]})
    write_reports(report, folder)
    return report


def _hand_over(folder: Path, path: Path, *, stopped: bool) -> None:
    """The shipped file where the caller wants it; an earlier export of ours is taken away."""
    if stopped:
        if path.is_file() and is_own(path):
            remove(path)
        return
    shipped = folder / "model.onnx"
    beside = shipped.with_name(f"{shipped.name}.data")
    if beside.is_file():
        data = path.with_name(beside.name)
        if (
            data.exists()
            and not _reads(path, data.name)
            and not filecmp.cmp(beside, data, shallow=False)
        ):
            raise UserInputError(
                f"the weights of this export are a file '{data.name}', and another one is there",
                where=str(path),
                remedy=f"give a path in another folder; the export lies in {shipped}",
            )
        remove(path)  # at no moment may the old file point into new weights
        with replacing(data) as part:
            shutil.copyfile(beside, part)
    with replacing(path) as part:
        shutil.copyfile(shipped, part)


def _reads(path: Path, name: str) -> bool:
    """Whether there is an ONNX file at ``path`` with weights in the file ``name`` beside it."""
    if not path.is_file():
        return False
    model, _ = read_light(path)
    return any(external_entry(tensor)[0] == name for tensor in external_tensors(model))
