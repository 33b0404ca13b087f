"""What the figures of a report depend on besides the pipeline: versions, CPU, threads."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

from exporter.core.memory import total_memory
from exporter.report.schema import EnvironmentRecord

PACKAGES = tuple(
    "torch onnx onnxruntime-gpu onnxruntime onnxsim onnxscript onnx-ir numpy funasr "
    "silero-vad".split()
)
_FLAGS = tuple("avx avx2 fma avx512f avx512_vnni avx512_bf16 amx_int8 amx_bf16 asimd".split())


def describe_environment(threads: int, providers: tuple[str, ...]) -> EnvironmentRecord:
    """Read versions, platform and CPU flags of this process."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return EnvironmentRecord(
        versions=versions,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        cpu_flags=cpu_flags(),
        threads=threads,
        providers=list(providers),
    )


def cpu_flags() -> list[str]:
    """SIMD extensions that kernels choose by; empty where the system does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return []
    line = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    present = set(line.partition(":")[2].split())
    return [flag for flag in _FLAGS if flag in present]


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_memory_budget() -> int:
    """Bytes that taps may hold: a 48th of the machine's memory, 128 MiB to 1 GiB.

    More would not be faster: smaller windows use memory again that is there already.
    """
    return max(128 << 20, min(1 << 30, total_memory() // 48))
