"""What a worker does: a process in an environment of its own per job, what it wrote, and why not.

    <folder>/files/<digest>/   variant.json -> made.json, the run, its golden
    <folder>/cells/<digest>/   cell.json -> verdict.json, report/

A job that is known from an earlier run is read and not run again. Workers on several machines
share the folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from exporter.cache.environments import environment, last_line
from exporter.cache.sources import PACKAGE
from exporter.core.children import child_process
from exporter.core.errors import ExportVerifyError, UserInputError
from exporter.core.files import temporary_folder, write_text
from exporter.core.lock import locked
from exporter.core.runtimes import RUNTIMES
from exporter.execution.deployment import CPU
from exporter.matrix.cell_process import READY
from exporter.matrix.cells import digest_of
from exporter.matrix.jobs import (
    CHECK_NEEDS,
    MAKERS,
    PYTHON,
    CellJob,
    VariantJob,
    code_digest,
    this_python,
)
from exporter.matrix.make_process import MADE, RUN, VARIANT, digests_of
from exporter.matrix.verdict import (
    CELL,
    REPORT_FOLDER,
    VERDICT,
    CellVerdict,
    MadeVariant,
    not_run,
    read_made,
    read_verdict,
    written,
)
from exporter.parity.status import JUDGED, Status
from exporter.report.environment import cpu_flags
from exporter.report.write import HTML

FILES, CELLS = "files", "cells"
_WAIT_SECONDS = 3600.0
_NVIDIA = Path("/proc/driver/nvidia")
_CRASHES = frozenset({4, 5, 6, 7, 8, 11})
"""Signals that a process brings upon itself: ILL, TRAP, ABRT, BUS, FPE, SEGV."""
_TRACE = "Traceback (most recent call last)"
_CODE = "import sys; sys.path.insert(0, sys.argv[1]); from exporter.matrix.{0} import main;"
_CODE += " main(sys.argv[2], int(sys.argv[3]))"
_FAILED: dict[tuple[str, tuple[str, ...]], str] = {}
"""Environments that could not be made in this run, by run: nobody waits for them twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """Where a matrix lies, and what workers have to agree on.

    Attributes:
        folder: of the matrix. environments: root of them. run: a name for this start.
        code: digest of the package, which workers must have as well.
        timeout_s: of one process.
        packages: versions of the Python that asks, which a worker has too.
    """

    folder: Path
    environments: Path
    run: str
    code: str
    timeout_s: float
    packages: Mapping[str, str] = field(default_factory=this_python)


class NoEnvironmentError(Exception):
    """An environment could not be made, or what is in it does not start."""


def processor(provider: str = CPU) -> str:
    """What of this machine decides numbers on a provider."""
    model = platform.processor()
    with contextlib.suppress(OSError):
        rows = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        pairs = dict(row.split(":", 1) for row in rows if ":" in row)
        model = {key.strip(): value.strip() for key, value in pairs.items()}.get("model name", "")
    words = f"{platform.system()} {platform.machine()} {model} {' '.join(cpu_flags())}"
    return words if provider == CPU else f"{words} {_device()}"


def _device() -> str:
    """Models and driver of the GPUs; of one that nobody can tell it is this machine's alone."""
    models = [*sorted(_NVIDIA.glob("gpus/*/information")), _NVIDIA / "version"]
    lines = []
    for path in models:
        with contextlib.suppress(OSError):
            rows = path.read_text(encoding="utf-8").splitlines()
            lines += [row for row in rows if row.startswith(("Model", "NVRM"))]
    return " ".join(sorted(set(lines))) or platform.node()


def make(place: Workspace, job: VariantJob) -> MadeVariant:
    """Make the file of a variant, or read what an earlier run made of the same."""
    name = job.name if job.kept else f"{place.run}-{job.name}"
    folder = place.folder / FILES / name
    alone = () if job.over else job.requirements
    if stranger := _stranger(place, alone, MAKERS):
        return MadeVariant(digest=name, status=Status.NOT_RUN, reason=stranger)
    with _alone(folder):
        known = read_made(folder / MADE)
        if known is not None and known.status in JUDGED and _whole(known):
            return known
        (folder / MADE).unlink(missing_ok=True)  # else what is there would pass for the new one
        write_text(folder / VARIANT, json.dumps({**job.said, "digest": name}, indent=1))
        try:
            wanted = job.requirements
            said = _run(place, folder, wanted, "make_process", folder / MADE, job.over)
        except NoEnvironmentError as error:
            return MadeVariant(digest=name, status=Status.NOT_RUN, reason=str(error))
        return read_made(folder / MADE) or MadeVariant(
            digest=name, status=Status.NOT_RUN, reason=said or "it wrote nothing"
        )


