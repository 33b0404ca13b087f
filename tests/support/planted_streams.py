"""Ways to call a stream wrongly, planted in the tiny pipelines of ``pipelines/streams``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporter.cases.load import load_cases
from exporter.config import Pipeline, load_pipeline
from exporter.config.stream import Stream
from exporter.contracts.make_target import target_from_wrapped
from exporter.contracts.result import TORCH, ContractResult
from exporter.contracts.runner import run_contracts
from exporter.graph.wrap import Wrapped, wrap
from tests.support.target_from_module import no_file

FOLDER = Path(__file__).resolve().parents[2] / "pipelines" / "streams"
PIPELINES = ("zipformer", "emformer", "wenet", "codec", "filter", "overlap")
_LIMITS = ("max_lookahead_ms", "max_latency_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """One thing that is done wrongly.

    Attributes:
        pipeline: which of ``PIPELINES``. words: what is wrong.
        told: what the verdict has to say of it.
        stream: what the case says instead. contract: what the contract says instead.
        lost: states that are not handed on. swapped: two that are handed on in each other's place.
    """

    pipeline: str
    words: str
    told: str
    stream: Mapping[str, Any] = field(default_factory=dict)
    contract: Mapping[str, Any] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    swapped: tuple[str, str] | None = None


def _state(pipeline: str, words: str, told: str, **changed: Any) -> Planted:
    return Planted(pipeline=pipeline, words=words, told=told, **changed)


_ON = "from call 1 on every call differs"
_MISSING = "never come out"
_BEHIND = "behind its window"
_FIRST = "the first call differs already"

PLANTED = (
    Planted(
        pipeline="zipformer",
        words="windows that do not overlap",
        told=_MISSING,
        stream={"hop": 9, "right": 0},
    ),
    _state("zipformer", "keys are not handed on", _ON, lost=("next_caches.0",)),
    _state(
        "zipformer",
        "keys and values change places",
        _ON,
        swapped=("next_caches.0", "next_caches.1"),
    ),
    _state("zipformer", "the convolution's cache is not handed on", _ON, lost=("next_caches.2",)),
    _state("zipformer", "frames seen stay at none", _ON, lost=("next_seen",)),
    Planted(
        pipeline="emformer",
        words="the right context is taken for new",
        told=_MISSING,
        stream={"hop": 6, "right": 0},
    ),
    Planted(
        pipeline="emformer", words="the tail is dropped", told=_MISSING, stream={"flush": "drop"}
    ),
    _state("emformer", "keys and values change places", _ON, swapped=("next.0.0", "next.0.1")),
    _state("emformer", "the second layer's keys are not handed on", _ON, lost=("next.1.0",)),
    _state("emformer", "how much was seen stays at none", _ON, lost=("next.0.2", "next.1.2")),
    Planted(
        pipeline="wenet", words="the offset stays at zero", told=_ON, stream={"position": None}
    ),
    Planted(
        pipeline="wenet",
        words="the offset counts frames before they are taken together",
        told=_ON,
        stream={"position_per": 1},
    ),
    Planted(
        pipeline="wenet",
        words="chunks of five where forward sees four",
        told=_BEHIND,
        stream={"hop": 20},
    ),
    Planted(
        pipeline="wenet",
        words="the three frames ahead are left out",
        told=_MISSING,
        stream={"right": 0},
    ),
    _state(
        "wenet", "the convolution's cache is not handed on", _ON, lost=("next_convolution_cache",)
    ),
    _state("wenet", "the attention's cache is not handed on", _ON, lost=("next_attention_cache",)),
    Planted(pipeline="codec", words="too little left context", told=_ON, stream={"left": 4}),
    Planted(pipeline="codec", words="too little right context", told=_BEHIND, stream={"right": 4}),
    Planted(
        pipeline="codec",
        words="the context is not cut off",
        told="frames too many",
        contract={"trim": []},
    ),
    Planted(
        pipeline="codec",
        words="the tail is dropped",
        told=_MISSING,
        stream={"flush": "drop", "right": 24},
    ),
    Planted(pipeline="filter", words="it is not flushed", told=_MISSING, stream={"tail": 0}),
    Planted(
        pipeline="filter",
        words="nobody says that it is late",
        told="2 frame(s) late",
        contract={"late": {}},
    ),
    _state(
        "filter", "the GRU's state is not handed on", "every call differs", lost=("next_heard",)
    ),
    _state(
        "filter", "the frames before are not handed on", "every call differs", lost=("next_frames",)
    ),
    Planted(
        pipeline="overlap",
        words="no window completes the last samples",
        told="from call 24 on",
        stream={"tail": 0},
    ),
    Planted(
        pipeline="overlap",
        words="windows that overlap by three quarters",
        told=_FIRST,
        stream={"hop": 8, "left": 24, "tail": 24},
    ),
    Planted(
        pipeline="overlap",
        words="what overlaps is cut off, not added",
        told=_BEHIND,
        contract={"overlap_add": {}, "trim": ["y"]},
    ),
    Planted(
        pipeline="overlap",
        words="the fade is applied twice",
        told=_FIRST,
        contract={"overlap_add": {"y": {"fade": "hann"}}},
    ),
    Planted(
        pipeline="overlap",
        words="the sum is divided by how many there are",
        told=_FIRST,
        contract={"overlap_add": {"y": {"normalised": True}}},
    ),
)


def load(name: str) -> tuple[Pipeline, Wrapped]:
    """One of the pipelines, built."""
    pipeline = load_pipeline(FOLDER / f"{name}_stream.yaml").with_trust()
    return pipeline, wrap(pipeline)


def judged(
    pipeline: Pipeline, wrapped: Wrapped, planted: Planted | None = None, *, limits: bool = False
) -> ContractResult:
    """PyTorch's side of the contract, with something planted or as it is.

    Args:
        limits: hold it against the milliseconds that are declared, too.
    """
    case = pipeline.cases[0]
    given = dict(pipeline.contracts["stream"] or {})
    given = {key: value for key, value in given.items() if limits or key not in _LIMITS}
    states = dict(wrapped.states)
    if planted is not None and case.stream is not None:
        said = case.stream.model_dump(exclude_defaults=True, exclude={"window"})
        stream = Stream.model_validate({**said, **planted.stream})
        cases = (case.model_copy(update={"stream": stream}), *pipeline.cases[1:])
        pipeline = pipeline.model_copy(update={"cases": cases})
        lost = dict.fromkeys(planted.lost, "it is not handed on")
        given |= {"not_streamed": {**given.get("not_streamed", {}), **lost}, **planted.contract}
        states = {name: into for name, into in states.items() if name not in planted.lost}
        if planted.swapped is not None:
            one, other = planted.swapped
            states[one], states[other] = states[other], states[one]
    cases = load_cases(pipeline, wrapped.inputs, [case.name])
    file = no_file("PyTorch alone")
    target = target_from_wrapped(wrapped, cases, name=pipeline.name, file=file)
    target.states = states
    found = run_contracts(target, {"stream": given}, pipeline=pipeline)
    return next(result for result in found if result.side == TORCH)
