"""Healthy exports on which nothing may be blamed: seeds, threads, optimisation levels, all cases.

    python scripts/false_alarms.py [--pipeline pipelines/sensevoice_tiny.yaml] [--seeds 0 1 2]

For every weight seed the pipeline is exported once, with `export-verify run --all-cases` and 2
threads, and the file is judged again with 1 thread; both at every optimisation level of
onnxruntime. Contracts are left to the pipelines themselves. Prints one line of Markdown per run and
exits 1 when one of them does not pass.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from exporter.report.schema import Report  # noqa: E402

CONTRACTS = "causality padding mutation dtype determinism shapes silence".split()
LEVELS = ["disable", "basic", "extended", "all"]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--pipeline", type=Path, default=ROOT / "pipelines" / "sensevoice_tiny.yaml"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    options = parser.parse_args()
    print("| weights | threads | cases | taps compared | outputs judged | culprits | verdict |")
    print("|---|---|---|---|---|---|---|", flush=True)
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            variant = Path(folder) / f"seed_{seed}.yaml"
            variant.write_text(yaml.safe_dump(_variant(options.pipeline, seed)))
            output = Path(folder) / "run"
            for number, threads in enumerate(options.threads):
                command = (
                    ["run"] if number == 0 else ["verify", "--onnx", str(output / "model.onnx")]
                )
                command[1:1] = [str(variant)]
                report = _judged(command, output, threads, again=number > 0)
                wrong += report.verdict != "pass"
                print(_row(seed, threads, report), flush=True)
    return 1 if wrong else 0


def _variant(pipeline: Path, seed: int) -> dict:
    """The pipeline with other weights, at every level, without contracts."""
    return {
        "extends": str(pipeline.resolve()),
        "name": "false_alarms",
        "model": {"seed": seed},
        "deploy": {"levels": LEVELS},
        "contracts": dict.fromkeys(
            "causality padding mutation dtype determinism shapes silence".split(), False
        ),
    }


def _judged(command: list[str], output: Path, threads: int, *, again: bool) -> Report:
    common = ["--all-cases", "--threads", str(threads), "--output-dir", str(output), "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "exporter", *command, *common],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    path = (output / "verify" if again else output) / "report.json"
    if done.returncode not in (0, 1) or not path.is_file():
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr or done.stdout}")
    report = Report.model_validate_json(path.read_text())
    path.unlink()
    return report


def _row(seed: int, threads: int, report: Report) -> str:
    layers = [link for link in report.links if link.name.startswith("layers")]
    compared = sum(link.compared or 0 for link in layers)
    culprits = ", ".join(culprit.layer for culprit in report.culprits) or "none"
    cells = [
        f"seed {seed}",
        threads,
        len(report.cases),
        f"{compared:,}",
        len(report.outputs),
        culprits,
        report.verdict,
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    sys.exit(main())
