#!/usr/bin/env python3
"""Try what pyproject.toml allows at its lower bounds: everything that needs no PyTorch.

    scripts/lowest_versions.py RUN_FOLDER [--golden-dir golden]

RUN_FOLDER is that of a finished run of a pipeline with a golden (pipelines/sensevoice_tiny.yaml).
An environment of its own gets every package of LIGHT in the lowest version that is allowed, and
commands run there that need no PyTorch: what they import and call must be there in that version.
torch, onnxscript, onnx-ir, onnxsim and the upstream packages of single models are not tried.

Prints a Markdown table; exits 1 when a command does not end as it does with the newest versions.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from exporter.cache.environments import environment, last_line  # noqa: E402

EXTRAS = ("cpu", "audio", "report", "text", "monitor")
FIRST = {"safetensors": "0.6.1"}
"""Where the release that a bound names was never published: the first that was."""
HEAVY = frozenset({"torch", "onnxscript", "onnx-ir", "onnxsim"})
"""Of the core; nothing below imports them."""


def lowest() -> list[str]:
    """Every package of the core and of ``EXTRAS``, held to its lower bound."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for name in EXTRAS for line in extras[name])]
    found = {}
    for line in wanted:
        asked = Requirement(line)
        if asked.name in HEAVY or asked.name == "export-verify":
            continue
        (bound,) = [held.version for held in asked.specifier if held.operator in (">=", "==")]
        found[asked.name] = f"{asked.name}=={FIRST.get(asked.name, bound)}"
    return sorted(found.values())


def commands(run_folder: Path, golden_dir: Path, work: Path) -> dict[str, tuple[list[str], int]]:
    """Words of a command by what it is for, and the exit code that is right."""
    report = json.loads((run_folder / "report.json").read_text(encoding="utf-8"))
    name, model = report["pipeline"]["name"], str(run_folder / "model.onnx")
    pipeline = str(ROOT / "pipelines" / f"{name}.yaml")
    golden = ["--golden-dir", str(golden_dir), "--output-dir", str(work / "checked")]
    log = work / "log.jsonl"
    log.write_text('{"time": 1, "kind": "replay", "state": "same", "strain": 0.5}\n')
    label = {"stratum": "random", "hypothesis": "a b", "reference": "a c"}
    (work / "labels.jsonl").write_text(json.dumps(label) + "\n")
    page = ["--output", str(work / "page.html"), "--labels", str(work / "labels.jsonl")]
    return {
        "help": (["--help"], 0),
        "list": (["list"], 0),
        "schema": (["schema"], 0),
        "lint": (["lint", pipeline], 0),
        "a YAML that is wrong": (["lint", str(ROOT / "pyproject.toml")], 2),
        "inspect": (["inspect", model], 0),
        "report": (["report", str(work / "run")], 0),
        "compare-reports": (["compare-reports", str(run_folder), str(work / "run")], 0),
        "golden check": (["golden", "check", pipeline, "--onnx", model, *golden], 0),
        "monitor rules": (["monitor", "rules"], 0),
        "monitor report": (["monitor", "report", str(log), *page], 0),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run_folder", type=lambda p: Path(p).resolve())
    parser.add_argument("--golden-dir", type=lambda p: Path(p).resolve(), default=ROOT / "golden")
    options = parser.parse_args()
    wanted = lowest()
    print(", ".join(wanted))
    failed = 0
    with tempfile.TemporaryDirectory(prefix="lowest-") as scratch:
        work = Path(scratch)
        (work / "run").mkdir()
        for path in options.run_folder.glob("report*"):
            (work / "run" / path.name).write_bytes(path.read_bytes())
        with environment(work / "environments", wanted) as python:
            print("| command | ends with | as it should |\n|---|--:|---|")
            words = commands(options.run_folder, options.golden_dir, work)
            for name, (given, right) in words.items():
                done = subprocess.run(
                    [str(python), "-m", "exporter", *given],
                    cwd=ROOT,
                    capture_output=True,
                    text=True,
                )
                good = done.returncode == right and "Traceback" not in done.stderr
                failed += not good
                why = "yes" if good else f"no: {last_line(done.stderr)}"
                print(f"| {name} | {done.returncode} | {why} |", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
