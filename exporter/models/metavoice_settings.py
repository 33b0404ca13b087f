"""``model.settings`` of MetaVoice."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from exporter.models.settings import MOST_LAYERS, MOST_WIDTH

SHORTEST_CACHE = 8


class Settings(BaseModel):
    """``model.settings``; the defaults are "metavoice-1B". Names are upstream's."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    n_layer: int = Field(default=24, ge=1, le=MOST_LAYERS)
    n_head: int = Field(default=16, ge=1, le=MOST_WIDTH)
    dim: int = Field(default=2048, ge=1, le=MOST_WIDTH)
    intermediate_size: int = Field(default=5632, ge=1, le=MOST_WIDTH)
    vocab_size: int = Field(default=2562, ge=2, le=MOST_WIDTH)
    block_size: int = Field(default=2048, ge=SHORTEST_CACHE, le=MOST_WIDTH)
    speaker_emb_dim: int = Field(default=256, ge=1, le=MOST_WIDTH)
    norm_eps: float = Field(default=1e-5, gt=0)
    dtype: Literal["float32", "float16"] = "float32"

    @model_validator(mode="after")
    def _heads_fit(self) -> Settings:
        if self.dim % self.n_head:
            raise ValueError(f"dim {self.dim} is no multiple of n_head {self.n_head}")
        return self

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.dim // self.n_head
