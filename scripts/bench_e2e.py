"""Time the shipped graph against what users run today, on golden speech of several lengths.

    python scripts/bench_e2e.py [--tiny] [--run-dir runs/sensevoice] [--seconds 5 60 600]
                                [--threads 1 2] [--repeats 5] [--contenders runner automodel]

Raw waveform to tokens, the same seeded weights, audio and threads:

    runner      model.onnx by exporter.runtime: its VAD once, then batches of segments
    file        model.onnx as it is: all segments as one batch
    automodel   funasr.AutoModel with vad_model="silero-vad"

Both with ``_cuda`` behind their name (only when they are asked for): on a CUDA device.

Waveform to segments, one thread on every side, which is what silero-vad sets:

    vad               the VAD part of model.onnx
    silero_loop       silero-vad's frame loop
    silero_sequence   silero-vad's own sequence ONNX

Every contender is a process of its own (``contender.py``), told to run in interleaved rounds;
tokens and segments must be equal, or nothing is reported. The golden minute is repeated for longer
audio and cut for shorter. Prints a Markdown table and one line of JSON. The run folder is made
with ``export-verify run``; without one, the graph is built here.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from contenders import Worker, markdown, rounds, rows, started  # noqa: E402
from interleaved import machine  # noqa: E402

from exporter.build.build import build  # noqa: E402
from exporter.build.metadata import PREFIX  # noqa: E402
from exporter.cases.audio import read_waveform  # noqa: E402
from exporter.config import Pipeline, load_pipeline  # noqa: E402
from exporter.graph.contents import metadata_entries  # noqa: E402
from exporter.report.progress import Progress  # noqa: E402
from tests.support.funasr_checkpoint import write_checkpoint  # noqa: E402

LANGUAGE, TEXT_NORM = "en", "woitn"
VAD_THREADS = 1
END_TO_END = {
    "runner": "`exporter.runtime` on `model.onnx`",
    "file": "`model.onnx` as it is",
    "automodel": "FunASR's AutoModel with silero-vad",
    "runner_cuda": "`exporter.runtime`, segments on CUDA",
    "automodel_cuda": "FunASR's AutoModel on CUDA",
}
ON_A_DEVICE = frozenset({"runner_cuda", "automodel_cuda"})
VAD = {
    "vad": "VAD part of `model.onnx`",
    "silero_loop": "silero-vad's frame loop",
    "silero_sequence": "silero-vad's own sequence ONNX",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio:
    """What is recognised, and a part of at most a minute of it to warm up with."""

    seconds: float
    path: Path
    warm_up: Path


def main() -> int:
    options = _options()
    pipeline = load_pipeline(
        ROOT / "pipelines" / ("sensevoice_tiny.yaml" if options.tiny else "sensevoice.yaml")
    )
    minute = read_waveform(options.audio, pipeline.sample_rate_hz)
    end_to_end, vad = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shipped = find_shipped(pipeline, options.run_dir, folder / "run")
        settings = base_settings(pipeline, shipped)
        if {"automodel", "automodel_cuda"} & set(options.contenders):
            settings["checkpoint"] = str(
                write_checkpoint(
                    folder / "checkpoint",
                    seed=pipeline.model.seed,
                    settings=pipeline.model.settings,
                )
            )
        for seconds in options.seconds:
            rate = pipeline.sample_rate_hz
            audio = Audio(
                seconds=seconds,
                path=save_audio(minute, seconds, rate, folder),
                warm_up=save_audio(minute, min(seconds, 60.0), rate, folder),
            )
            names = [name for name in END_TO_END if name in options.contenders]
            for threads in options.threads if names else ():
                settings["threads"] = threads
                end_to_end += _measure(names, settings, folder, audio, options.repeats)
            names = [name for name in VAD if name in options.contenders]
            if names:
                settings["threads"] = VAD_THREADS
                vad += _measure(names, settings, folder, audio, options.repeats)
    result = {
        "pipeline": pipeline.name,
        "audio": options.audio.name,
        "repeats": options.repeats,
        "machine": machine(max(options.threads)),
        "end_to_end": end_to_end,
        "vad": vad,
    }
    about = result["machine"]
    print(f"{pipeline.name}, {about['cores']} cores, {about['processor']}; all answers equal.\n")
    print("\n\n".join(markdown(found, END_TO_END | VAD) for found in (end_to_end, vad) if found))
    print(json.dumps(result))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="2 + 1 blocks, for a quick look")
    parser.add_argument("--run-dir", type=Path, help="a finished run's folder")
    parser.add_argument("--audio", type=Path, default=ROOT / "golden" / "audio" / "long.wav")
    parser.add_argument("--seconds", type=float, nargs="+", default=[60.0])
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    parser.add_argument("--repeats", type=int, default=5)
    names = [*END_TO_END, *VAD]
    here = [name for name in names if name not in ON_A_DEVICE]
    parser.add_argument("--contenders", nargs="+", choices=names, default=here, metavar="NAME")
    return parser.parse_args()


def find_shipped(pipeline: Pipeline, run_dir: Path | None, scratch: Path) -> Path:
    """The file to time: of a finished run of this very graph, or built now."""
    path = (run_dir or ROOT / "runs" / pipeline.name) / "model.onnx"
    if path.is_file() and _metadata(path).get(f"{PREFIX}graph_digest") == pipeline.graph_digest:
        return path
    if run_dir is not None:
        sys.exit(f"{path} is missing or was exported from another pipeline; run it again")
    with Progress() as progress:
        return build(pipeline, scratch, progress, prepare=lambda: None).shipped.path


def base_settings(pipeline: Pipeline, shipped: Path) -> dict[str, Any]:
    """What contenders read, but for the threads."""
    given = pipeline.vad
    if given is None:
        sys.exit("this comparison needs a pipeline with a VAD")
    choices = json.loads(_metadata(shipped)[f"{PREFIX}input_choices"])
    wanted = {"language": LANGUAGE, "text_norm": TEXT_NORM}
    return {
        "model": str(shipped.resolve()),
        "sample_rate_hz": pipeline.sample_rate_hz,
        "prompts": {name: choices[name][value] for name, value in wanted.items()},
        **wanted,
        "vocab_size": pipeline.model.settings["vocab_size"],
        "max_segment_ms": given.max_segment_ms,
        "silero": {
            "threshold": given.threshold,
            "neg_threshold": given.negative_threshold,
            "sampling_rate": pipeline.sample_rate_hz,
            "min_speech_duration_ms": given.min_speech_ms,
            "min_silence_duration_ms": given.min_silence_ms,
            "speech_pad_ms": given.speech_pad_ms,
        },
    }


def _metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in metadata_entries(path)}


def save_audio(minute: np.ndarray, seconds: float, rate: int, folder: Path) -> Path:
    """The first ``seconds`` of the minute, repeated as often as it takes."""
    wanted = int(seconds * rate)
    path = folder / f"{seconds:g}s.npy"
    np.save(path, np.tile(minute, -(-wanted // len(minute)))[:wanted])
    return path


def _measure(
    names: list[str],
    settings: dict[str, Any],
    folder: Path,
    audio: Audio,
    repeats: int,
) -> list[dict[str, Any]]:
    with started(names, settings, folder) as workers:
        rounds(workers, audio.path, repeats, audio.warm_up)
        _check_equal(workers)
        found = rows(workers, audio.seconds, settings["threads"])
    for row in found:
        print(json.dumps(row), file=sys.stderr, flush=True)
    return found


def _check_equal(workers: list[Worker]) -> None:
    """All must say the same, and something."""
    kind = "tokens" if "tokens" in workers[0].found else "segments"
    expected = workers[0].found[kind]
    for worker in workers:
        if worker.found[kind] != expected or not expected:
            sys.exit(
                f"{kind} differ: {len(expected)} rows of {workers[0].name},"
                f" {len(worker.found[kind])} of {worker.name}"
            )
    count = sum(map(len, expected)) if kind == "tokens" else len(expected)
    print(f"{kind} equal: {count} in {len(expected)} rows", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
