"""Run every model of ``pipelines/zoo`` and plain ``torch.onnx.export`` beside it; write a table.

    python scripts/zoo.py [NAME ...] [--sides ours plain] [--write docs/zoo.md]
                          [--results zoo.jsonl] [--seconds 240]

Each model runs in a child process of its own, with limits of time and memory. What is measured:

    ours     ``export-verify run --trust`` without a cache: the file and the verdict
    plain    ``torch.onnx.export(dynamo=True)`` with the same axes, onnxsim, one comparison
    right    either file is run with onnxruntime at other sizes, and held against the module itself;
             this check knows nothing of ours, and its limit is wide: 0.001 of the largest value

``--results`` keeps one line of JSON for each model; models that are not named keep theirs.
Exits 1 when a model crashes, or a file that passed is wrong at another size.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from zoo_table import outcome, page  # noqa: E402

from exporter.config import Pipeline, load_pipeline  # noqa: E402
from exporter.core.errors import ExportVerifyError  # noqa: E402
from exporter.core.tensors import Axis  # noqa: E402
from exporter.flows.run import run  # noqa: E402
from exporter.graph.capture import quiet_exporter  # noqa: E402
from exporter.graph.wrap import Wrapped, wrap  # noqa: E402

ZOO = ROOT / "pipelines" / "zoo"
MEMORY = 12 << 30
RELATIVE = 1e-3
_BATCH = ("batch", "rows")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="models; none: all of them")
    parser.add_argument("--sides", nargs="+", default=["ours", "plain"])
    parser.add_argument("--results", type=Path, default=Path("zoo.jsonl"))
    parser.add_argument("--write", type=Path)
    parser.add_argument("--seconds", type=int, default=240)
    options = parser.parse_args()
    every = [path.stem for path in sorted(ZOO.glob("*.yaml"))]
    rows = _read(options.results)
    _warm()
    for name in options.names or every:
        row = rows.get(name, {"name": name})
        for side in options.sides:
            row[side] = in_child(lambda n=name, s=side: _measured(n, s), options.seconds)
            print(f"{name:32} {side:6} {_short(row[side])}", flush=True)
        rows[name] = row
        text = "".join(json.dumps(rows[key]) + "\n" for key in sorted(rows))
        options.results.write_text(text)
    kept = [rows[name] for name in every if name in rows]
    if options.write:
        options.write.write_text(page(kept))
    counts = Counter(outcome(row) for row in kept)
    print(dict(counts))
    return 1 if counts["crash"] or counts["wrong file"] else 0


def _read(path: Path) -> dict[str, dict[str, Any]]:
    lines = path.read_text().splitlines() if path.is_file() else []
    return {row["name"]: row for row in map(json.loads, lines)}


def _warm() -> None:
    """Import what both sides need, so that no model pays for it."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    import onnxruntime  # noqa: F401
    import onnxsim  # noqa: F401
    import transformers

    transformers.logging.set_verbosity_error()
    example = (torch.zeros(2, 3),)
    with quiet_exporter():
        torch.onnx.export(torch.nn.Linear(3, 3).eval(), example, dynamo=True, verbose=False)


