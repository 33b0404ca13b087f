"""One thing to be timed, in a process of its own; started by ``contenders.py``, not by hand.

    python scripts/contender.py NAME SETTINGS.json

Loads the contender, says so, and then runs it once per line of its input, which is the path of a
waveform (``.npy``, [num_samples] float32). Every answer is one line of JSON: ``seconds``, what it
found (``tokens`` or ``segments``), and ``peak_mb``, the most memory that the process has held.

Peak memory is a property of a process, and packages that exclude each other (onnxruntime and
onnxruntime-gpu) can be timed side by side only so. Only what a contender needs is imported.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

Settings = dict[str, Any]
Work = Callable[[np.ndarray], dict[str, Any]]


def whole_file(settings: Settings) -> Work:
    """``model.onnx`` as anybody would run it."""
    from exporter.execution.deployment import Deployment
    from exporter.execution.onnx_runs import FileRun

    run = FileRun(Path(settings["model"]), Deployment(threads=settings["threads"]))
    prompts = {name: np.array(value) for name, value in settings["prompts"].items()}
    return lambda waveform: _tokens(run.run({"waveform": waveform, **prompts}))


def runner(settings: Settings) -> Work:
    """``model.onnx`` by ``exporter.runtime``."""
    from exporter.runtime import SpeechRunner

    run = SpeechRunner(settings["model"], threads=settings["threads"])
    return lambda waveform: _tokens(run.run(waveform, **settings["prompts"]))


def runner_cuda(settings: Settings) -> Work:
    """``model.onnx`` by ``exporter.runtime``, its segments on a CUDA device."""
    from exporter.runtime import SpeechRunner

    run = SpeechRunner(settings["model"], threads=settings["threads"], provider="cuda")
    return lambda waveform: _tokens(run.run(waveform, **settings["prompts"]))


def automodel_cuda(settings: Settings) -> Work:
    """FunASR's AutoModel with silero-vad on the same weights, on a CUDA device."""
    return automodel({**settings, "device": "cuda"})


def automodel(settings: Settings) -> Work:
    """FunASR's AutoModel with silero-vad on the same weights."""
    import torch

    from exporter.models.upstream import quiet_upstream
    from tests.support.funasr_checkpoint import ids_of_text

    with quiet_upstream():
        from funasr import AutoModel

        model = AutoModel(
            model=settings["checkpoint"],
            vad_model="silero-vad",
            vad_kwargs={"max_single_segment_time": settings["max_segment_ms"]},
            device=settings.get("device", "cpu"),
            ncpu=settings["threads"],
            disable_update=True,
            disable_pbar=True,
            log_level="ERROR",
        )

    def run(waveform: np.ndarray) -> dict[str, Any]:
        # silero-vad and FunASR set torch to one thread.
        torch.set_num_threads(settings["threads"])
        with quiet_upstream():
            (result,) = model.generate(
                input=waveform, language=settings["language"], text_norm=settings["text_norm"]
            )
        return {"tokens": ids_of_text(result["text"], settings["vocab_size"])}

    return run


def vad_part(settings: Settings) -> Work:
    """The VAD of ``model.onnx``, waveform to segments."""
    from exporter.execution.deployment import Deployment
    from exporter.execution.onnx_runs import PartRun
    from exporter.graph.index import index_graph
    from exporter.graph.onnx_file import read_in_place
    from exporter.graph.segment_split import split_at_segments

    path = Path(settings["model"])
    front = split_at_segments(index_graph(read_in_place(path), path.parent), str(path)).front
    run = PartRun(front, path.parent, Deployment(threads=settings["threads"]))
    return lambda waveform: {"segments": run.run({"waveform": waveform})["segments"].tolist()}


def silero_loop(settings: Settings) -> Work:
    """silero-vad's frame loop on its TorchScript file."""
    import torch
    from silero_vad import get_speech_timestamps, load_silero_vad

    network = load_silero_vad()

    def run(waveform: np.ndarray) -> dict[str, Any]:
        torch.set_num_threads(settings["threads"])
        found = get_speech_timestamps(torch.from_numpy(waveform), network, **settings["silero"])
        return {"segments": _floored(found, settings)}

    return run


