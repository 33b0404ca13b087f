"""Time the shipped graph against what users run today, in one process, on a minute of speech.

    python scripts/bench_e2e.py [--tiny] [--run-dir runs/sensevoice] [--repeats 5] [--threads 2]

Four comparisons on the same audio, seeded weights and threads:

    model.onnx, raw waveform to tokens   against   funasr.AutoModel with vad_model="silero-vad"
    its VAD part, waveform to segments   against   silero-vad's frame loop and its sequence ONNX

Tokens and segments must be equal, or nothing is timed. The VAD is timed with one thread on every
side, which is what silero-vad sets. Prints a Markdown table and one line of JSON. The run folder
is made with ``export-verify run``; without one, the graph is built here.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import torch  # noqa: E402
from interleaved import interleaved, machine, median  # noqa: E402

from exporter.build import PREFIX, build  # noqa: E402
from exporter.cases.audio import read_waveform  # noqa: E402
from exporter.config import Pipeline, load_pipeline  # noqa: E402
from exporter.execution.onnxruntime import Deployment, FileRun  # noqa: E402
from exporter.graph.index import index_graph  # noqa: E402
from exporter.graph.onnx_file import read_model  # noqa: E402
from exporter.graph.subgraph import Partition  # noqa: E402
from exporter.models.upstream import quiet_upstream  # noqa: E402
from exporter.report.progress import Progress  # noqa: E402
from tests.support.funasr_checkpoint import ids_of_text, write_checkpoint  # noqa: E402

LANGUAGE, TEXT_NORM = "en", "woitn"
VAD_THREADS = 1
Segments = list[list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Something to time, and what its answer must equal."""

    name: str
    work: Callable[[], Any]


def main() -> int:
    options = _options()
    torch.set_num_threads(options.threads)
    pipeline = load_pipeline(
        ROOT / "pipelines" / ("sensevoice_tiny.yaml" if options.tiny else "sensevoice.yaml")
    )
    waveform = read_waveform(options.audio, pipeline.sample_rate_hz)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shipped = _shipped(pipeline, options.run_dir, folder / "run")
        whole = _whole(pipeline, shipped, waveform, folder, options.threads)
        vad = _vad(pipeline, shipped, waveform, folder)
        result: dict[str, Any] = {
            "pipeline": pipeline.name,
            "audio": options.audio.name,
            "audio_seconds": round(len(waveform) / pipeline.sample_rate_hz, 1),
            "machine": machine(options.threads),
        }
        result["end_to_end"] = _time(whole, options.repeats, options.threads)
        result["vad"] = _time(vad, options.repeats, VAD_THREADS)
    print(_markdown(result))
    print(json.dumps(result))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="2 + 1 blocks, for a quick look")
    parser.add_argument("--run-dir", type=Path, help="a finished run's folder")
    parser.add_argument("--audio", type=Path, default=ROOT / "golden" / "audio" / "long.wav")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def _shipped(pipeline: Pipeline, run_dir: Path | None, scratch: Path) -> Path:
    """The file to time: of a finished run of this very graph, or built now."""
    path = (run_dir or ROOT / "runs" / pipeline.name) / "model.onnx"
    if path.is_file():
        found = {item.key: item.value for item in read_model(path).metadata_props}
        if found.get(f"{PREFIX}graph_digest") == pipeline.graph_digest:
            return path
    if run_dir is not None:
        sys.exit(f"{path} is missing or was exported from another pipeline; run it again")
    with Progress() as progress:
        return build(pipeline, scratch, progress, prepare=lambda: None).shipped.path


def _whole(
    pipeline: Pipeline, shipped: Path, waveform: np.ndarray, folder: Path, threads: int
) -> list[Contender]:
    """Waveform to tokens; both sides must say the same."""
    checkpoint = write_checkpoint(
        folder / "checkpoint", seed=pipeline.model.seed, settings=pipeline.model.settings
    )
    session = FileRun(shipped, Deployment(threads=threads))
    upstream = _auto_model(checkpoint, pipeline, threads)
    inputs = {"waveform": waveform, **_prompts(shipped)}

    def ours() -> list[list[int]]:
        found = session.run(inputs)
        rows = zip(found["token_ids"], found["token_lengths"], strict=True)
        return [ids[:count].tolist() for ids, count in rows]

    def theirs() -> str:
        (result,) = upstream.generate(input=waveform, language=LANGUAGE, text_norm=TEXT_NORM)
        return result["text"]

    ours_said, text = ours(), theirs()
    their_said = ids_of_text(text, pipeline.model.settings["vocab_size"])
    count = sum(map(len, ours_said))
    if ours_said != their_said or not count:
        sys.exit(f"tokens differ: {count} here, {sum(map(len, their_said))} of AutoModel")
    print(f"tokens equal: {count} in {len(ours_said)} segments", file=sys.stderr)
    return [
        Contender(name="model.onnx", work=ours),
        Contender(name="FunASR AutoModel + silero-vad", work=theirs),
    ]


