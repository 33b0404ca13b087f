"""What a model file hands over, and what it has to offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from exporter.config import Pipeline
from exporter.core.tensors import TensorSpec

if TYPE_CHECKING:
    from pydantic import BaseModel
    from torch import Tensor, nn

    from exporter.models.binding import Binding
    from exporter.models.custom_translation import Translations


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsInfo:
    """Where the weights came from.

    Attributes:
        source: ``seeded seed=0``, the folder as given, or ``hub:ORG/NAME@REVISION``.
        digest: sha256 over names, dtypes, shapes and bytes of all tensors, sorted by name.
        seeded: True when no checkpoint was read and the words mean nothing.
    """

    source: str
    digest: str
    seeded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A model that is ready to run.

    Attributes:
        module: in eval mode, without gradients. With ``takes="features"`` it is called as
            ``module(features [R, T, D], counts [R], *inputs)``, else as ``module(*inputs)``;
            it returns a dict from output name to tensor, one row per row of its input.
        takes: ``features`` when VAD and features belong in front of it.
        inputs: its inputs besides waveform or features, in call order.
        outputs: everything that it returns; with ``takes="features"`` the first axis of each is
            called ``rows``.
        weights: where its weights came from.
        feature_size: D, the width of the features that it takes.
        tokens: text of every token id, ``None`` when the checkpoint has no readable table.
        example: values to trace with, by input, where drawn ones would not do (an index, a
            length); every dynamic size at least 2, tensors that are distinct objects.
        statistics: shift and scale ``[D]`` of the checkpoint's feature normalisation;
            ``None`` when there is no checkpoint.
        states: for a model that is called step by step: output -> the input that takes it in the
            next call.
        translations: of ops that the exporter does not know.
        binding: how ``module`` is called with its inputs; ``None``: in order.
        notes: what a report should say about the model.
        sizes: of every symbolic axis in ``example``.
        example_at: makes values to trace with at other sizes; a seed as second argument asks for
            other values, and rows of other lengths. ``None`` where that is not known.
    """

    module: nn.Module
    takes: Literal["features", "tensors"]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: WeightsInfo
    feature_size: int | None = None
    tokens: tuple[str, ...] | None = None
    example: Mapping[str, Tensor] | None = None
    statistics: tuple[Tensor, Tensor] | None = None
    states: Mapping[str, str] = field(default_factory=dict)
    binding: Binding | None = None
    translations: Translations = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    example_at: Callable[..., Mapping[str, Tensor]] | None = None


class ModelFile(Protocol):
    """The two names that a module listed in ``exporter.models.MODELS`` has."""

    Settings: type[BaseModel]

    def build(self, pipeline: Pipeline) -> Built:
        """Build the model of a pipeline; raises ``ConfigError`` or ``WeightsError``."""
        ...