def silero_sequence(settings: Settings) -> Work:
    """silero-vad's ONNX file for whole sequences; it is run with one thread."""
    from silero_vad import load_silero_vad
    from silero_vad.sequence_vad import get_speech_timestamps_sequence

    network = load_silero_vad(sequence=True)

    def run(waveform: np.ndarray) -> dict[str, Any]:
        found = get_speech_timestamps_sequence(waveform, network, **settings["silero"])
        return {"segments": _floored(found, settings)}

    return run


def funasr_onnx(settings: Settings) -> Work:
    """funasr-onnx on the file that FunASR exports, one given segment after the other."""
    from funasr_onnx import SenseVoiceSmall
    from other_formats import ids_of_letters

    model = SenseVoiceSmall(settings["checkpoint"], intra_op_num_threads=settings["threads"])
    prompts = {"language": settings["language"], "textnorm": settings["text_norm"]}

    def run(waveform: np.ndarray) -> dict[str, Any]:
        said = [model(piece, **prompts)[0] for piece in _pieces(waveform, settings)]
        return {"tokens": [ids_of_letters(text, settings["vocab_size"]) for text in said]}

    return run


def sherpa_onnx(settings: Settings) -> Work:
    """sherpa-onnx on the same file with its metadata, all given segments at once."""
    import sherpa_onnx as sherpa
    from other_formats import ids_of_letters

    recognizer = sherpa.OfflineRecognizer.from_sense_voice(
        model=settings["sherpa_model"],
        tokens=settings["sherpa_tokens"],
        num_threads=settings["threads"],
        language=settings["language"],
        use_itn=False,
    )

    def run(waveform: np.ndarray) -> dict[str, Any]:
        said = []
        for piece in _pieces(waveform, settings):
            stream = recognizer.create_stream()
            stream.accept_waveform(settings["sample_rate_hz"], piece)
            recognizer.decode_stream(stream)
            said.append("".join(stream.result.tokens))
        return {"tokens": [ids_of_letters(text, settings["vocab_size"]) for text in said]}

    return run


CONTENDERS: dict[str, Callable[[Settings], Work]] = {
    "runner": runner,
    "runner_cuda": runner_cuda,
    "file": whole_file,
    "automodel": automodel,
    "automodel_cuda": automodel_cuda,
    "vad": vad_part,
    "silero_loop": silero_loop,
    "silero_sequence": silero_sequence,
    "funasr_onnx": funasr_onnx,
    "sherpa_onnx": sherpa_onnx,
}


def _tokens(found: dict[str, np.ndarray]) -> dict[str, Any]:
    rows = zip(found["token_ids"], found["token_lengths"], strict=True)
    return {
        "tokens": [ids[:count].tolist() for ids, count in rows],
        "segments": found["segments"].tolist(),
    }


def _floored(segments: list[dict[str, int]], settings: Settings) -> list[list[int]]:
    """To the millisecond below, as FunASR's adapter does it and so does the graph."""
    per_ms = settings["sample_rate_hz"] // 1000
    return [[s[edge] // per_ms * per_ms for edge in ("start", "end")] for s in segments]


def _pieces(waveform: np.ndarray, settings: Settings) -> list[np.ndarray]:
    return [waveform[start:end] for start, end in settings["segments"]]


def _peak_mb() -> float:
    """Most memory resident at once. ``ru_maxrss`` counts what the parent held before exec, too."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return round(int(line.split()[1]) / 1000, 1)
    except (OSError, ValueError):
        unit = 1e6 if sys.platform == "darwin" else 1e3
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def main() -> int:
    name, path = sys.argv[1:]
    # What packages print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(**answer: Any) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    started = time.perf_counter()
    work = CONTENDERS[name](json.loads(Path(path).read_text(encoding="utf-8")))
    say(loaded_s=round(time.perf_counter() - started, 2), peak_mb=_peak_mb())
    for line in sys.stdin:
        waveform = np.load(line.strip())
        started = time.perf_counter()
        found = work(waveform)
        took = time.perf_counter() - started
        say(seconds=round(took, 5), peak_mb=_peak_mb(), **found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
