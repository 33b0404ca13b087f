"""Count how often a reader must jump between files to follow two ways of the data.

    python scripts/trace_hops.py [--paths] [--write]

- **a tap**: a model of one layer, by ``model.factory``. From its case in the YAML, through opening
  the ONNX file, the policy and the walk of the layers, to the ``TapRecord`` of that layer.
- **a golden check**: the file of ``pipelines/silero_vad_tiny.yaml`` against its golden on one
  case, from the pipeline to the outcome; the file is opened on the way.

The export is on neither way, nor is what only a failure asks for.

Both are run under a profile hook. A reader reads each function of the package once, in the order
of the first calls. A nested function, a lambda and a generator expression are read with the
function that holds them; what a dataclass generates and what runs while a module is imported is
not read. Workers of a thread pool run at once, in the order in which work is handed to them.

Functions that **lead on** call one in another file: whoever skips them loses the way. ``core/``
and ``config/`` are words of the house and nobody is led there. All other functions are **leaves**:
they compute something and give it back, and their names and docstrings may be believed. Both are
counted, those that lead on alone and then all of them; the goals are of the first.

- **files**: distinct files that hold such a function;
- **changes**: how often the next function stands in another file than the last one;
- **returns**: changes to a file that was read before and left.

So changes = files - 1 + returns. ``--paths`` lists the ways, ``--write`` puts the table into
docs/architecture.md. Exits 1 when a way is longer than its goal.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import inspect
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "exporter"
PAGE = ROOT / "docs" / "architecture.md"
TABLE = re.compile(r"(?<=<!-- hops -->\n).*?(?=<!-- /hops -->)", re.DOTALL)
GOLDEN = "silero_vad_tiny"
MODEL = """
import torch

