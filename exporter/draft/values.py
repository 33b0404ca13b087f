"""What a module is called with, as named tensors: names are those of its parameters."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from exporter.core.errors import ModelError, UserInputError
from exporter.core.files import replacing
from exporter.models.binding import Binding, UnboundError, bind_inputs
from exporter.models.fast_path import without_fast_path
from exporter.models.results import leaves_by_path


class _Called(nn.Module):
    """Something that is called and is no module; the modules that it holds are its parts."""

    def __init__(self, called: Callable[..., Any]):
        super().__init__()
        inner = getattr(called, "func", called)  # of a functools.partial
        parts = {"called": inner} if isinstance(inner, nn.Module) else dict(vars(inner))
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                self.add_module(f"of_{name}", part)
        self.forward = called


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerModule:
    """What is exported: a copy of the caller's module in eval mode, and which method is called."""

    module: nn.Module
    method: str = "forward"
    notes: tuple[str, ...] = ()

    @property
    def called(self) -> Callable[..., Any]:
        """The method."""
        return getattr(self.module, self.method)

    def binding(self, names: Sequence[str]) -> Binding:
        """How it is called with inputs of these names.

        Raises:
            UserInputError: a name that no parameter takes.
        """
        try:
            return replace(bind_inputs(self.called, names), method=self.method)
        except UnboundError as error:
            raise UserInputError(
                f"{self.method}({', '.join(error.parameters)}) has no parameter for"
                f" {', '.join(error.names)}",
                where="args",
                remedy="call an input like its parameter, or give them in order as a tuple",
            ) from error

    def run(self, values: Mapping[str, Tensor]) -> Any:
        """What it returns; raises whatever it raises."""
        binding = self.binding(list(values))
        with torch.no_grad(), without_fast_path():
            return binding.call(self.module, [value.clone() for value in values.values()])


def subject_of(given: Callable[..., Any]) -> CallerModule:
    """The module of something that is called: a module, its method, an object that holds some.

    Raises:
        UserInputError: it is no such thing.
    """
    if isinstance(given, type) or not callable(given):
        raise UserInputError(
            f"a {type(given).__name__} is no module",
            where="module",
            remedy="give an nn.Module, or an instance that is called with the inputs",
        )
    owner = getattr(given, "__self__", None)
    if isinstance(owner, nn.Module):
        module, method = owner, str(getattr(given, "__name__", "forward"))
    else:
        module = given if isinstance(given, nn.Module) else _Called(given)
        method = "forward"
    notes = ()
    if module.training:
        notes = ("the module was in training mode; a copy in eval mode is exported and judged",)
    try:
        # The caller's object stays as it is: its mode, its device, its buffers.
        module = copy.deepcopy(module)
    except Exception as error:
        raise ModelError(
            f"the module cannot be copied: {type(error).__name__}: {str(error)[:300]}",
            where="module",
            remedy="build it by a function and write a pipeline for that: export-verify init",
        ) from error
    return CallerModule(
        module=module.cpu().eval().requires_grad_(False), method=method, notes=notes
    )


def named_values(
    called: Callable[..., Any], args: Any, names: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """Example inputs by name.

    Args:
        called: what takes them. args: a tensor, a tuple or list in the order of its parameters, or
            a dict by name; lists, tuples and dicts inside are taken apart.
        names: other names, one per tensor, in order.

    Raises:
        UserInputError: a value is no tensor, or as many names are not given.
    """
    if isinstance(args, Tensor | np.ndarray):
        args = (args,)
    if not isinstance(args, Mapping | tuple | list):
        raise UserInputError(
            f"a {type(args).__name__} is no set of inputs",
            where="args",
            remedy="give a tuple of tensors in the order of forward's parameters, or a dict",
        )
    if isinstance(args, Mapping):
        _refuse_unknown(called, args)
    else:
        args = dict(zip(_parameters(called, len(args)), args, strict=True))
    tensors = {".".join(path): value for path, value in leaves_by_path(args) if value is not None}
    values = {name: _tensor(name, value) for name, value in tensors.items()}
    if not values:
        raise UserInputError("there is no input", where="args", remedy="give at least one tensor")
    if names is None:
        return values
    if len(names) != len(values):
        raise UserInputError(
            f"{len(names)} name(s) for {len(values)} inputs: {', '.join(values)}",
            where="input_names",
            remedy="give one name per input, in order",
        )
    return dict(zip(names, values.values(), strict=True))


def _refuse_unknown(called: Callable[..., Any], args: Mapping[str, Any]) -> None:
    try:
        parameters = inspect.signature(called).parameters
    except (TypeError, ValueError):
        return
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    unknown = [name for name in args if name.partition(".")[0] not in parameters]
    if unknown:
        raise UserInputError(
            f"there is no parameter for {', '.join(unknown)}",
            where="args",
            remedy=f"name inputs like parameters: {', '.join(parameters)}",
        )


def _parameters(called: Callable[..., Any], count: int) -> list[str]:
    """Names of the first parameters that take positional values."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(called).parameters.values()
    except (TypeError, ValueError):
        return [f"input_{number}" for number in range(count)]
    named = [parameter.name for parameter in parameters if parameter.kind in kinds]
    rest = [p.name for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL]
    more = [f"{rest[0]}_{number}" for number in range(count - len(named))] if rest else []
    if len(named) + len(more) < count:
        raise UserInputError(
            f"{count} inputs are given, {getattr(called, '__name__', 'forward')} takes"
            f" {len(named)}: {', '.join(named)}",
            where="args",
            remedy="give as many as it takes, or a dict by name",
        )
    return [*named, *more][:count]


def _tensor(name: str, value: Any) -> Tensor:
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if not isinstance(value, Tensor):
        raise UserInputError(
            f"'{name}' is a {type(value).__name__}, not a tensor",
            where="args",
            remedy=f"fix it before: functools.partial(module, {name.partition('.')[0]}=...)",
        )
    return value.detach().cpu().contiguous()


class InOrder(nn.Module):
    """A module whose inputs have other names than its parameters: they come in order.

    Args:
        inner: the module. binding: how it is called. names: of the inputs.
    """

    def __init__(self, inner: nn.Module, binding: Binding, names: Sequence[str]):
        super().__init__()
        self.inner = inner
        self._binding = binding
        self.names = tuple(names)

    def forward(self, *values: Tensor) -> Any:
        """What the module returns."""
        return self._binding.call(self.inner, values)


def save_values(values: Mapping[str, Tensor], path: Path) -> dict[str, dict[str, str]] | None:
    """Write values as an ``.npz``, and say where a case finds each.

    Returns None where numpy has not their dtype (bfloat16).
    """
    if any(value.dtype == torch.bfloat16 for value in values.values()):
        return None
    arrays = {
        name: torch.view_as_real(value).numpy() if value.is_complex() else value.numpy()
        for name, value in values.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("wb") as stream:
        named = {f"value_{n}": array for n, array in enumerate(arrays.values())}
        np.savez(stream, allow_pickle=False, **named)
    return {
        name: {"file": str(path.resolve()), "key": f"value_{n}"} for n, name in enumerate(arrays)
    }
