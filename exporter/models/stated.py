"""What a checkpoint states, held against what a pipeline sets and what a graph supports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exporter.config import Pipeline
from exporter.core.errors import ConfigError, WeightsError


def refuse_other(
    stated: Mapping[str, Any], fixed: Mapping[str, Any], where: str | Path, *, prefix: str = ""
) -> None:
    """Refuse a checkpoint that states another value than the only one that is supported.

    Raises:
        WeightsError: the first such key. What a checkpoint does not state is as it should be.
    """
    for key, only in fixed.items():
        if stated.get(key, only) != only:
            what = f"{prefix}{key} is {stated[key]!r}; only {only!r} is supported"
            raise WeightsError(what, where=str(where))


def same(pipeline: Pipeline, keys: tuple[str, ...], ours: Any, theirs: Any, says: str) -> None:
    """Refuse a pipeline that sets something else than its checkpoint states.

    Args:
        keys: of the setting in the YAML. says: what comes in front of the checkpoint's value.

    Raises:
        ConfigError: they differ; a tuple here is a list there.
    """
    if (list(ours) if isinstance(ours, tuple) else ours) != theirs:
        raise ConfigError(
            f"{keys[-1]} is {ours!r}, but {says} {theirs!r}",
            where=pipeline.where(*keys),
            remedy=f"write {keys[-1]}: {theirs}",
        )


def same_setting(
    pipeline: Pipeline, key: str, ours: Any, theirs: Any, says: str = "the checkpoint says"
) -> None:
    """The same of a setting of the model."""
    same(pipeline, ("model", "settings", key), ours, theirs, says)


def same_rate(pipeline: Pipeline, rate: Any, where: str | Path) -> None:
    """The same of the sample rate."""
    if rate != pipeline.sample_rate_hz:
        raise ConfigError(
            f"the sample rate is {pipeline.sample_rate_hz}, but {where} says {rate}",
            where=pipeline.where("sample_rate_hz"),
            remedy=f"write sample_rate_hz: {rate}",
        )