def in_child(work: Callable[[], dict[str, Any]], seconds: int) -> dict[str, Any]:
    """What ``work`` returns, from a process of its own with limits."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.nice(5)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        try:
            found = work()
        except BaseException as error:  # noqa: BLE001 - it is what the table is about
            lines = traceback.format_exc().strip().splitlines()
            found = {"status": "crash", "why": f"{type(error).__name__}: {error}"[:400]}
            found["where"] = " | ".join(line.strip() for line in lines[-7:-1])[-500:]
        os.write(writer, json.dumps(found).encode())
        os._exit(0)
    os.close(writer)
    return _answer(reader, child, seconds)


def _answer(reader: int, child: int, seconds: int) -> dict[str, Any]:
    import select

    held, end = b"", time.monotonic() + seconds
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            os.kill(child, signal.SIGKILL)
            break
        part = os.read(reader, 1 << 16)
        if not part:
            break
        held += part
    os.close(reader)
    _, status = os.waitpid(child, 0)
    if held:
        return json.loads(held)
    if time.monotonic() >= end:
        return {"status": "time is up", "why": f"not done within {seconds} s"}
    return {"status": "crash", "why": f"it ended with {status}"}


def ours(name: str) -> dict[str, Any]:
    """A run of export-verify, and whether its file is right elsewhere."""
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        try:
            report = run(
                ZOO / f"{name}.yaml", output_dir=Path(folder), trust=True, cache=False, threads=1
            )
        except ExportVerifyError as error:
            return {
                "status": "refused",
                "why": f"{error.problem}"[:400],
                "where": error.where,
                "remedy": error.remedy,
                **clock.read(),
            }
        found: dict[str, Any] = {
            "status": report.verdict,
            "why": report.headline,
            **clock.read(),
            "compared": sum(link.compared or 0 for link in report.links if "layer" in link.name),
            "notes": [note for note in report.notes if _tells(note)],
            "culprits": [f"{c.layer} {c.op} {c.link}" for c in report.culprits][:3],
        }
        if report.stopped is not None:
            found |= {"status": "refused", "why": report.headline}
            return found
        pipeline = load_pipeline(ZOO / f"{name}.yaml", trust=True)
        wrapped = wrap(pipeline)
        limits = _limits(Path(folder))
        found["elsewhere"] = elsewhere(pipeline, wrapped, Path(folder) / "model.onnx", limits)
        return found


def _measured(name: str, side: str) -> dict[str, Any]:
    """One side of a model whose packages are imported already: neither side pays for them."""
    with contextlib.suppress(Exception):
        wrap(load_pipeline(ZOO / f"{name}.yaml", trust=True))
    return SIDES[side](name)


def _tells(note: str) -> bool:
    starts = ("captured in another", "takes ", "while the model", "the captured", "repaired")
    return note.startswith(starts)


def _limits(folder: Path) -> dict[str, tuple[int, int | None, int]]:
    from exporter.graph.program_file import load_program

    return dict(load_program(folder / "program").limits)


def plain(name: str) -> dict[str, Any]:
    """What ``torch.onnx.export`` makes of the same module, simplified and compared once."""
    import onnx
    import onnxsim

    pipeline = load_pipeline(ZOO / f"{name}.yaml", trust=True)
    wrapped = wrap(pipeline)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        clock = _Clock()
        try:
            with quiet_exporter():
                torch.onnx.export(
                    copy.deepcopy(wrapped.module),
                    tuple(wrapped.example.values()),
                    path,
                    dynamo=True,
                    verbose=False,
                    input_names=[spec.name for spec in wrapped.inputs],
                    output_names=[spec.name for spec in wrapped.outputs],
                    dynamic_shapes=tuple(
                        dict(wrapped.dynamic_shapes[spec.name]) for spec in wrapped.inputs
                    ),
                )
            simplified, _ = onnxsim.simplify(onnx.load(path))
            onnx.save(simplified, path)
            _compare(wrapped, path, wrapped.example)
        except Exception as error:  # noqa: BLE001 - any of its steps may refuse
            cause = error
            while cause.__cause__ is not None:
                cause = cause.__cause__  # type: ignore[assignment]
            text = (str(cause).strip().splitlines() or [""])[0]
            return {"status": "refused", "why": f"{type(cause).__name__}: {text}"[:300]}
        spent = clock.read()
        return {"status": "file", **spent, "elsewhere": elsewhere(pipeline, wrapped, path, {})}


class _Clock:
    """Seconds since it was made: those that passed, and those that this process computed."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        wall, computed = self._began
        return {
            "seconds": time.perf_counter() - wall,
            "cpu_seconds": time.process_time() - computed,
        }


SIDES = {"ours": ours, "plain": plain}


