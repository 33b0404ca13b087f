"""A factory or class -> a pipeline YAML that runs as it is, found by running the module.

    export-verify init my_package.model:Encoder --settings '{width: 96}'

build      the callable is called, as the pipeline will call it
inputs     those that are given (``--input``), the module's own ``example_inputs()``, else guessed
axes       sizes at which the module runs when they are other ones
contracts  proposed where PyTorch itself keeps them; what it does not keep is said in a comment
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from exporter.cases.load import load_cases
from exporter.config.pipeline import Pipeline, bind
from exporter.config.yaml_tree import Keys, Place
from exporter.contracts import ContractResult, run_contracts
from exporter.contracts.make_target import target_from_wrapped
from exporter.contracts.onnx_side import OnnxSide
from exporter.contracts.result import TORCH
from exporter.core.errors import StageError, UserInputError
from exporter.core.stages import Stages
from exporter.draft.content import Draft, draft_of, pipeline_content
from exporter.draft.guess import Guess, guess_inputs
from exporter.draft.text import pipeline_text
from exporter.draft.values import CallerModule, named_values
from exporter.graph.wrap import wrap
from exporter.models.user_code import blamed, find_callable, importable
from exporter.parity.status import Status, holds

WHERE = "init"
_EXAMPLE = "example_inputs"
_INPUT = re.compile(r"(?P<name>[\w.]+)=(?P<dtype>\w+)\[(?P<shape>[\d,\s]*)\]")
_PROPOSED = {
    "shapes": "every size that the axes allow gives the right result",
    "mutation": "a call leaves its inputs and the model as they were",
    "determinism": "the same input gives the same result",
    "padding": "a row gives beside longer ones what it gives alone",
    "causality": "in PyTorch no output sees an input behind its own time",
}
_OPTIONS: Mapping[str, tuple[tuple[Mapping[str, Any], str], ...]] = {
    "padding": (({}, ""), ({"pad_longest": False}, "; the longest row has to be full")),
}
"""What is tried where a contract's defaults are more than a model keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleSource:
    """What a pipeline is to be written for.

    Attributes:
        target: ``package.module:callable``. folder: where it is found, and the YAML will lie.
        settings: its keyword arguments. method: of the module it builds.
        inputs: ``x=float32[2,50,80]`` for each parameter; empty: they are found.
        head: lines of comment for the top of the YAML.
    """

    target: str
    folder: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    method: str = "forward"
    inputs: Sequence[str] = ()
    head: Sequence[str] = ()


def module_yaml(source: ModuleSource, *, name: str, stages: Stages) -> str:
    """The text of a pipeline for a callable that builds a module.

    Raises:
        UserInputError: there is no such callable, or its arguments are missing.
        ModelError: the code raises, or no inputs are found on which the module runs.
    """
    with importable(source.folder):
        with stages.stage("build") as stage:
            module = _build(source)
            stage.result(f"{type(module).__name__}, {_parameters(module):,} parameters")
        subject = CallerModule(
            module=module.cpu().eval().requires_grad_(False), method=source.method
        )
        if not callable(getattr(module, source.method, None)):
            raise UserInputError(
                f"{type(module).__name__} has no method '{source.method}'",
                where="--method",
                remedy="name a method that takes the inputs",
            )
        with stages.stage("inputs") as stage:
            inputs = _inputs(source, subject, module)
            shapes = (f"{n} {list(v.shape)}" for n, v in inputs.values.items())
            how = f", guessed in {inputs.tries} tries" if inputs.tries else ""
            stage.result(", ".join(shapes) + how)
        with stages.stage("axes") as stage:
            draft = draft_of(
                subject, inputs.values, draws=inputs.draws, said=inputs.said, fixed=inputs.fixed
            )
            stage.result(", ".join(axis.name for axis in draft.axes) or "none varies")
    model: dict[str, Any] = {"factory": source.target}
    if source.method != "forward":
        model["method"] = source.method
    if source.settings:
        model["settings"] = dict(source.settings)
    content = pipeline_content(draft, name=name, model=model, contracts={})
    with stages.stage("contracts") as stage:
        kept, left = _contracts(content, source.folder, draft)
        stage.result(", ".join(kept) or "none")
    if kept:
        content["contracts"] = {key: options for key, (options, _) in kept.items()}
    reasons = {**draft.said, **{f"contracts.{key}": why for key, (_, why) in kept.items()}}
    head = [
        *source.head,
        f"Written by 'export-verify init {source.target}', found by running the module.",
        "Check what is said beside inputs and axes; run it with: export-verify run --trust THIS",
    ]
    tail = [f"{key}: not proposed: {why}" for key, why in left.items()]
    return pipeline_text(content, said=reasons, head=head, tail=tail)


