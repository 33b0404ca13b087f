"""What a worker is asked to do, as plain values: make the file of a variant, judge a cell.

A job is named by the digest of everything that can change what comes of it. What only the worker
knows, the processor that it runs on, it adds itself.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from exporter.cache.sources import PACKAGE, sources_digest
from exporter.core.artifact import sha256_of
from exporter.core.extras import DISTRIBUTION
from exporter.core.runtimes import installed_runtimes
from exporter.matrix.cells import Cell, Matrix, digest_of
from exporter.matrix.make_process import LENGTH_CASE
from exporter.matrix.schema import CASE, LENGTH, PIPELINE, TF32, release_key
from exporter.matrix.variants import weights_content
from exporter.report.environment import usable_cores

CHECK_NEEDS = (
    "bokeh", "click", "filelock", "itables", "jinja2", "markupsafe", "ml-dtypes", "numpy", "onnx",
    "protobuf", "pydantic", "pyyaml", "rich", "safetensors", "soundfile",
)  # fmt: skip
"""What checking a file against a golden imports, beside onnxruntime."""
MAKERS = (
    "torch", "onnx", "onnxscript", "onnx-ir", "onnxsim", "numpy", "funasr", "silero-vad",
    "kaldi-native-fbank", "moshi", "transformers", "speechbrain",
)  # fmt: skip
"""Packages that decide what a file looks like."""
_SHOWS = frozenset({"commands", "debugging", "contracts", "matrix"})
_DECIDES = (
    "cell_process.py", "make_process.py", "jobs.py", "variants.py", "verdict.py", "work.py",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantJob:
    """A file to be made.

    Attributes:
        name: digest. kept: False for a user's own code, of which nobody can tell whether it is as
            it was: its file is made anew by every start.
        requirements: of its environment; none: this Python's. over: they stand in front of this
            Python's packages, all else being as it is here.
        said: what ``make_process`` reads.
    """

    name: str
    kept: bool
    requirements: tuple[str, ...]
    over: bool
    said: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellJob:
    """A cell to be judged.

    Attributes:
        parts: what its name is made of, but for the file and the processor.
        requirements: of its environment; none: this Python's.
        run: provider, options, level, threads and cases.
    """

    cell: Cell
    parts: Mapping[str, Any]
    requirements: tuple[str, ...]
    run: Mapping[str, Any] = field(default_factory=dict)


PYTHON = "python"


@cache
def this_python() -> dict[str, str]:
    """Package -> version, of the Python in which cells without an environment of their own run."""
    pinned_versions = {name: pinned(name).partition("==")[2] for name in {*CHECK_NEEDS, *MAKERS}}
    pinned_versions |= installed_runtimes()
    return {
        **{name: version for name, version in pinned_versions.items() if version},
        PYTHON: platform.python_version(),
    }


@cache
def code_digest() -> str:
    """Digest of what judges: this package without what only shows or plans."""
    own = [sha256_of(Path(__file__).with_name(name)) for name in _DECIDES]
    return digest_of([sources_digest(PACKAGE, _SHOWS), *own])


def variant_job(matrix: Matrix, cell: Cell, *, trust: bool) -> VariantJob:
    """The file that a cell needs.

    Raises:
        ConfigError: its pipeline is none; says which line of the matrix asks for it.
    """
    values = matrix.variant(cell)
    asked = {name: str(values.pop(name)) for name in ("torch", "onnxsim") if name in values}
    wanted = {name: release for name, release in asked.items() if not _installed(name, release)}
    pipeline, yaml = matrix.pipeline_of(values)
    values.pop(PIPELINE)
    lengths = list(matrix.file.axes.length)
    named = [case.name for case in pipeline.cases if case.name in matrix.file.axes.case]
    said = {
        "cases": named or None,
        "yaml": yaml,
        "trust": trust,
        "lengths": lengths,
        "length_of": matrix.file.length_of,
        "threads": usable_cores(),
    }
    # The simplifier alone is put in front of what is here: PyTorch is not installed once more.
    over = bool(wanted) and "torch" not in wanted
    alone = tuple(f"{name}=={release}" for name, release in wanted.items())
    requirements = alone if over or not wanted else requirements_of_all(wanted)
    weights, fixed = weights_content(pipeline.model.weights)
    known = {
        "said": {**said, "yaml": values, "threads": 0},
        "pipeline": pipeline.digest,
        "weights": weights,
        "requirements": sorted(requirements),
        "here": _versions((*MAKERS, *installed_runtimes())) if over or not requirements else [],
        "code": code_digest(),
        "python": platform.python_version(),
    }
    return VariantJob(
        name=digest_of(known),
        kept=fixed and pipeline.model.factory is None,
        requirements=requirements,
        over=over,
        said=said,
    )


def cell_job(matrix: Matrix, cell: Cell) -> CellJob:
    """What a cell runs: where, how, on which cases."""
    release, provider = cell.get("onnxruntime"), cell.get("provider", "cpu")
    package = "onnxruntime-gpu" if provider == "cuda" else matrix.file.onnxruntime_package
    requirements: tuple[str, ...] = ()
    if release is not None:
        requirements = (f"{package}=={release}", *map(pinned, CHECK_NEEDS))
    options = dict(matrix.file.axes.provider_options.get(str(cell.get("provider_options", "")), {}))
    length, case = cell.get(LENGTH), cell.get(CASE)
    case = LENGTH_CASE.format(length) if length is not None else case
    run = {
        "provider": provider,
        "tf32": bool(options.pop(TF32, False)),
        "options": options,
        "level": cell.get("level", "all"),
        "threads": cell.get("threads", usable_cores()),
        "cases": None if case is None else [case],
    }
    parts = {
        "run": run,
        "requirements": sorted(requirements) or _versions((*CHECK_NEEDS, *installed_runtimes())),
        "python": platform.python_version(),
        "code": code_digest(),
    }
    return CellJob(cell=cell, parts=parts, requirements=requirements, run=run)


def pinned(package: str) -> str:
    """A package in the version that is installed here."""
    version = _version(package).partition("+")[0]
    return f"{package}=={version}" if version else package


def requirements_of_all(wanted: Mapping[str, str]) -> tuple[str, ...]:
    """Everything that this program needs, as it is installed here, but for the ``wanted``."""
    needed = {
        Requirement(requirement).name for requirement in metadata.requires(DISTRIBUTION) or ()
    }
    here = sorted(name for name in needed - {DISTRIBUTION, *wanted} if _is_here(name))
    rest = [pinned(name) for name in here]
    return (*(f"{name}=={release}" for name, release in wanted.items()), *rest)


def _is_here(package: str) -> bool:
    return pinned(package) != package


def _installed(name: str, release: str) -> bool:
    """Whether a release is here; one without a local part (+cpu) is any build of it."""
    if not (version := _version(name)):
        return False
    here, asked = release_key(version), release_key(release)
    return asked == here or (not asked.local and asked.public == here.public)


def _versions(packages: tuple[str, ...]) -> list[str]:
    return [f"{name} {_version(name)}" for name in packages] + [f"python at {sys.prefix}"]


def _version(package: str) -> str:
    """The version that is installed here, its local part (+cpu) too; "" of what is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
