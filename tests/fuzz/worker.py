"""A process that tries inputs one after the other, and says of each how it ended.

It may die, hang or grow: whoever gave it the work watches, and starts another one.

    parent: {"kind": "yaml", "seed": 7, "folder": "/tmp/x"}\\n  ->
         <- {"code": 2, "said": "error: ..."}\\n
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import pkgutil
import resource
import sys
import traceback
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

import exporter
from tests.fuzz import forked
from tests.fuzz.kinds import make

UNCAUGHT = -1
NOTHING_LEFT = (LookupError, ValueError, TypeError, SafetensorError)
"""What an edit raises where one before it has taken away what this one wants."""
_KEPT = 300
_IMPORTED = ("onnxruntime", "torch._dynamo", "torch.export", "torch.onnx", "numba", "scipy.linalg")
"""What is imported where it is needed, and takes long: copies need not do it again."""
_OTHER_PROGRAMS = ("__main__", "pytest_plugin")


def attempt(kind: str, seed: int, corpus: Path, work: Path) -> tuple[int, str]:
    """Try one input in this process: exit code (``UNCAUGHT`` for an exception), what was said."""
    try:
        tried = make(kind, seed, corpus, work)
    except NOTHING_LEFT:
        return 2, "nothing left to damage"
    os.chdir(tried.folder or work)
    return end_of(tried.argv, tried.call)


def end_of(argv: Any, call: Any = None) -> tuple[int, str]:
    """How a command, or a call in its place, ends: exit code and the first of what was said."""
    from exporter.cli import main
    from exporter.core.errors import ExportVerifyError, UserInputError
    from exporter.core.extras import missing_package

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            if call is None:
                code = main(list(argv))
            else:
                call()
                code = 0
        except UserInputError as error:
            code = 2
            said.write(error.render())
        except BaseException as error:  # noqa: BLE001 - this is what is looked for
            known = isinstance(error, ExportVerifyError) or missing_package(error)
            code = 2 if known else UNCAUGHT
            said.write("".join(traceback.format_exception(error)))
    text = said.getvalue()
    if call is None and any(line.startswith("Traceback") for line in text.splitlines()):
        code = UNCAUGHT  # in a child: Python ends with 1, as a verdict does
    return code, _told(text, code)


def _told(text: str, code: int) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    if code not in (3, UNCAUGHT) or not lines:
        return " ".join(lines)[:_KEPT]
    ours = [line.strip() for line in lines if "/exporter/" in line and 'File "' in line]
    at = ours[-1].rsplit("/exporter/", 1)[1].replace('", line ', ":") if ours else ""
    return f"{lines[-1][:_KEPT]} @ {at}"


def _limit(gigabytes: float) -> None:
    """No more address space than is taken now, and this much."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _import_all() -> None:
    """Before memory is limited, and before copies are made."""
    ours = pkgutil.walk_packages(exporter.__path__, "exporter.")
    for name in (*_IMPORTED, *(module.name for module in ours)):
        if not name.endswith(_OTHER_PROGRAMS):
            importlib.import_module(name)


def _serve(corpus: Path, gigabytes: float) -> None:
    import torch

    _import_all()
    torch.set_num_threads(1)
    _limit(gigabytes)
    forked.start()
    home = Path.cwd()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        job = json.loads(line)
        code, said = attempt(job["kind"], job["seed"], corpus, Path(job["folder"]))
        os.chdir(home)
        for name in [n for n in sys.modules if n == "toy_model"]:
            del sys.modules[name]
        answers.write(json.dumps({"code": code, "said": said}) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), float(sys.argv[2]))
