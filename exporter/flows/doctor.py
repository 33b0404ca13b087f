"""What this installation and this machine have, and what of it would stop a command."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from exporter import __version__
from exporter.cache.store import open_store
from exporter.core.disk import writable_folder
from exporter.core.errors import UserInputError
from exporter.core.extras import install
from exporter.core.memory import total_memory
from exporter.core.runtimes import installed_runtimes, refuse_two_runtimes
from exporter.report.environment import (
    PACKAGES,
    cpu_flags,
    default_memory_budget,
    usable_cores,
)

_NEEDED = ("torch", "onnx", "onnxsim", "onnxscript", "onnx-ir", "numpy")
_OF_MODELS = {"funasr": "sensevoice, paraformer, fsmn_vad", "silero-vad": "silero_vad, any vad"}
_GB = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """One thing that was looked at.

    Attributes:
        part: versions, onnxruntime, providers, threads, memory, cache. name: of the thing.
        value: what was found. wrong: it stops a command. remedy: what helps then.
    """

    part: str
    name: str
    value: str
    wrong: bool = False
    remedy: str = ""


def examine() -> tuple[Examined, ...]:
    """Look at everything; raises nothing for what is merely missing."""
    return (
        *_versions(),
        *_runtimes(),
        *_providers(),
        *_threads(),
        *_memory(),
        *_cache(),
    )


def _versions() -> Iterator[Examined]:
    yield Examined(part="versions", name="export-verify", value=__version__)
    system = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Examined(part="versions", name="python", value=system)
    for name in PACKAGES:
        if name.startswith("onnxruntime"):
            continue
        try:
            yield Examined(part="versions", name=name, value=metadata.version(name))
        except metadata.PackageNotFoundError:
            needed = name in _NEEDED
            module, of = name.replace("-", "_"), _OF_MODELS.get(name, "")
            yield Examined(
                part="versions",
                name=name,
                value=f"not installed; needed by {of}" if of else "not installed",
                wrong=needed,
                remedy=install(module) if needed or of else "",
            )


def _runtimes() -> Iterator[Examined]:
    runtimes = installed_runtimes()
    if not runtimes:
        yield Examined(
            part="onnxruntime",
            name="onnxruntime",
            value="not installed",
            wrong=True,
            remedy=install("onnxruntime"),
        )
    try:
        refuse_two_runtimes(runtimes)
    except UserInputError as error:
        yield Examined(
            part="onnxruntime",
            name="onnxruntime",
            value=error.problem,
            wrong=True,
            remedy=error.remedy or "",
        )
        return
    for name, version in runtimes.items():
        yield Examined(part="onnxruntime", name=name, value=version)


def _providers() -> Iterator[Examined]:
    if len(installed_runtimes()) != 1:
        yield Examined(part="providers", name="all", value="not tried: see onnxruntime")
        return
    try:
        from exporter.execution.deployment import CPU
        from exporter.execution.providers import present_providers, tried_providers
    except ImportError as error:
        yield Examined(
            part="providers",
            name="all",
            value=f"onnxruntime cannot be imported: {error}",
            wrong=True,
            remedy="install it again: pip install --force-reinstall onnxruntime",
        )
        return
    present = present_providers()
    for name, why in tried_providers().items():
        # A device that is there and cannot be used stops a run that names no provider.
        wrong = bool(why) and (name in present or name == CPU)
        yield Examined(
            part="providers",
            name=name,
            value=why or "usable: a session was made",
            wrong=wrong,
            remedy="--provider cpu runs without it" if wrong and name != CPU else "",
        )


def _threads() -> Iterator[Examined]:
    cores = usable_cores()
    yield Examined(part="threads", name="usable cores", value=f"{cores} of {os.cpu_count()}")
    limit = os.environ.get("OMP_NUM_THREADS")
    if limit:
        yield Examined(part="threads", name="OMP_NUM_THREADS", value=limit)
    flags = " ".join(cpu_flags())
    yield Examined(part="threads", name="CPU extensions", value=flags or "not known here")


def _memory() -> Iterator[Examined]:
    total = f"{total_memory() / _GB:.1f} GB"
    budget = f"{default_memory_budget() / (1 << 20):.0f} MiB (--memory-budget)"
    yield Examined(part="memory", name="machine", value=total)
    yield Examined(part="memory", name="for compared values", value=budget)


def _cache() -> Iterator[Examined]:
    try:
        store = open_store()
        if store is None:
            yield Examined(part="cache", name="folder", value="the cache is off")
            return
        writable_folder(store.root, "cache", keep=False)
        entries = store.entries()
    except UserInputError as error:
        yield Examined(
            part="cache",
            name="folder",
            value=error.problem,
            wrong=True,
            remedy=error.remedy or "EXPORT_VERIFY_CACHE=FOLDER names another one, 'off' none",
        )
        return
    gigabytes = sum(entry.bytes for entry in entries) / _GB
    yield Examined(part="cache", name="folder", value=str(store.root))
    yield Examined(
        part="cache",
        name="held",
        value=f"{len(entries)} exports, {gigabytes:.2f} GB of at most {store.limit / _GB:.2f} GB",
    )