def elsewhere(
    pipeline: Pipeline,
    wrapped: Wrapped,
    path: Path,
    limits: Mapping[str, tuple[int, int | None, int]],
) -> dict[str, Any]:
    """Whether a file gives what the module gives, at sizes other than the traced ones.

    The sizes are the pipeline's own cases, those near the example, and odd ones.
    """
    agreed, wrong = [], []
    if wrapped.example_at is None:
        return {"agreed": agreed, "wrong": wrong}
    axes = {axis.name: axis for spec in wrapped.inputs for axis in spec.axes}
    own = [
        {
            **wrapped.sizes,
            **dict(item for drawn in drawings for item in (drawn.sizes or {}).items()),
        }
        for drawings in ((case.random or {}).values() for case in pipeline.cases)
    ]
    for at in (*own, *_sizes(wrapped.sizes, axes, limits)):
        label = ", ".join(f"{key} {value}" for key, value in at.items())
        try:
            values = wrapped.example_at(at)
            expected = _eager(wrapped, values)
        except Exception:  # noqa: BLE001 - the module itself does not take these sizes
            continue
        try:
            problem = _compare(wrapped, path, values, expected)
        except Exception as error:  # noqa: BLE001 - onnxruntime's own
            problem = (str(error).strip().splitlines() or [""])[0][:200]
        (wrong if problem else agreed).append(f"{label}: {problem}" if problem else label)
    return {"agreed": agreed, "wrong": wrong}


def _sizes(
    example: Mapping[str, int],
    axes: Mapping[str, Axis],
    limits: Mapping[str, tuple[int, int | None, int]],
) -> Iterator[dict[str, int]]:
    def within(name: str, size: int) -> bool:
        declared = axes[name]
        if name in limits:
            lowest, highest, step = limits[name]
            declared = Axis(name=name, minimum=lowest, maximum=highest, multiple_of=step)
        return declared.takes(size)

    yield dict(example)
    moved = {
        name: size + 1 if name in _BATCH else (5 * size) // 4 + 1 for name, size in example.items()
    }
    for at in (moved, {name: max(1, (3 * size) // 4) for name, size in example.items()}):
        if all(within(name, size) for name, size in at.items()):
            yield at
    for name, size in example.items():
        others = (1, size + 2) if name in _BATCH else (size - 1, size + 1, 2 * size, 2 * size + 1)
        for other in others:
            if within(name, other):
                yield {**example, name: other}


def _eager(wrapped: Wrapped, values: Mapping[str, torch.Tensor]) -> list[np.ndarray]:
    with torch.no_grad():
        found = copy.deepcopy(wrapped.module)(*(value.clone() for value in values.values()))
    return [value.numpy() for value in found]


def _compare(
    wrapped: Wrapped,
    path: Path,
    values: Mapping[str, torch.Tensor],
    expected: list[np.ndarray] | None = None,
) -> str:
    """In what onnxruntime differs from the module; "" when in nothing."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    known = {held.name for held in session.get_inputs()}
    feeds = {name: value.numpy() for name, value in values.items() if name in known}
    found = dict(
        zip([held.name for held in session.get_outputs()], session.run(None, feeds), strict=True)
    )
    for spec, want in zip(wrapped.outputs, expected or _eager(wrapped, values), strict=True):
        have = found[spec.name]
        if have.shape != want.shape:
            return f"{spec.name} is {list(have.shape)}, not {list(want.shape)}"
        if want.dtype.kind != "f":
            if (have != want).mean() > 0.01:
                return f"{spec.name}: {(have != want).mean():.0%} differ"
            continue
        away = np.abs(have.astype(np.float64) - want.astype(np.float64))
        scale = float(np.abs(want[np.isfinite(want)]).max(initial=0.0))
        if not np.array_equal(np.isfinite(have), np.isfinite(want)):
            return f"{spec.name}: NaN or infinity"
        if away[np.isfinite(want)].max(initial=0.0) > RELATIVE * max(scale, 1e-3):
            return f"{spec.name} is away by {away.max():.3g} of {scale:.3g}"
    return ""


def _short(found: Mapping[str, Any]) -> str:
    away = found.get("elsewhere") or {}
    wrong = f" WRONG AT {away['wrong'][0]}" if away.get("wrong") else ""
    text = f"{found['status']:8} {found.get('seconds', 0):6.1f} s {found.get('why', '')[:230]}"
    return text.replace("\n", " ") + wrong


if __name__ == "__main__":
    sys.exit(main())
