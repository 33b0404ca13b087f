"""FunASR's checkpoint folder: ``config.yaml``, ``model.pt``, ``am.mvn`` and a token table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from exporter.config import Pipeline
from exporter.config.foreign_yaml import read_foreign_yaml
from exporter.core.errors import WeightsError
from exporter.core.reading import Door, reason
from exporter.core.tensors import Axis, TensorSpec
from exporter.models.built import Built
from exporter.models.stated import refuse_other, same, same_rate, same_setting
from exporter.models.weights import (
    WeightsSource,
    describe_weights,
    load_strictly,
    read_model_pt,
    seed_module,
    weights_of,
)
from exporter.speech.cmvn import read_am_mvn

S = TypeVar("S", bound=BaseModel)
_CONFIG = Door(
    error=WeightsError,
    says="cannot read the checkpoint's configuration",
    remedy="give a FunASR checkpoint folder: config.yaml, model.pt, am.mvn, tokens",
    most_bytes=1 << 20,
)
_TOKENS = Door(
    error=WeightsError,
    says="cannot read the token table",
    remedy="fetch the file again",
    most_bytes=64 << 20,
)

# Keys of config.yaml's frontend_conf, the pipeline's names for them, and FunASR's defaults.
_FRONTEND = {
    "n_mels": ("num_mels", 80),
    "frame_length": ("frame_length_ms", 25),
    "frame_shift": ("frame_shift_ms", 10),
    "window": ("window", "hamming"),
    "lfr_m": ("lfr_m", 1),
    "lfr_n": ("lfr_n", 1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointLayout:
    """What a checkpoint of one kind of model states, and where.

    Attributes:
        kind: the class that ``config.yaml`` names.
        sections: sections of ``config.yaml`` that hold settings -> what our names of them have in
            front.
        fixed: per section, keys that a pipeline cannot choose and the only value supported.
        sizes: settings that FunASR itself takes from tokenizer and front end -> the tensor of
            ``model.pt`` and its axis that tell them.
        defaults: what FunASR takes for settings that ``config.yaml`` leaves out, by our names.
    """

    kind: str
    sections: Mapping[str, str]
    fixed: Mapping[str, Mapping[str, Any]]
    sizes: Mapping[str, tuple[str, int]]
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A folder that was looked through; the tensors of ``model.pt`` are not read yet.

    Attributes:
        folder: the folder.
        kind: the class that its ``config.yaml`` names.
        model_pt: its weights.
        described: settings that ``config.yaml`` states, by their FunASR names.
        statistics: shift and scale ``[D]`` of ``am.mvn``.
        tokens: text of each token id; ``None`` without a readable table.
    """

    folder: Path
    kind: str
    model_pt: Path
    described: Mapping[str, Any]
    statistics: tuple[Tensor, Tensor]
    tokens: tuple[str, ...] | None

    def merged(self, settings: S, pipeline: Pipeline) -> S:
        """Return the settings with what the checkpoint states.

        Raises:
            ConfigError: the pipeline sets something else than the checkpoint states.
            WeightsError: the checkpoint states something impossible.
        """
        known = {
            key: value
            for key, value in self.described.items()
            if key in type(settings).model_fields
        }
        for key in settings.model_fields_set & known.keys():
            same_setting(pipeline, key, getattr(settings, key), known[key])
        try:
            return type(settings).model_validate(
                {**settings.model_dump(exclude_unset=True), **known}
            )
        except ValidationError as error:
            first = error.errors()[0]
            raise WeightsError(
                f"impossible value of {'.'.join(map(str, first['loc']))}: {first['msg']}",
                where=str(self.folder / "config.yaml"),
                remedy=f"give the folder of a {self.kind} checkpoint, unchanged",
            ) from error