def judge(place: Workspace, job: CellJob, made: MadeVariant) -> CellVerdict:
    """Judge a cell, or read what is known of it."""
    began = time.perf_counter()
    if stranger := _stranger(place, job.requirements, CHECK_NEEDS):
        return not_run(stranger)
    if made.status is not Status.PASS:
        reason = f"its file: {made.reason}"
        inside = f"{FILES}/{made.digest}"
        page = _page(place, f"{inside}/{RUN}")
        verdict = CellVerdict(status=made.status, reason=reason, first=made.first)
        return verdict.model_copy(update={"folder": inside, "page": page})
    machine = processor(job.run["provider"])
    name = digest_of({**job.parts, "file": made.content, "processor": machine})
    folder = place.folder / CELLS / name
    with _alone(folder):
        known = read_verdict(folder / VERDICT)
        if known is not None and known.status in JUDGED:
            return known.model_copy(update={"known": True, **_links(place, name)})
        said = {"yaml": made.yaml, "onnx": made.onnx, "golden": made.golden, **job.run}
        said["cell"] = dict(job.cell.values)
        write_text(folder / CELL, json.dumps(said, indent=1))
        (folder / VERDICT).unlink(missing_ok=True)
        try:
            problem = _run(place, folder, job.requirements, "cell_process", folder / VERDICT)
            verdict = read_verdict(folder / VERDICT)
            verdict = verdict or CellVerdict(status=Status.FAIL, state="ended", reason=problem)
        except NoEnvironmentError as error:
            verdict = not_run(str(error))
        total = time.perf_counter() - began
        verdict = verdict.model_copy(update={**_links(place, name), "total_seconds": total})
        written(verdict, folder / VERDICT)
        return verdict


def _stranger(place: Workspace, requirements: Sequence[str], packages: Sequence[str]) -> str:
    """Why this worker is none for a job: it would answer for what is not named; or "".

    Args:
        requirements: of the job's environment. packages: what decides where there is none.
    """
    if code_digest() != place.code:
        return f"the worker on {platform.node()} has another version of export-verify"
    here = this_python()
    for name in (PYTHON,) if requirements else (PYTHON, *packages, *RUNTIMES):
        if here.get(name) != place.packages.get(name):
            version, asked = here.get(name, "not at all"), place.packages.get(name, "none")
            return (
                f"the worker on {platform.node()} has {name} {version}, where this starts {asked}"
            )
    return ""


def _links(place: Workspace, name: str) -> dict[str, str]:
    """Where a cell lies, and its page; a worker that was lost had no time to say so."""
    inside = f"{CELLS}/{name}"
    return {"folder": inside, "page": _page(place, f"{inside}/{REPORT_FOLDER}")}


def _page(place: Workspace, inside: str) -> str:
    page = f"{inside}/{HTML}"
    return page if (place.folder / page).is_file() else ""


def _whole(made: MadeVariant) -> bool:
    """Whether what was made still lies there, with the bytes that cells are named by."""
    if made.status is not Status.PASS:
        return True
    if not all(Path(path).exists() for path in (made.yaml, made.onnx, made.golden)):
        return False
    try:
        return digests_of(Path(made.onnx), Path(made.golden)) == made.content
    except ExportVerifyError:
        return False


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time: a worker that was given up may still be at it."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock", wait=_WAIT_SECONDS) as ours:
        if not ours:
            raise UserInputError(f"another process works in {folder}", remedy="end it")
        yield


def _run(
    place: Workspace,
    folder: Path,
    requirements: tuple[str, ...],
    module: str,
    result: Path,
    over: bool = False,
) -> str:
    """Run a module of ours in an environment; "" or how it ended without a result.

    Args:
        over: the environment stands in front of this Python's packages.

    Raises:
        NoEnvironmentError: it could not even begin, or was ended from outside.
    """
    key = (place.run, requirements)
    if key in _FAILED:
        raise NoEnvironmentError(_FAILED[key])
    with contextlib.ExitStack() as stack:
        python = Path(sys.executable)
        if requirements:
            try:
                made = environment(place.environments, requirements, over=over)
                python = stack.enter_context(made)
            except UserInputError as error:
                _FAILED[key] = f"its environment: {error.problem}"
                raise NoEnvironmentError(_FAILED[key]) from error
        code = stack.enter_context(_package_alone())
        command = [str(python), "-I", "-c", _CODE.format(module), str(code), str(folder)]
        return _ended([*command, str(os.getpid())], place.timeout_s, result, module)


def _ended(command: list[str], seconds: float, result: Path, module: str) -> str:
    with child_process(command, stderr=subprocess.PIPE) as child:
        try:
            out, err = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise NoEnvironmentError(f"it did not end within {seconds:g} s") from None
        code = child.returncode
    write_text(result.with_name("log.txt"), f"{out}{err}")
    if result.is_file():
        return ""
    how = _why(err) if code > 0 else f"signal {-code}"
    begun = READY in out.splitlines() or module != "cell_process"
    if code == -9:
        raise NoEnvironmentError("its process was killed (signal 9; often for want of memory)")
    if code < 0 and -code not in _CRASHES:
        raise NoEnvironmentError(f"its process was ended from outside (signal {-code})")
    if not begun:
        raise NoEnvironmentError(f"its environment does not start: {how or f'exit code {code}'}")
    return f"the process ended in it: {how or f'exit code {code}'}"


def _why(err: str) -> str:
    """What a process that ended has said: its last line, and what stood before the first trace,
    where libraries say in whole sentences what the error leaves out."""
    last = last_line(err)
    before = err.strip().partition(_TRACE)[0].partition("\n\n")[0]
    return f"{' '.join(before.split())[:300]} ({last})" if before and last not in before else last


@contextlib.contextmanager
def _package_alone() -> Iterator[Path]:
    """A folder with this package and nothing beside it, which could be another onnxruntime."""
    with temporary_folder() as folder:
        (folder / PACKAGE.name).symlink_to(PACKAGE, target_is_directory=True)
        yield folder