def _build(source: ModuleSource) -> nn.Module:
    factory = find_callable(source.target, source.folder, where=WHERE)
    try:
        inspect.signature(factory).bind(**source.settings)
    except TypeError as error:
        raise UserInputError(
            f"'{source.target}' cannot be called: {error}",
            where=WHERE,
            remedy="give its arguments: --settings '{width: 96}', or name a function without any",
        ) from error
    except ValueError:
        pass  # a callable whose arguments Python does not know
    with torch.random.fork_rng(devices=[]), blamed(WHERE, f"'{source.target}' raises"):
        torch.manual_seed(0)
        module = factory(**source.settings)
    if not isinstance(module, nn.Module):
        raise UserInputError(
            f"'{source.target}' returns a {type(module).__name__}, not an nn.Module",
            where=WHERE,
            remedy="name a function or class that returns an nn.Module",
        )
    return module


def _parameters(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def _inputs(source: ModuleSource, subject: CallerModule, module: nn.Module) -> Guess:
    if source.inputs:
        values = dict(_given(option) for option in source.inputs)
        return Guess(values=named_values(subject.called, values))
    offered = getattr(module, _EXAMPLE, None)
    if callable(offered):
        with blamed(WHERE, f"{_EXAMPLE}() raises"):
            return Guess(values=named_values(subject.called, offered()))
    return guess_inputs(subject)


def _given(option: str) -> tuple[str, Tensor]:
    match = _INPUT.fullmatch(option.strip())
    dtype = getattr(torch, match["dtype"], None) if match else None
    if match is None or not isinstance(dtype, torch.dtype):
        raise UserInputError(
            f"'{option}' is no input",
            where="--input",
            remedy="write for example --input 'x=float32[2,50,80]' --input 'n=int64[2]'",
        )
    shape = [int(size) for size in match["shape"].split(",") if size.strip()]
    return match["name"], _drawn(match["name"], dtype, shape)


def _drawn(name: str, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
    if dtype == torch.bool:
        return torch.ones(tuple(shape), dtype=dtype)
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0)).to(dtype)
    return (
        torch.arange(int(torch.tensor(shape).prod())).remainder(2).reshape(tuple(shape)).to(dtype)
    )


def _contracts(
    content: Mapping[str, Any], folder: Path, draft: Draft
) -> tuple[dict[str, tuple[Mapping[str, Any] | None, str]], dict[str, str]]:
    """Contracts that PyTorch's side keeps, with options and the reason; those that it does not."""
    file = str(content["name"])
    place: dict[Keys, Place] = {("model", "factory"): Place(file=file, line=1)}
    pipeline = bind(
        Pipeline.model_validate(content), file=file, places=place, folders={file: folder}
    ).with_trust()
    wrapped = wrap(pipeline)
    cases = load_cases(pipeline, wrapped.inputs, [pipeline.default_case])
    target = target_from_wrapped(wrapped, cases, name=pipeline.name, file=OnnxSide(_no_file))
    kept: dict[str, tuple[Mapping[str, Any] | None, str]] = {}
    left: dict[str, str] = {}
    for name, reason in _PROPOSED.items():
        if name == "padding" and not draft.lengths:
            continue  # nothing says how long a row is
        for options, more in _OPTIONS.get(name, (({}, ""),)):
            results = [r for r in run_contracts(target, {name: options}) if r.side == TORCH]
            if all(result.status is Status.PASS for result in results):
                kept[name] = (options or None, reason + more)
                left.pop(name, None)
                break
            broken = [r for r in results if not holds(r.status)]
            if broken:
                left.setdefault(name, _why(broken[0]))
    return kept, left


def _why(worst: ContractResult) -> str:
    place = f" ({worst.where})" if worst.where is not None else ""
    both = ", ".join(filter(None, (worst.observed, worst.reason)))
    return " ".join(f"{both}{place}".split())[:300]


def _no_file() -> Any:
    raise StageError("export", "not exported yet")
