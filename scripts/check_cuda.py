"""Check on a CUDA machine what only such a machine can show; prints one table, exits 0 or 1.

    python scripts/check_cuda.py [PIPELINE ...] [--jobs 4] [--output-dir runs/cuda] [--no-tf32]
                                 [--faults] [--libraries]

For every pipeline (the tiny ones, when none is named), each run in a process of its own:

    float32   `run --provider cuda`: must pass
    tf32      the same with `deploy: [{provider: cuda, tf32: true}]`: whatever the verdict, it must
              name TF32 or the device and no stage of the export, and the links in front must pass

--faults makes the catalogue of faults with the layers on the device; --libraries takes the CUDA
libraries away and wants exit 2 with a remedy. Without a CUDA device the script exits 2.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from exporter.core.errors import UserInputError  # noqa: E402
from exporter.execution.providers import check_provider  # noqa: E402

STAGES = ("capture", "export", "simplify")
_LONGEST_S = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    what: str
    right: bool
    verdict: str
    seconds: float
    said: str


def main() -> int:
    options = _options()
    try:
        check_provider("cuda")
    except UserInputError as error:
        print(f"check_cuda: {error}", file=sys.stderr)
        return 2
    pipelines = options.pipelines or sorted((ROOT / "pipelines").glob("*_tiny.yaml"))
    options.output_dir.mkdir(parents=True, exist_ok=True)
    jobs = [(path, tf32) for path in pipelines for tf32 in (False, True)[: 1 + options.tf32]]
    rows: list[Row] = []
    print("| what | right | verdict | s | said |\n|---|:-:|---|--:|---|")
    with ThreadPoolExecutor(options.jobs) as pool:
        rows += map(_shown, pool.map(lambda job: _pipeline(*job, options), jobs))
    if options.libraries:
        rows.append(_shown(_without_libraries(options)))
    if options.faults:
        rows.append(_shown(_faults(options)))
    wrong = [row.what for row in rows if not row.right]
    print(
        f"\n{len(rows) - len(wrong)} of {len(rows)} as they must be"
        + f"; not: {wrong}" * bool(wrong)
    )
    return 1 if wrong else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pipelines", nargs="*", type=Path)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--output-dir", type=Path, default=ROOT / "runs" / "cuda")
    parser.add_argument("--no-tf32", dest="tf32", action="store_false")
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--libraries", action="store_true")
    return parser.parse_args()


def _shown(row: Row) -> Row:
    mark = "yes" if row.right else "**no**"
    said = row.said.replace("|", "/").replace("\n", " ")[:300]
    print(f"| {row.what} | {mark} | {row.verdict} | {row.seconds:.0f} | {said} |", flush=True)
    return row


def _pipeline(path: Path, tf32: bool, options: argparse.Namespace) -> Row:
    name = f"{path.stem}{'_tf32' if tf32 else ''}"
    folder = options.output_dir / name
    with tempfile.TemporaryDirectory() as scratch:
        given = path
        if tf32:
            given = Path(scratch) / f"{name}.yaml"
            deploy = "deploy: [{provider: cuda, tf32: true}]"
            given.write_text(f"extends: {path.resolve()}\n{deploy}\n", encoding="utf-8")
        code, seconds, text = _exporter(
            *("run", str(given), "--provider", "cuda", "--no-cache", "--quiet"),
            *("--threads", str(options.threads), "--output-dir", str(folder)),
        )
    found = folder / "report.json"
    if code not in (0, 1) or not found.is_file():
        return Row(
            what=name, right=False, verdict=f"exit {code}", seconds=seconds, said=text[-300:]
        )
    report = json.loads(found.read_text(encoding="utf-8"))
    right = _rightly_blamed(report) if tf32 else report["verdict"] == "pass"
    said = report["headline"]
    return Row(what=name, right=right, verdict=report["verdict"], seconds=seconds, said=said)


def _rightly_blamed(report: dict[str, Any]) -> bool:
    """No stage of the export is named, and the links in front of the device pass."""
    devices = {held["label"] for held in report["deployments"]}
    front = [link for link in report["links"] if link["actual"] not in devices]
    named = [culprit["stage"] for culprit in report["culprits"] if culprit["stage"] in STAGES]
    headline = report["headline"]
    blamed = any(headline.startswith((f"{stage}:", f"layers: {stage}")) for stage in STAGES)
    clean = all(link["verdict"] in ("pass", "empty as declared") for link in front)
    return bool(devices) and clean and not named and not blamed


def _exporter(*arguments: str, **environment: str) -> tuple[int, float, str]:
    began = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "exporter", *arguments],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=_LONGEST_S,
        )
    except subprocess.TimeoutExpired:
        return 124, time.perf_counter() - began, f"not finished after {_LONGEST_S} s"
    return done.returncode, time.perf_counter() - began, f"{done.stdout}{done.stderr}".strip()


def _without_libraries(options: argparse.Namespace) -> Row:
    """A golden check needs no torch: without a library path nothing brings CUDA's libraries."""
    code, seconds, text = _exporter(
        *("golden", "check", "pipelines/silero_vad_tiny.yaml", "--provider", "cuda"),
        *("--onnx", str(options.output_dir / "silero_vad_tiny" / "model.onnx")),
        LD_LIBRARY_PATH="",
    )
    right = code == 2 and "does not load" in text and "onnxruntime-gpu[cuda,cudnn]" in text
    verdict = f"exit {code}"
    return Row(what="no libraries", right=right, verdict=verdict, seconds=seconds, said=text[-300:])


def _faults(options: argparse.Namespace) -> Row:
    began = time.perf_counter()
    script = [sys.executable, "scripts/fault_table.py", "--provider", "cuda"]
    table = options.output_dir / "faults.md"
    done = subprocess.run(
        [*script, "--output", str(table)], cwd=ROOT, capture_output=True, text=True
    )
    said = (done.stdout + done.stderr).strip()[-300:]
    return Row(
        what="faults",
        right=done.returncode == 0,
        verdict=f"exit {done.returncode}",
        seconds=time.perf_counter() - began,
        said=said,
    )


if __name__ == "__main__":
    sys.exit(main())
