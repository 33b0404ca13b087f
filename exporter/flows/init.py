"""What a user has -> files that the other commands take: a YAML, and a stub where one is needed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporter.config.schema import CALLABLE
from exporter.core.errors import UserInputError
from exporter.core.files import write_text
from exporter.core.stages import Stages
from exporter.draft.content import pipeline_name
from exporter.flows.init_folder import extending_yaml, folder_source
from exporter.flows.init_module import ModuleSource, module_yaml

_ANY = frozenset(
    {"build", "build_model", "make", "make_model", "create_model", "get_model", "load"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InitOptions:
    """How a pipeline is written.

    Attributes:
        output: the YAML; None: ``<name>.yaml`` in the working folder.
        settings: arguments of the callable. method: of the module. inputs: see ``ModuleSource``.
        force: replace files that are there.
    """

    output: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    method: str = "forward"
    inputs: Sequence[str] = ()
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written, the YAML first."""

    paths: tuple[Path, ...]
    text: str
    trust: bool


def init(source: str, options: InitOptions, *, stages: Stages) -> Written:
    """Write a pipeline for ``package.module:callable``, or for a checkpoint's folder.

    Raises:
        UserInputError: it is neither, or a file is there already.
        ModelError: the module raises, or no inputs are found on which it runs.
    """
    if re.match(CALLABLE, source):
        place = _place(options, _name(source))
        name = pipeline_name(place.stem)
        module_source = ModuleSource(
            target=source,
            folder=place.parent.resolve(),
            settings=options.settings,
            method=options.method,
            inputs=options.inputs,
        )
        text = module_yaml(module_source, name=name, stages=stages)
        return Written(paths=(write_text(place, text),), text=text, trust=True)
    folder = Path(source)
    if folder.is_dir():
        return _of_folder(folder, options, stages)
    raise UserInputError(
        f"'{source}' is neither package.module:callable, nor a checkpoint's folder,"
        " nor an .onnx file",
        where="init",
        remedy="for example: export-verify init my_package.model:Encoder",
    )


def _name(target: str) -> str:
    """The callable's, or its module's where the callable is one of many."""
    path, _, made = target.rpartition(":")
    return pipeline_name(path.rpartition(".")[2] if made in _ANY else made)


def _of_folder(folder: Path, options: InitOptions, stages: Stages) -> Written:
    place = _place(options, pipeline_name(folder.resolve().name))
    folder_module = folder_source(folder, place.parent)
    if folder_module.extends is not None:
        text = extending_yaml(folder_module, folder, place.parent)
        return Written(paths=(write_text(place, text),), text=text, trust=False)
    stub = place.with_name(f"{folder_module.name}_factory.py")
    _refuse_there(stub, options)
    write_text(stub, folder_module.stub)
    module_source = ModuleSource(
        target=f"{stub.stem}:build",
        folder=place.parent.resolve(),
        method=options.method,
        inputs=options.inputs,
        head=(f"{folder_module.what} in {folder}, loaded by {stub.name}.",),
    )
    text = module_yaml(module_source, name=folder_module.name, stages=stages)
    return Written(paths=(write_text(place, text), stub), text=text, trust=True)


def _place(options: InitOptions, name: str) -> Path:
    place = options.output or Path(f"{name}.yaml")
    if not place.parent.is_dir():
        raise UserInputError(
            "this folder does not exist", where=str(place.parent), remedy="make it, or name another"
        )
    _refuse_there(place, options)
    return place


def _refuse_there(place: Path, options: InitOptions) -> None:
    if place.exists() and not options.force:
        raise UserInputError(
            "this file is there already", where=str(place), remedy="--force replaces it"
        )
