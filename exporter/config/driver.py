"""The ``driver:`` of a system: who calls its graphs in which order, and what is chosen between."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from exporter.config.section import Many, Section

GraphName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*$", max_length=80)]
"""Name of a graph of a system: no dots, which stand between it and a name of its own."""
Port = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*\.[^\s].*$")]
"""``graph.input`` or ``graph.output``."""
Token = Annotated[int, Field(ge=0)]


class _Driver(Section):
    feed: dict[Port, Port] = Field(
        default_factory=dict,
        description="graph.input -> graph.output that it takes; an input that is not named here"
        " takes the output of its own name of an earlier graph, else what the case gives",
    )


class Chain(_Driver):
    """Each graph once, one after the other."""

    kind: Literal["chain"]
    order: Many[GraphName] = Field(min_length=1, description="graphs, in the order of their calls")
    tokens: Port | None = Field(
        default=None, description="graph.output that holds token ids, [T] or [rows, T]"
    )
    lengths: Port | None = Field(
        default=None, description="graph.output that says how many ids of each row count"
    )


class TimestampRules(Section):
    """Whisper's rules of timestamps: pairs, never going back, one of them first."""

    begin: Token = Field(description="id of <|0.00|>; all ids from it on are timestamps")
    no_timestamps: Token | None = Field(
        default=None, description="id of <|notimestamps|>, which is never chosen"
    )
    max_initial: Token | None = Field(
        default=None, description="how many steps of time the first timestamp may be late"
    )


class Attention(_Driver):
    """An encoder, and a decoder that is called token by token with its cache.

    A decoder without states reads all tokens so far in every call, if its axis of tokens varies.
    """

    kind: Literal["attention"]
    encoder: GraphName | None = Field(
        default=None, description="called once; null: the decoder needs nothing of another graph"
    )
    decoder: GraphName = "decoder"
    tokens: str = Field(default="input_ids", description="the decoder's input of token ids [B, T]")
    scores: str = Field(
        default="logits",
        description="its output of scores [B, T, vocabulary]; of the last token [B, vocabulary]",
    )
    position: str | None = Field(
        default=None, description="its input of integers that counts earlier tokens, if any"
    )
    start: Many[Token] = Field(
        default=(), description="first tokens; none: the case gives them as the input of tokens"
    )
    end: Token | None = Field(default=None, description="the token that ends a hypothesis")
    max_tokens: int = Field(default=100, ge=1, le=4096, description="most tokens after the first")
    beams: int = Field(default=1, ge=1, le=64, description="1: greedy")
    length_penalty: float = Field(
        default=1.0, description="scores are divided by the number of tokens to this power"
    )
    suppress: Many[Token] = Field(default=(), description="tokens that are never chosen")
    suppress_from: Token | None = Field(
        default=None, description="this token and all behind it are never chosen: timestamps"
    )
    begin_suppress: Many[Token] = Field(
        default=(), description="tokens that are not chosen directly after the first ones"
    )
    timestamps: TimestampRules | None = None

    @model_validator(mode="after")
    def _beams_score(self) -> Attention:
        if self.timestamps is not None and self.suppress_from is not None:
            raise ValueError("give either 'timestamps' (their rules) or 'suppress_from' (none)")
        return self


class Transducer(_Driver):
    """RNN-T, greedy: an encoder once, a predictor per token, a joiner per frame and token."""

    kind: Literal["transducer"]
    encoder: GraphName = "encoder"
    predictor: GraphName = "predictor"
    joiner: GraphName = "joiner"
    frames: str = Field(description="the encoder's output of frames [1, T, D]")
    lengths: str | None = Field(
        default=None, description="the encoder's output of how many frames count; null: all"
    )
    tokens: str = Field(description="the predictor's input of token ids [1, context]")
    predicted: str = Field(description="its output [1, 1, D], or [1, D]")
    from_encoder: str = Field(description="the joiner's input of one frame [1, 1, D], or [1, D]")
    from_predictor: str = Field(description="the joiner's input of what was predicted, alike")
    scores: str = Field(description="the joiner's output, whose last axis is the vocabulary")
    blank: Token
    start: Token | None = Field(default=None, description="first token; null: the blank")
    context: int = Field(
        default=1,
        ge=1,
        le=64,
        description="tokens that the predictor reads in a call; several: one without states",
        exclude_if=lambda count: count == 1,  # digests without it stay what they were
    )
    before: int | None = Field(
        default=None,
        ge=-1,
        description="what stands before the first token in a context of several; null: the blank",
        exclude_if=lambda token: token is None,
    )
    max_symbols: int = Field(default=10, ge=1, le=1000, description="most tokens of one frame")


class Ctc(_Driver):
    """A graph of scores per frame, then greedy decoding or prefix beam search."""

    kind: Literal["ctc"]
    graph: GraphName = "encoder"
    scores: str = Field(description="its output of scores [1, T, vocabulary]")
    lengths: str | None = Field(
        default=None, description="its output of how many frames count; null: all of them"
    )
    blank: Token = 0
    beams: int = Field(default=1, ge=1, le=256, description="1: greedy; else prefix beam search")


class Noise(Section):
    """What a diffusion model was trained with: betas from one value to another."""

    kind: Literal["linear", "scaled_linear"] = "linear"
    beta_start: float = Field(default=1e-4, gt=0, lt=1)
    beta_end: float = Field(default=0.02, gt=0, lt=1)
    train_steps: int = Field(default=1000, ge=2, le=100_000)


class Loop(_Driver):
    """A fixed number of steps of a flow (Euler) or of a diffusion (DDIM) on one value."""

    kind: Literal["loop"]
    before: Many[GraphName] = Field(default=(), description="graphs that are called once, first")
    estimator: GraphName = "estimator"
    value: str = Field(description="its input that is moved; the case gives the first, noise")
    time: str = Field(description="its input of the time, or of the step of the training")
    velocity: str = Field(description="its output: velocity of a flow, noise of a diffusion")
    steps: int = Field(ge=1, le=1000)
    rule: Literal["euler", "ddim"] = "euler"
    noise: Noise = Field(default_factory=Noise, description="ddim: what it was trained with")
    after: Many[GraphName] = Field(
        default=(), description="graphs that are called once, last; the first takes the value"
    )

    @model_validator(mode="after")
    def _steps_differ(self) -> Loop:
        if self.rule == "ddim" and self.steps > self.noise.train_steps:
            raise ValueError(f"steps: at most the {self.noise.train_steps} of noise.train_steps")
        return self


Driver = Annotated[Chain | Attention | Transducer | Ctc | Loop, Field(discriminator="kind")]


def called_graphs(driver: Driver) -> tuple[str, ...]:
    """Graphs that a driver calls, in their order."""
    match driver:
        case Chain():
            return driver.order
        case Attention():
            first = () if driver.encoder is None else (driver.encoder,)
            return (*first, driver.decoder)
        case Transducer():
            return (driver.encoder, driver.predictor, driver.joiner)
        case Ctc():
            return (driver.graph,)
        case Loop():
            return (*driver.before, driver.estimator, *driver.after)