def _prompts(shipped: Path) -> dict[str, np.ndarray]:
    metadata = {item.key: item.value for item in read_model(shipped).metadata_props}
    choices = json.loads(metadata[f"{PREFIX}input_choices"])
    wanted = {"language": LANGUAGE, "text_norm": TEXT_NORM}
    return {name: np.array(choices[name][value]) for name, value in wanted.items()}


def _auto_model(checkpoint: Path, pipeline: Pipeline, threads: int) -> Any:
    if pipeline.vad is None:
        sys.exit("this comparison needs a pipeline with a VAD")
    with quiet_upstream():
        from funasr import AutoModel

        return AutoModel(
            model=str(checkpoint),
            vad_model="silero-vad",
            vad_kwargs={"max_single_segment_time": pipeline.vad.max_segment_ms},
            device="cpu",
            ncpu=threads,
            disable_update=True,
            disable_pbar=True,
            log_level="ERROR",
        )


def _vad(pipeline: Pipeline, shipped: Path, waveform: np.ndarray, folder: Path) -> list[Contender]:
    """Waveform to segments in samples; all must find the same ones, to FunASR's millisecond."""
    with quiet_upstream():
        from silero_vad import get_speech_timestamps, load_silero_vad
        from silero_vad.sequence_vad import get_speech_timestamps_sequence

        network, sequence = load_silero_vad(), load_silero_vad(sequence=True)
    part = folder / "vad.onnx"
    onnx.save(vad_part(shipped), part)
    session = FileRun(part, Deployment(threads=VAD_THREADS))
    given = pipeline.vad
    if given is None:
        sys.exit("this comparison needs a pipeline with a VAD")
    settings: dict[str, Any] = {
        "threshold": given.threshold,
        "neg_threshold": given.negative_threshold,
        "sampling_rate": pipeline.sample_rate_hz,
        "min_speech_duration_ms": given.min_speech_ms,
        "min_silence_duration_ms": given.min_silence_ms,
        "speech_pad_ms": given.speech_pad_ms,
    }
    samples = torch.from_numpy(waveform)

    def ours() -> Segments:
        return session.run({"waveform": waveform})["segments"].tolist()

    def loop() -> Segments:
        return _pairs(get_speech_timestamps(samples, network, **settings))

    def blocks() -> Segments:
        return _pairs(get_speech_timestamps_sequence(waveform, sequence, **settings))

    per_ms = pipeline.sample_rate_hz // 1000
    expected, found = loop(), ours()
    floored = [[edge // per_ms * per_ms for edge in pair] for pair in expected]
    if found != floored or blocks() != expected or not found:
        sys.exit(f"segments differ: {found} here, {expected} of silero-vad")
    print(f"segments equal: {len(found)}", file=sys.stderr)
    return [
        Contender(name="VAD part of model.onnx", work=ours),
        Contender(name="silero-vad frame loop", work=loop),
        Contender(name="silero-vad sequence ONNX", work=blocks),
    ]


def _pairs(segments: list[dict[str, int]]) -> Segments:
    return [[segment["start"], segment["end"]] for segment in segments]


def vad_part(shipped: Path) -> onnx.ModelProto:
    """The nodes of a file that compute ``segments``, as a model of their own."""
    graph = index_graph(read_model(shipped), shipped.parent)
    nodes = Partition(graph).take(["segments"])
    names = dict.fromkeys(name for i in nodes for name in graph.reads[i])
    weights = []
    for name in names:
        if name in graph.initializers:
            tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(graph.array(name)), name)
            weights.append(tensor)
    ends = graph.model.graph
    return onnx.helper.make_model(
        onnx.helper.make_graph(
            [graph.nodes[i] for i in nodes],
            "vad",
            [value for value in ends.input if value.name == "waveform"],
            [value for value in ends.output if value.name == "segments"],
            weights,
        ),
        opset_imports=list(graph.model.opset_import),
        ir_version=graph.model.ir_version,
    )


def _time(contenders: list[Contender], repeats: int, threads: int) -> list[dict[str, Any]]:
    """Medians; ``times_as_long`` is over the first one."""
    # silero-vad and FunASR set torch to one thread.
    with quiet_upstream():
        times = interleaved(
            {c.name: c.work for c in contenders},
            repeats,
            prepare=lambda: torch.set_num_threads(threads),
        )
    base = median(times[contenders[0].name])
    return [
        {
            "name": c.name,
            "threads": threads,
            "median_s": round(median(times[c.name]), 5),
            "times_as_long": round(median(times[c.name]) / base, 2),
            "all_s": [round(t, 5) for t in times[c.name]],
        }
        for c in contenders
    ]


def _markdown(result: dict[str, Any]) -> str:
    about = result["machine"]
    lines = [
        f"{result['audio_seconds']:g} s of speech, {result['pipeline']}, {about['cores']}"
        f" cores, {about['processor']}; tokens and segments equal.",
        "",
        "| | median, s | times as long |",
        "|---|---:|---:|",
    ]
    lines += [
        f"| {row['name']}, {row['threads']} thread(s) | {row['median_s']:.4g} |"
        f" {row['times_as_long']:.4g} |"
        for row in (*result["end_to_end"], *result["vad"])
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
