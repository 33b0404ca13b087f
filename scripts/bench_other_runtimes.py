"""Time the shipped graph against funasr-onnx and sherpa-onnx on the same seeded weights.

    python scripts/bench_other_runtimes.py [--tiny] [--run-dir runs/sensevoice] [--env FOLDER]
        [--prepared FOLDER] [--seconds 5 60] [--threads 1 2] [--repeats 5]
        [--contenders runner file funasr_onnx sherpa_onnx]

funasr-onnx wants the package onnxruntime, which excludes the onnxruntime-gpu that this repository
is installed with. So all contenders, ours as well, run in an environment that is made here on first
use (``--env``, else a temporary one): the packages of ``PACKAGES``, nothing of ``.venv``.

    runner, file   model.onnx, waveform to tokens, its VAD included
    funasr_onnx    funasr_onnx.SenseVoiceSmall on FunASR's own export of the same checkpoint
    sherpa_onnx    sherpa_onnx.OfflineRecognizer.from_sense_voice on that file and its metadata

The last two have no VAD of the same weights: they are given the segments that model.onnx has found,
one after the other, which is less work. Tokens are compared with those of model.onnx, and the table
says where they differ. FunASR's export takes minutes at full size; ``--prepared`` keeps it. Prints
a Markdown table and one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench_e2e import base_settings, find_shipped, save_audio  # noqa: E402
from contenders import Worker, markdown, rounds, rows, started  # noqa: E402
from interleaved import machine  # noqa: E402
from other_formats import write_bpe_model, write_sherpa_files  # noqa: E402

from exporter.cases.audio import read_waveform  # noqa: E402
from exporter.config import Pipeline, load_pipeline  # noqa: E402
from tests.support.funasr_checkpoint import token_table, write_checkpoint  # noqa: E402
from tests.support.funasr_export import edits, funasr_onnx  # noqa: E402

PACKAGES = ("funasr-onnx==0.4.3", "sherpa-onnx==2.0.1", "onnx==1.23.2")
TITLES = {
    "runner": "`exporter.runtime` on `model.onnx`",
    "file": "`model.onnx` as it is",
    "funasr_onnx": "funasr-onnx, given the segments",
    "sherpa_onnx": "sherpa-onnx, given the segments",
}


def main() -> int:
    options = _options()
    pipeline = load_pipeline(
        ROOT / "pipelines" / ("sensevoice_tiny.yaml" if options.tiny else "sensevoice.yaml")
    )
    minute = read_waveform(ROOT / "golden" / "audio" / "long.wav", pipeline.sample_rate_hz)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = make_environment(options.env or folder / "env")
        shipped = find_shipped(pipeline, options.run_dir, folder / "run")
        settings = {
            **base_settings(pipeline, shipped),
            **prepare(pipeline, options.prepared or folder / "prepared"),
        }
        for seconds in options.seconds:
            audio = save_audio(minute, seconds, pipeline.sample_rate_hz, folder)
            for threads in options.threads:
                settings["threads"] = threads
                settings["segments"] = _segments(settings, folder, audio, python)
                names = [name for name in TITLES if name in options.contenders]
                with started(names, settings, folder, python) as workers:
                    rounds(workers, audio, options.repeats)
                    measured = rows(workers, seconds, threads)
                    for row, worker in zip(measured, workers, strict=True):
                        row["tokens"] = _compared(workers[0], worker)
                        print(json.dumps(row), file=sys.stderr, flush=True)
                found += measured
        result = {
            "pipeline": pipeline.name,
            "repeats": options.repeats,
            "machine": {**machine(max(options.threads)), "versions": _versions(python)},
            "rows": found,
        }
    said = {f"{TITLES[row['name']]}: {row['tokens']}": None for row in found}
    print(markdown(found, TITLES), "", *(f"- {line}" for line in said), sep="\n")
    print(json.dumps(result))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="2 + 1 blocks, for a quick look")
    parser.add_argument("--run-dir", type=Path, help="a finished run's folder")
    parser.add_argument("--env", type=Path, help="folder of the environment, made if missing")
    parser.add_argument("--prepared", type=Path, help="folder of FunASR's export, made if missing")
    parser.add_argument("--seconds", type=float, nargs="+", default=[60.0])
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    parser.add_argument("--repeats", type=int, default=5)
    names = list(TITLES)
    parser.add_argument("--contenders", nargs="+", choices=names, default=names, metavar="NAME")
    return parser.parse_args()


def make_environment(folder: Path) -> str:
    """The python of an environment with ``PACKAGES``, which is made if it is not there."""
    python, done = folder / "bin" / "python", folder / "installed.txt"
    if not done.exists() or done.read_text(encoding="utf-8").split() != list(PACKAGES):
        venv.create(folder, with_pip=True, clear=not any(folder.glob("*")))
        command = [str(python), "-m", "pip", "install", "--quiet", *PACKAGES]
        subprocess.run(command, check=True, stdout=sys.stderr)
        done.write_text("\n".join(PACKAGES), encoding="utf-8")
    return str(python)


def prepare(pipeline: Pipeline, folder: Path) -> dict[str, Any]:
    """The pipeline's seeded weights as the other packages want them; made if not there."""
    sherpa, done = folder / "sherpa", folder / "prepared-from.txt"
    if not done.exists():
        write_checkpoint(folder, seed=pipeline.model.seed, settings=pipeline.model.settings)
        exported = funasr_onnx(folder)
        tokens = token_table(pipeline.model.settings["vocab_size"])
        write_bpe_model(folder, tokens)
        write_sherpa_files(exported, folder / "am.mvn", tokens)
        done.write_text(pipeline.graph_digest, encoding="utf-8")
    if done.read_text(encoding="utf-8") != pipeline.graph_digest:
        sys.exit(f"{folder} was prepared from another pipeline; give another folder")
    return {
        "checkpoint": str(folder.resolve()),
        "sherpa_model": str((sherpa / "model.onnx").resolve()),
        "sherpa_tokens": str((sherpa / "tokens.txt").resolve()),
    }


def _segments(settings: dict[str, Any], folder: Path, audio: Path, python: str) -> list[list[int]]:
    with started(["vad"], settings, folder, python) as (worker,):
        worker.run(audio, measured=False)
        return worker.found["segments"]


def _compared(ours: Worker, worker: Worker) -> str:
    """How the tokens of a contender differ from ours."""
    expected, said = ours.found["tokens"], worker.found["tokens"]
    # sherpa-onnx takes the first four tokens for those of the prompt and leaves them out.
    skipped = 4 if worker.name == "sherpa_onnx" else 0
    expected = [row[skipped:] for row in expected]
    count = sum(map(len, expected))
    if said == expected:
        left_out = ", but for the first 4 of each segment, which it leaves out" if skipped else ""
        return f"all {count} tokens equal{left_out}"
    wrong = sum(edits(left, right) for left, right in zip(expected, said, strict=True))
    return f"{wrong} edits in {count} tokens"


def _versions(python: str) -> dict[str, str]:
    code = (
        "import json\nfrom importlib.metadata import distributions\n"
        "print(json.dumps({d.name: d.version for d in distributions()}))"
    )
    done = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    names = {"funasr_onnx", "funasr-onnx", "sherpa-onnx", "sherpa_onnx", "onnxruntime", "numpy"}
    return {name: version for name, version in json.loads(done.stdout).items() if name in names}


if __name__ == "__main__":
    sys.exit(main())
