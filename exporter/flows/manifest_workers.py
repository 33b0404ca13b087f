"""A manifest in several processes: each opens the system and takes its share of the utterances.

    this process    appends results to ``manifest.jsonl`` as they come, and says how far it is
    process n of N  takes lines n, n + N, n + 2 N, ...; one line of JSON to its output per result

A process holds one utterance. It ends with this one, however that ends, and what was known by then
lies on disk: the next run goes on from there.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import queue
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from exporter.config.run_options import RunOptions
from exporter.config.system import System
from exporter.core.children import child_process, end_with_parent
from exporter.core.errors import EXIT_USER_INPUT, ExportVerifyError, UserInputError, exit_code
from exporter.core.files import read_bytes, replacing, temporary_folder
from exporter.core.users_fault import users_fault
from exporter.flows.open_system import bench_of
from exporter.report.environment import default_memory_budget, usable_cores
from exporter.report.progress import Progress
from exporter.systems.manifest_rows import Row
from exporter.systems.run_manifest import rows_of

_ROOT = Path(__file__).resolve().parents[2]
_CODE = "import sys; sys.path.insert(0, sys.argv[1]); "
_CODE += "from exporter.flows import manifest_workers; manifest_workers.child(sys.argv[2])"
_JOB = "job.pickle"
_STOPPED = "stopped"
"""Key of the line that says why a process cannot go on, with the exit code of its error."""


class ProcessError(ExportVerifyError):
    """A bug of ours ended one of the processes; its traceback is a note, where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What every process is told.

    Attributes:
        folder: of the system's run. files: that are judged in place of those in it.
        manifest: its path.
    """

    system: System
    options: RunOptions
    folder: Path
    files: Mapping[str, Path]
    manifest: Path


def narrowed(options: RunOptions, jobs: int) -> RunOptions:
    """The options of one of ``jobs`` processes: its share of the cores and of the memory."""
    cores = options.threads or usable_cores()
    budget = options.memory_budget or default_memory_budget()
    shares = {"threads": max(1, cores // jobs), "memory_budget": max(1, budget // jobs)}
    return options.model_copy(update=shares)


def rows_elsewhere(job: Job, jobs: int, done: Mapping[int, str]) -> Iterator[Row]:
    """Results of all utterances that have none, from ``jobs`` processes, as they come.

    Args:
        done: key of every line that has a result.

    Raises:
        UserInputError: a process cannot go on, or was ended from outside.
        ProcessError: a process came to a bug. Either way what has come by then counts.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        # A few results may wait to be written: memory does not grow with the manifest.
        lines: queue.Queue[tuple[int, str | None]] = queue.Queue(maxsize=4 * jobs)
        children = []
        for number in range(jobs):
            own = folder / str(number)
            own.mkdir()
            told = (job, dict(done), (number, jobs), os.getpid())
            with replacing(own / _JOB) as part, part.open("wb") as stream:
                pickle.dump(told, stream)
            command = [sys.executable, "-P", "-c", _CODE, str(_ROOT), str(own)]
            child = stack.enter_context(child_process(command, stderr=None))
            threading.Thread(target=_read, args=(number, child, lines), daemon=True).start()
            children.append(child)
        left = jobs
        while left:
            number, line = lines.get()
            if line is None:
                left -= 1
                code = children[number].wait()
                if code:
                    raise _ended(code)
                continue
            if line[-1:] != "\n":
                continue  # cut off by the end of its process, of which the next line tells
            held = json.loads(line)
            if _STOPPED in held:
                raise _stopped(**held)
            yield Row.model_validate(held)


def _read(
    number: int, child: subprocess.Popen[str], lines: queue.Queue[tuple[int, str | None]]
) -> None:
    with contextlib.suppress(ValueError, OSError):  # its output was closed: the run has ended
        for line in child.stdout or ():
            lines.put((number, line))
    lines.put((number, None))


def _stopped(stopped: int, said: str, trace: str) -> ExportVerifyError:
    if stopped == EXIT_USER_INPUT:
        return UserInputError(said, remedy="run it again without --jobs")
    error = ProcessError(f"one of the processes of the manifest stopped: {said}")
    error.add_note(trace)
    return error


def _ended(code: int) -> ExportVerifyError:
    if code > 0:  # Python's own, of an error that nobody caught
        return ProcessError(f"one of the processes of the manifest ended with exit code {code}")
    return UserInputError(
        f"one of the processes of the manifest was ended by signal {-code}: the machine may be"
        " short of memory",
        remedy="run it again, with fewer --jobs: it goes on behind what is known",
    )


# -- the child -----------------------------------------------------------------------------------


def child(folder: str) -> None:
    """Take a share of the manifest; every result is one line on standard output."""
    # What a library prints must not stand between the results.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        try:
            told = read_bytes(Path(folder) / _JOB)
            job, done, share, parent = pickle.loads(told)  # noqa: S301 - our own parent's
            end_with_parent(parent)
            quiet = Progress(quiet=True)
            bench = bench_of(job.system, job.options, job.folder, job.files, quiet)
            for row in rows_of(bench, job.manifest, done, lambda *_: None, share):
                out.write(row.model_dump_json() + "\n")
                out.flush()
        except Exception as error:  # noqa: BLE001 - told by the parent, with its code
            told = users_fault(error) or error
            said = str(told) if isinstance(told, ExportVerifyError) else repr(told)
            trace = "".join(traceback.format_exception(error))
            line = {_STOPPED: exit_code(told), "said": said, "trace": trace}
            out.write(json.dumps(line) + "\n")
