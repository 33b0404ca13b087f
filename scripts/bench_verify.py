"""What comparing every layer costs, in units of one torch and one onnxruntime forward pass.

    python scripts/bench_verify.py [--tiny] [--run-dir runs/sensevoice] [--repeats 3]
    python scripts/bench_verify.py --minutes 10    # peak memory, in a process of its own
    python scripts/bench_verify.py --others        # other tools, on a small transformer

The unit is the captured program once in float32 and the shipped file once, uncut, in the same
process and between the rounds of the comparison. Building sessions is counted apart: it happens
once for all cases. Needs the folder of a finished run. Prints Markdown and one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from exporter.core.threads import let_waiting_threads_sleep  # noqa: E402

let_waiting_threads_sleep()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from interleaved import machine, median  # noqa: E402

from exporter.build.metadata import PREFIX  # noqa: E402
from exporter.cases.audio import read_waveform  # noqa: E402
from exporter.core.tensors import Case  # noqa: E402
from exporter.execution.deployment import Deployment  # noqa: E402
from exporter.execution.onnx_runs import FileRun  # noqa: E402
from exporter.graph.onnx_file import open_graph  # noqa: E402
from exporter.graph.program_file import load_program  # noqa: E402
from exporter.interpret.run_program import run_program  # noqa: E402
from exporter.judge.layer_results import LayerLink  # noqa: E402
from exporter.judge.layers import judge_layers  # noqa: E402
from exporter.parity.tolerance import Policy  # noqa: E402
from exporter.report.environment import default_memory_budget  # noqa: E402

SAMPLE_RATE_HZ = 16000
SECONDS = (5, 60)
AUDIO = ROOT / "golden" / "audio" / "long.wav"


class Finished:
    """A finished run: its program, its file, and ways to run both.

    Args:
        folder: output folder of ``export-verify run``.
        threads: of torch and of onnxruntime.
    """

    def __init__(self, folder: Path, threads: int):
        if not (folder / "model.onnx").is_file():
            sys.exit(f"{folder} holds no model.onnx; make it with: export-verify run")
        self.program = load_program(folder / "program")
        # As a run reads it: weights once, as arrays, and no protobuf that holds them as well.
        self.graph = open_graph(folder / "model.onnx")
        self.path = folder / "model.onnx"
        self.deployment = Deployment(threads=threads)
        metadata = {item.key: item.value for item in self.graph.model.metadata_props}
        self.pipeline = metadata[f"{PREFIX}pipeline"]
        self.choices = json.loads(metadata[f"{PREFIX}input_choices"])

    def case(self, num_samples: int) -> Case:
        """Speech of a length, the golden minute repeated where it is longer."""
        minute = read_waveform(AUDIO, SAMPLE_RATE_HZ)
        waveform = np.resize(minute, num_samples)
        prompts = {name: np.array(next(iter(c.values()))) for name, c in self.choices.items()}
        return Case(
            name=f"{num_samples / SAMPLE_RATE_HZ:g} s",
            inputs={"waveform": waveform, **prompts},
            origin=AUDIO.name,
        )

    def judge(self, cases: list[Case], budget: int) -> LayerLink:
        """Every layer on every case."""
        return judge_layers(
            self.program,
            self.graph,
            cases,
            policy=Policy(),
            deployment=self.deployment,
            budget=budget,
        )


def main() -> int:
    options = _options()
    torch.set_num_threads(options.threads)
    result: dict[str, Any] = {"machine": machine(options.threads)}
    if options.others:
        from other_verifiers import compare_verifiers

        result["others"] = compare_verifiers(options.threads, options.repeats)
        print(_table(result["others"]))
    else:
        name = "sensevoice_tiny" if options.tiny else "sensevoice"
        finished = Finished(options.run_dir or ROOT / "runs" / name, options.threads)
        result["pipeline"] = finished.pipeline
        if options.minutes:
            result["memory"] = peak_memory(finished, options.minutes, options.memory_budget)
            print(_table([result["memory"]]))
        else:
            result["speed"] = [
                speed(finished, seconds, options.repeats, options.memory_budget)
                for seconds in options.seconds
            ]
            print(
                _table([{k: v for k, v in row.items() if k != "parts"} for row in result["speed"]])
            )
            for row in result["speed"]:
                print(f"\n{row['audio']}, where the time goes:\n\n{_table(row['parts'])}")
    print(json.dumps(result))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="2 + 1 blocks, for a quick look")
    parser.add_argument("--run-dir", type=Path, help="a finished run's folder")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=int, nargs="+", default=list(SECONDS))
    parser.add_argument("--memory-budget", type=int, default=default_memory_budget())
    parser.add_argument("--minutes", type=float, help="peak memory at this length")
    parser.add_argument("--others", action="store_true", help="torch's verifier and Polygraphy")
    return parser.parse_args()


def speed(finished: Finished, seconds: int, repeats: int, budget: int) -> dict[str, Any]:
    """One length of audio: medians of the unit and of the comparison, and its parts."""
    case = finished.case(seconds * SAMPLE_RATE_HZ)
    session = FileRun(finished.path, finished.deployment)
    times: dict[str, list[float]] = {"torch": [], "onnxruntime": [], "runs": [], "building": []}
    links: list[LayerLink] = []
    for number in range(repeats + 1):
        unit = {}
        for name, work in (
            ("torch", lambda: run_program(finished.program, case.inputs)),
            ("onnxruntime", lambda: session.run(case.inputs)),
        ):
            started = time.perf_counter()
            work()
            unit[name] = time.perf_counter() - started
        if number == 0:
            continue  # first touches of weights and files
        started = time.perf_counter()
        link = finished.judge([case], budget)
        whole = time.perf_counter() - started
        building = link.clock.seconds["session building"]
        for name in unit:
            times[name].append(unit[name])
        times["building"].append(building)
        times["runs"].append(whole - building)
        links.append(link)
    medians = {name: median(values) for name, values in times.items()}
    unit_s = medians["torch"] + medians["onnxruntime"]
    return {
        "audio": case.name,
        "taps": sum(tap.local is not None for tap in links[0].taps),
        "culprits": len(links[0].culprits),
        "torch float32, s": round(medians["torch"], 3),
        "onnxruntime, s": round(medians["onnxruntime"], 3),
        "runs and metrics, s": round(medians["runs"], 3),
        "building sessions, s": round(medians["building"], 3),
        "runs / unit": round(medians["runs"] / unit_s, 2),
        "building / unit": round(medians["building"] / unit_s, 2),
        "parts": [
            {
                "part": name,
                "s": round(median([link.clock.seconds[name] for link in links]), 3),
                "of the unit": round(
                    median([link.clock.seconds[name] for link in links]) / unit_s, 2
                ),
            }
            for name in links[0].clock.seconds
        ],
    }


def peak_memory(finished: Finished, minutes: float, budget: int) -> dict[str, Any]:
    """Peak resident memory of this process, which does nothing else."""
    case = finished.case(int(minutes * 60 * SAMPLE_RATE_HZ))
    before = _peak_gib()
    started = time.perf_counter()
    link = finished.judge([case], budget)
    return {
        "audio": case.name,
        "budget, GiB": round(budget / (1 << 30), 2),
        "peak resident, GiB": round(_peak_gib(), 2),
        "of it before the comparison, GiB": round(before, 2),
        "taps": sum(tap.local is not None for tap in link.taps),
        "culprits": len(link.culprits),
        "s": round(time.perf_counter() - started, 1),
    }


def _peak_gib() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / (1 << 30)


def _table(rows: list[dict[str, Any]]) -> str:
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    lines += ["| " + " | ".join(str(row[name]) for name in names) + " |" for row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
