"""A model that takes tensors as they are, with named arguments and chosen results."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from exporter.models.binding import Binding, in_order
from exporter.models.custom_translation import Translations
from exporter.models.fast_path import without_fast_path
from exporter.models.results import by_name


class NamedGraph(nn.Module):
    """A model behind the names of its inputs; its chosen results come out as a tuple.

    ``torch.export`` takes the names of a graph's inputs from the signature of ``forward``. What
    this module's inputs are called is only known when a pipeline is read, so every instance gets
    a class of its own whose ``forward`` has that signature. (A ``forward`` on the instance would
    stay bound to the original when a module is copied, as float64 runs and conversions do.)

    ``nn.TransformerEncoder`` and its parts run without their fast path here, whoever calls: it
    leaves out padded frames, which no export does, and its nested tensors have no sizes to compare.

    Args:
        model: returns one tensor, or lists, tuples and dicts of them.
        inputs: names of the inputs, in order.
        returns: names of everything that the model returns, in order.
        outputs: which of them ``forward`` returns, in this order.
        binding: how the model is called; ``None``: with the inputs in order.
        translations: of the model's ops that the exporter does not know.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        inputs: Sequence[str],
        returns: Sequence[str],
        outputs: Sequence[str],
        binding: Binding | None = None,
        translations: Translations | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.binding = in_order(len(inputs)) if binding is None else binding
        self.translations = translations or {}
        self.returns = tuple(returns)
        self.outputs = tuple(outputs)
        self.__class__ = _with_inputs(type(self), inputs)  # type: ignore[assignment]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Run the model; tensors and results as their pipeline names them."""
        # torch's strict mode reads no code that changes a switch; "capture" has it off.
        read = torch.compiler.is_dynamo_compiling()
        with contextlib.nullcontext() if read else without_fast_path():
            outputs = by_name(self.binding.call(self.model, tensors), self.returns)
        return tuple(outputs[name] for name in self.outputs)


def argument_names(inputs: Sequence[str]) -> tuple[str, ...]:
    """Names of inputs as names of arguments: ``caches.0`` is ``caches_0``."""
    names: list[str] = []
    for name in inputs:
        plain = re.sub(r"\W", "_", name)
        plain = plain if plain.isidentifier() else f"_{plain}"
        while plain in names or (plain != name and plain in inputs):
            plain += "_"
        names.append(plain)
    return tuple(names)


def _with_inputs(base: type[NamedGraph], inputs: Sequence[str]) -> type[NamedGraph]:
    def forward(self: NamedGraph, *tensors: Tensor) -> tuple[Tensor, ...]:
        return base.forward(self, *tensors)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    named = [inspect.Parameter(name, kind) for name in ("self", *argument_names(inputs))]
    forward.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    inside = {"forward": forward, "__module__": base.__module__, "__qualname__": base.__qualname__}
    return type(base.__name__, (base,), inside)
