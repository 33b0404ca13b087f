"""How a file is run: the provider, and everything about it that changes numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

CPU, CUDA = "cpu", "cuda"
PROVIDERS = {CPU: "CPUExecutionProvider", CUDA: "CUDAExecutionProvider"}
"""Words of the command line and the YAML -> onnxruntime's. TensorRT is not offered."""

CUDA_DEFAULTS: Mapping[str, str] = {
    # onnxruntime's own default measures every algorithm at every new size: seconds, for audio.
    "cudnn_conv_algo_search": "HEURISTIC",
    "arena_extend_strategy": "kSameAsRequested",
}
FIXED_ALGORITHM = ("cudnn_conv_algo_search", "DEFAULT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """How a session is set up.

    Attributes:
        provider: "cpu" or "cuda".
        level: graph optimisation level: disable, basic, extended, all.
        threads: intra-op threads; 0 lets onnxruntime choose.
        tf32: products and convolutions of float32 may be computed with 10 bits of mantissa, which
            is what onnxruntime's CUDA provider does when it is told nothing. Only on "cuda".
        settings: further options of the provider, by onnxruntime's names.
    """

    provider: str = CPU
    level: str = "all"
    threads: int = 0
    tf32: bool = False
    settings: tuple[tuple[str, str], ...] = field(default=())

    def label(self) -> str:
        """Short text for tables: ``cpu/all/2 threads``, ``cuda/all/tf32``."""
        parts = [self.provider, self.level]
        if self.provider == CPU:
            threads = "default threads" if not self.threads else f"{self.threads} thread(s)"
            parts.append(threads)
        if self.tf32:
            parts.append("tf32")
        parts += [f"{key}={value}" for key, value in self.settings]
        return "/".join(parts)

    def on_cpu(self, level: str | None = None) -> Deployment:
        """The same on the CPU, where exported files are judged before any device is."""
        return Deployment(level=level or self.level, threads=self.threads)

    def with_setting(self, key: str, value: str) -> Deployment:
        """The same with another option of the provider."""
        kept = tuple(pair for pair in self.settings if pair[0] != key)
        return replace(self, settings=(*kept, (key, value)))


class Way(StrEnum):
    """What is changed of a deployment, all else left as declared: what helps tells the cause."""

    TF32_OFF = "TF32 off"
    FIXED_ALGORITHM = "cuDNN's default algorithm"
    OPTIMISATION_OFF = "graph optimisation off"
    WITHOUT_DEVICE = "on the CPU"


def other_ways(deployment: Deployment) -> tuple[tuple[Way, Deployment], ...]:
    """The deployments that differ from this one in one thing, the smallest change first.

    None for a deployment on the CPU, which has nothing in front of it.
    """
    if deployment.provider == CPU:
        return ()
    ways = [
        (Way.TF32_OFF, replace(deployment, tf32=False)),
        (Way.FIXED_ALGORITHM, deployment.with_setting(*FIXED_ALGORITHM)),
        (Way.OPTIMISATION_OFF, replace(deployment, level="disable")),
        (Way.WITHOUT_DEVICE, deployment.on_cpu()),
    ]
    return tuple((way, other) for way, other in ways if other != deployment)