class One(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def forward(self, signal):
        return self.layer(signal)
"""
YAML = """
name: one_layer
model: {factory: "one_layer:One", weights: seeded}
inputs:
  signal: {dtype: float32, shape: [frames, 4]}
outputs: [scores]
cases:
  - {name: noise, random: {signal: {kind: normal, seed: 1, sizes: {frames: 5}}}}
default_case: noise
"""


WORDS = ("core/", "config/")
"""Folders of values that everybody reads once, before any way."""


@dataclass(frozen=True, slots=True)
class Hops:
    """What was counted; ``path`` has the file of every function, in reading order."""

    path: tuple[str, ...]

    @property
    def visits(self) -> tuple[str, ...]:
        """The files in reading order, one entry for functions that are read in a row."""
        before = ("", *self.path)
        return tuple(file for last, file in zip(before, self.path, strict=False) if file != last)

    @property
    def files(self) -> int:
        """Distinct files."""
        return len(set(self.path))

    @property
    def changes(self) -> int:
        """How often the reader goes on in another file."""
        return max(0, len(self.visits) - 1)

    @property
    def returns(self) -> int:
        """Changes to a file that was left before."""
        return len(self.visits) - self.files


@dataclass(frozen=True, slots=True)
class Read:
    """A function of the package."""

    file: str
    name: str


@dataclass(slots=True)
class Trace:
    """Functions in the order of their first calls, and which of them lead on."""

    order: list[Read] = field(default_factory=list)
    leading: set[Read] = field(default_factory=set)

    def add(self, caller: Read | None, called: Read) -> None:
        """One call."""
        if called not in self.order:
            self.order.append(called)
        elsewhere = caller is not None and caller.file != called.file
        if caller is not None and elsewhere and not called.file.startswith(WORDS):
            self.leading.add(caller)

    def way(self) -> Hops:
        """Functions that lead on, alone."""
        on = (held for held in self.order if held in self.leading)
        return Hops(tuple(held.file for held in on if not held.file.startswith(WORDS)))

    def whole(self) -> Hops:
        """All functions."""
        return Hops(tuple(held.file for held in self.order))


class AtOnce(concurrent.futures.Executor):
    """A thread pool without threads, so that calls have one order."""

    def __init__(self, *_: Any, **__: Any):
        pass

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run ``fn`` now."""
        done: concurrent.futures.Future[Any] = concurrent.futures.Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - kept for whoever asks for the result
            done.set_exception(error)
        return done


@contextlib.contextmanager
def hook(found: Trace) -> Iterator[None]:
    """Tell ``found`` every call of a function of the package while the block runs."""

    def called(frame: FrameType, event: str, _: Any) -> None:
        held = read_in(frame.f_code) if event == "call" else None
        if held is not None:
            found.add(_caller(frame), held)

    sys.setprofile(called)
    try:
        yield
    finally:
        sys.setprofile(None)


def _caller(frame: FrameType) -> Read | None:
    """Who called, through whatever other package lies between."""
    back = frame.f_back
    while back is not None:
        if (held := read_in(back.f_code)) is not None:
            return held
        back = back.f_back
    return None


@cache
def read_in(code: CodeType) -> Read | None:
    """The function that is read for ``code``; None for what nobody reads."""
    file = Path(code.co_filename)
    if not file.is_relative_to(PACKAGE):
        return None
    function = code.co_qualname.partition(".<locals>")[0]
    if function.startswith("<") or not code.co_flags & inspect.CO_NEWLOCALS:
        return None  # a module or the body of a class, which run at import
    return Read(file.relative_to(PACKAGE).as_posix(), function)


def trace(way: Callable[[], object]) -> Trace:
    """Run ``way`` once for its imports and once under the hook."""
    way()
    found = Trace()
    with hook(found):
        way()
    return found


def tap_way(folder: Path) -> Callable[[], object]:
    """From the case of a model of one layer to the record of its tap."""
    from exporter.build.build import build
    from exporter.cases.load import load_cases
    from exporter.config.load import load_pipeline
    from exporter.execution.deployment import Deployment
    from exporter.graph.onnx_file import open_graph
    from exporter.judge.layers import judge_subject
    from exporter.judge.links import layers_to
    from exporter.judge.report_records import layer_link
    from exporter.judge.subject import Subject
    from exporter.parity.tolerance import policy_of
    from exporter.report.progress import Progress

    (folder / "one_layer.py").write_text(MODEL, encoding="utf-8")
    (folder / "one_layer.yaml").write_text(YAML, encoding="utf-8")
    pipeline = load_pipeline(folder / "one_layer.yaml", trust=True)
    built = build(pipeline, folder, Progress(quiet=True), prepare=lambda: None)
    subject = Subject(
        module=built.wrapped.module,
        program=built.program,
        inputs=built.wrapped.inputs,
        outputs=built.wrapped.outputs,
        stations=built.stations,
    )

    def way() -> object:
        cases = load_cases(pipeline, subject.inputs, ["noise"])
        graph, policy = open_graph(built.shipped.path), policy_of(pipeline)
        link = judge_subject(
            subject,
            graph,
            cases,
            policy=policy,
            deployment=Deployment(threads=1),
            budget=1 << 24,
        )
        record, _ = layer_link(link, layers_to("simplified"), None)
        layer = next(held for held in record.layers if held.module.endswith("layer"))
        assert layer.taps[0].verdict == "pass", record
        return layer.taps[0]

    return way


def golden_way(folder: Path) -> Callable[[], object]:
    """From a pipeline and its file to the outcome of a golden check."""
    from exporter.build.build import build
    from exporter.config.load import load_pipeline
    from exporter.flows import golden_check
    from exporter.golden.outcome import GOOD, CheckOutcome
    from exporter.report.progress import Progress

    pipeline = load_pipeline(ROOT / "pipelines" / f"{GOLDEN}.yaml")
    built = build(pipeline, folder, Progress(quiet=True), prepare=lambda: None)

    def way() -> CheckOutcome:
        outcome = golden_check.check(
            pipeline, onnx=built.shipped.path, golden_dir=ROOT / "golden", cases=("english",)
        )
        assert outcome.state in GOOD, outcome
        return outcome

    return way


WAYS = {
    "a waveform's way to the record of one tap": (tap_way, 20, 15),
    "a golden check": (golden_way, 15, 10),
}
"""Way -> what runs it, and how many files and returns it may have."""


def measure() -> dict[str, Trace]:
    """Run both ways."""
    sys.path.insert(0, str(ROOT))
    concurrent.futures.ThreadPoolExecutor = AtOnce  # before anybody imports it by name
    found = {}
    for name, (prepare, _, _) in WAYS.items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = trace(prepare(Path(folder)))
    return found


def table(found: dict[str, Trace]) -> str:
    """Both ways as a Markdown table."""
    lines = [
        "| way | files | changes | returns | goal | with leaves: files | changes | returns |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, held in found.items():
        _, files, returns = WAYS[name]
        way, whole = held.way(), held.whole()
        figures = [way.files, way.changes, way.returns, f"{files} files, {returns} returns"]
        figures += [whole.files, whole.changes, whole.returns]
        lines.append(f"| {name} | {' | '.join(map(str, figures))} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, and the ways where they are asked for; 1 when a way is too long."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--paths", action="store_true", help="list the functions of each way")
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    options = parser.parse_args(arguments)
    found = measure()
    print(table(found), end="")
    if options.paths:
        for name, held in found.items():
            print("", name, sep="\n")
            for read in held.order:
                print(f"  {'' if read in held.leading else '    '}{read.file}: {read.name}")
    if options.write:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(TABLE.sub(lambda _: table(found), text), encoding="utf-8")
    return int(any(too_long(name, held.way()) for name, held in found.items()))


def too_long(name: str, way: Hops) -> bool:
    """Whether a way is longer than its goal."""
    _, files, returns = WAYS[name]
    return way.files > files or way.returns > returns


if __name__ == "__main__":
    sys.exit(main())