def read_checkpoint(folder: Path, *, layout: CheckpointLayout, pipeline: Pipeline) -> Checkpoint:
    """Look through a FunASR checkpoint folder.

    Args:
        folder: the folder.
        layout: of the kind of model that it must hold.
        pipeline: its ``features`` are compared with the checkpoint's front end.

    Raises:
        WeightsError: a file is missing or unreadable, or it is another model.
        ConfigError: the pipeline's features are not those of the checkpoint.
    """
    config = _read_config(folder / "config.yaml")
    where = str(folder / "config.yaml")
    if config.model != layout.kind:
        raise WeightsError(
            f"this is a checkpoint of {config.model!r}, not of {layout.kind}",
            where=where,
            remedy="choose the model kind that fits, or another checkpoint",
        )
    model_pt, am_mvn = folder / "model.pt", folder / "am.mvn"
    for file in (model_pt, am_mvn):
        if not file.is_file():
            raise WeightsError(
                f"{file.name} is missing",
                where=str(folder),
                remedy="give the whole checkpoint folder",
            )
    for section, fixed in layout.fixed.items():
        refuse_other(config.section(section), fixed, where, prefix=f"{section}.")
    _same_features(config.section("frontend_conf"), where, pipeline)
    described = (
        dict(layout.defaults)
        | {
            f"{prefix}{key}": value
            for section, prefix in layout.sections.items()
            for key, value in config.section(section).items()
        }
        | _sizes(model_pt, layout)
    )
    statistics = read_am_mvn(am_mvn)
    if len(statistics[0]) != described["input_size"]:
        raise WeightsError(
            f"there are {len(statistics[0])} values for {described['input_size']} features",
            where=str(am_mvn),
            remedy="give the am.mvn that belongs to model.pt",
        )
    vocab_size = described.get("vocab_size")
    tokens = None if vocab_size is None else read_tokens(folder, vocab_size)
    return Checkpoint(
        folder=folder,
        kind=layout.kind,
        model_pt=model_pt,
        described=described,
        statistics=statistics,
        tokens=tokens,
    )


Recogniser = tuple[nn.Module, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]
"""A module, its inputs besides the features, and its outputs."""


def build_recogniser(
    pipeline: Pipeline, settings: S, layout: CheckpointLayout, made: Callable[[S], Recogniser]
) -> Built:
    """A recogniser on features, with the weights that a pipeline names.

    Args:
        made: makes the module, without weights, at what checkpoint and pipeline set.
    """
    source = weights_of(pipeline)
    settings, checkpoint = merged(settings, source, layout, pipeline)
    module, inputs, outputs = made(settings)
    fill(module, checkpoint, pipeline)
    module.eval().requires_grad_(False)
    return Built(
        module=module,
        takes="features",
        feature_size=settings.model_dump()["input_size"],
        inputs=inputs,
        outputs=outputs,
        weights=describe_weights(module, source),
        tokens=checkpoint.tokens if checkpoint else None,
        statistics=checkpoint.statistics if checkpoint else None,
    )


def recogniser_outputs(vocab_size: int, steps: Axis, length: str) -> tuple[TensorSpec, ...]:
    """Specs of what a recogniser returns, one row per row of features.

    Args:
        steps: of its logits. length: what their number is called.
    """
    rows, ids = Axis(name="rows", minimum=1), "token id, -1 behind the last"
    return (
        TensorSpec.of("logits", "float32", rows, steps, vocab_size),
        TensorSpec.of("logit_lengths", "int64", rows, discrete=True, unit=length),
        TensorSpec.of("token_ids", "int64", rows, steps, discrete=True, unit=ids),
        TensorSpec.of("token_lengths", "int64", rows, discrete=True, unit="tokens"),
    )


def merged(
    settings: S, source: WeightsSource, layout: CheckpointLayout, pipeline: Pipeline
) -> tuple[S, Checkpoint | None]:
    """The settings with what the checkpoint states, if there is one, and the checkpoint."""
    if source.folder is None:
        return settings, None
    checkpoint = read_checkpoint(source.folder, layout=layout, pipeline=pipeline)
    return checkpoint.merged(settings, pipeline), checkpoint


def fill(module: nn.Module, checkpoint: Checkpoint | None, pipeline: Pipeline) -> None:
    """Give a module the checkpoint's weights, or seeded ones."""
    if checkpoint is None:
        seed_module(module, pipeline.model.seed)
    else:
        load_strictly(module, read_model_pt(checkpoint.model_pt), where=str(checkpoint.model_pt))


