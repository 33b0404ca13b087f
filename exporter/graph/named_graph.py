"""A model that takes tensors as they are, with named arguments and chosen results."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn


class NamedGraph(nn.Module):
    """A model behind the names of its inputs; its chosen results come out as a tuple.

    ``torch.export`` takes the names of a graph's inputs from the signature of ``forward``. What
    this module's inputs are called is only known when a pipeline is read, so every instance gets
    a class of its own whose ``forward`` has that signature. (A ``forward`` on the instance would
    stay bound to the original when a module is copied, as float64 runs and conversions do.)

    Args:
        model: called with one tensor per input, in order; returns a dict by name, a tuple or a
            list in the order of ``returns``, or one tensor.
        inputs: names of the inputs, in call order.
        returns: names of everything that the model returns, in order.
        outputs: which of them ``forward`` returns, in this order.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        inputs: Sequence[str],
        returns: Sequence[str],
        outputs: Sequence[str],
    ) -> None:
        super().__init__()
        self.model = model
        self.returns = tuple(returns)
        self.outputs = tuple(outputs)
        self.__class__ = _with_inputs(type(self), inputs)  # type: ignore[assignment]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Run the model; tensors and results as their pipeline names them."""
        found = by_name(self.model(*tensors), self.returns)
        return tuple(found[name] for name in self.outputs)


def _with_inputs(base: type[NamedGraph], inputs: Sequence[str]) -> type[NamedGraph]:
    def forward(self: NamedGraph, *tensors: Tensor) -> tuple[Tensor, ...]:
        return base.forward(self, *tensors)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    named = [inspect.Parameter(name, kind) for name in ("self", *inputs)]
    forward.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    inside = {"forward": forward, "__module__": base.__module__, "__qualname__": base.__qualname__}
    return type(base.__name__, (base,), inside)


def by_name(found: Any, names: Sequence[str]) -> Mapping[str, Tensor]:
    """Results of a model by name.

    Raises:
        ValueError: their number or their names are not those that were declared.
    """
    if isinstance(found, Mapping):
        missing = [name for name in names if name not in found]
        if missing:
            raise ValueError(f"the model returns no '{missing[0]}', but {', '.join(found)}")
        return found
    values = list(found) if isinstance(found, tuple | list) else [found]
    if len(values) != len(names):
        raise ValueError(f"the model returns {len(values)} values, {len(names)} are named")
    return dict(zip(names, values, strict=True))