def _sizes(model_pt: Path, layout: CheckpointLayout) -> dict[str, int]:
    state = read_model_pt(model_pt)
    sizes = {}
    for key, (wanted, axis) in layout.sizes.items():
        weights = [tensor for name, tensor in state.items() if name in _with_prefixes(wanted)]
        if len(weights) != 1 or weights[0].dim() <= axis:
            raise WeightsError(
                f"there is no tensor {wanted} in it that tells {key}",
                where=str(model_pt),
                remedy=f"give the model.pt of a {layout.kind} checkpoint",
            )
        sizes[key] = int(weights[0].shape[axis])
    return sizes


def _with_prefixes(name: str) -> set[str]:
    return {name, f"module.{name}", f"model.{name}"}


class Config(BaseModel):
    """``config.yaml``; a section that is absent or empty says nothing."""

    model_config = ConfigDict(frozen=True)

    model: str
    encoder_conf: dict[str, Any] | None = None
    decoder_conf: dict[str, Any] | None = None
    predictor_conf: dict[str, Any] | None = None
    model_conf: dict[str, Any] | None = None
    frontend_conf: dict[str, Any] | None = None

    def section(self, name: str) -> dict[str, Any]:
        """Keys and values of a section."""
        return getattr(self, name) or {}


def _read_config(path: Path) -> Config:
    config = read_foreign_yaml(_CONFIG, path)
    if not isinstance(config, dict):
        raise _CONFIG.bad(path, "this is not a table of keys")
    return _CONFIG.record(Config, config, path)


def _same_features(frontend: dict[str, Any], where: str, pipeline: Pipeline) -> None:
    same_rate(pipeline, frontend.get("fs", 16000), where)
    for theirs, (ours, default) in _FRONTEND.items():
        stated, used = frontend.get(theirs, default), getattr(pipeline.features, ours)
        same(pipeline, ("features", ours), used, stated, f"{where} says")


def read_tokens(folder: Path, vocab_size: int) -> tuple[str, ...] | None:
    """Read ``tokens.json``, ``tokens.txt`` or a sentencepiece model, the first that fits.

    Returns:
        text of each token id; ``None`` when there is no table (or no sentencepiece to read it).

    Raises:
        WeightsError: a table cannot be read, or all there are have another size.
    """
    sizes = []
    for file, read in [
        (folder / "tokens.json", _tokens_of_json),
        (folder / "tokens.txt", _tokens_of_text),
        *((file, _tokens_of_bpe) for file in sorted(folder.glob("*bpe.model"))),
    ]:
        if not file.is_file():
            continue
        try:
            table = read(file)
        except (OSError, RuntimeError, ValueError) as error:
            raise _TOKENS.bad(file, reason(error)) from error
        if table is not None and len(table) == vocab_size:
            return table
        if table is not None:
            sizes.append(f"{file.name} has {len(table)} entries")
    if sizes:
        raise WeightsError(
            f"{', '.join(sizes)}, the output layer {vocab_size}",
            where=str(folder),
            remedy="give the token table that belongs to model.pt",
        )
    return None


def _tokens_of_json(file: Path) -> tuple[str, ...]:
    table = _TOKENS.json(file)
    if not isinstance(table, list) or not all(isinstance(entry, str) for entry in table):
        raise ValueError("it is not a list of strings")
    return tuple(table)


def _tokens_of_text(file: Path) -> tuple[str, ...]:
    # The whole line is the token, as FunASR reads it; only white space at its end goes.
    return tuple(line.rstrip() for line in _TOKENS.text(file).split("\n")[:-1])


def _tokens_of_bpe(file: Path) -> tuple[str, ...] | None:
    try:
        import sentencepiece
    except ImportError:
        return None
    processor: Any = sentencepiece.SentencePieceProcessor()
    processor.Load(str(file))
    return tuple(processor.IdToPiece(number) for number in range(processor.GetPieceSize()))
