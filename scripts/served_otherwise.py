"""A service that computes otherwise than the certified one: what a monitor's questions say of it.

Used by drift_table.py. An older onnxruntime runs in an environment of its own, with what
'monitor replay' needs and no PyTorch.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from exporter.cache.environments import environment
from exporter.config.load import load_pipeline
from exporter.execution.quantisers import Order, write_lowered
from exporter.flows.monitor import record, shadow_judge
from exporter.graph.segment_split import WAVEFORM
from exporter.matrix.jobs import CHECK_NEEDS, pinned
from exporter.monitor.spool import Request

ROOT = Path(__file__).resolve().parents[1]
NAME = "sensevoice_tiny"
CASES = ("english", "mandarin", "noisy")
"""Replayed; 'noisy' is the one at which releases differ (docs/findings.md)."""
OLDER = "1.23.2"
PROMPTS = {"language": 4, "text_norm": 15}
Arrays = Mapping[str, np.ndarray]

ANSWER = """
import sys
import numpy as np
from exporter.runtime import SpeechRunner
model, given, out = sys.argv[1:]
runner = SpeechRunner(model, threads=1)
with np.load(given) as held:
    feeds = dict(held)
waves = [feeds.pop(name) for name in sorted(n for n in feeds if n.startswith("wave."))]
found = [runner.run_arrays({"waveform": wave, **feeds}) for wave in waves]
rows = ((f"{i}.{name}", held) for i, one in enumerate(found) for name, held in one.items())
np.savez(out, **dict(rows))
"""


def feeds_of(wave: np.ndarray) -> dict[str, np.ndarray]:
    """The inputs of a request."""
    prompts = {name: np.array(value) for name, value in PROMPTS.items()}
    return {WAVEFORM: np.ascontiguousarray(wave, np.float32), **prompts}


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A file, and the Python that serves it."""

    file: Path
    golden: Path
    python: str | Path = sys.executable

    def _run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        command = [str(self.python), *map(str, words)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    def answers(self, waves: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """What it answers to recordings."""
        with tempfile.TemporaryDirectory() as folder:
            given, out = Path(folder) / "given.npz", Path(folder) / "out.npz"
            inputs = {f"wave.{i:04d}": feeds_of(wave)[WAVEFORM] for i, wave in enumerate(waves)}
            np.savez(given, **inputs, **{n: np.array(v) for n, v in PROMPTS.items()})
            done = self._run("-c", ANSWER, self.file, given, out)
            if done.returncode:
                raise RuntimeError(done.stderr)
            found: list[dict[str, np.ndarray]] = [{} for _ in waves]
            with np.load(out) as held:
                for key in held.files:
                    number, _, name = key.partition(".")
                    found[int(number)][name] = held[key]
        return found

    def replayed(self) -> str:
        """What the next replay says."""
        words = ("monitor", "replay", self.file, "--golden", self.golden, "--threads", "1")
        done = self._run("-m", "exporter", *words, "--format", "json")
        try:
            said = json.loads(done.stdout)
        except ValueError:
            raise RuntimeError(done.stderr) from None
        cases = {case["case"]: case for case in said["cases"]}
        moved = [name for name, case in cases.items() if case["state"] == "moved"]
        first = next((c["first"] for c in cases.values() if c["first"] is not None), None)
        held = said["seal"]
        seal = "intact" if held["intact"] else "broken" if held["changes"] else "none"
        where = f" in {', '.join(moved)}, first `{first['module']}`" if moved and first else ""
        return f"{said['state']}{where}; seal {seal}; exit {said['exit_code']}"


def changes_of_serving(run_folder: Path, work: Path) -> Iterator[tuple[str, Serving]]:
    """Services by name: the certified one first, whose twin each of the others is."""
    certified = run_folder / "model.onnx"
    golden = work / "golden" / NAME
    if not golden.exists():
        shutil.copytree(ROOT / "golden" / NAME, golden)
    record(load_pipeline(ROOT / "pipelines" / f"{NAME}.yaml"), golden, CASES)
    yield "the certified file", Serving(file=certified, golden=golden)
    with ExitStack() as stack:
        wanted = (f"onnxruntime=={OLDER}", *map(pinned, CHECK_NEEDS))
        python = stack.enter_context(environment(work / "environments", wanted))
        name = f"onnxruntime {OLDER}, with another LayerNormalization"
        yield name, Serving(file=certified, golden=golden, python=python)
    write_lowered(certified, work / "int8.onnx", Order(to="int8"))
    yield "a file in int8", Serving(file=work / "int8.onnx", golden=golden)
    write_dithered(certified, work / "dithered.onnx")
    yield "features with dither", Serving(file=work / "dithered.onnx", golden=golden)


def write_dithered(source: Path, target: Path) -> None:
    """Add noise of one 16-bit step to what features are taken of, as FunASR does by default."""
    model = onnx.load(source)
    nodes = model.graph.node
    # The VAD's reader of the waveform stands before the segments, that of the features behind them.
    at = max(
        i for i, node in enumerate(nodes) if WAVEFORM in node.input and node.op_type != "Shape"
    )
    noise = helper.make_node("RandomNormalLike", [WAVEFORM], ["dither"], scale=1 / 32768)
    added = helper.make_node("Add", [WAVEFORM, "dither"], ["dithered"])
    nodes[at].input[:] = ["dithered" if name == WAVEFORM else name for name in nodes[at].input]
    nodes.insert(at, added)
    nodes.insert(at, noise)
    onnx.save(model, target)


def shadow_states(
    run_folder: Path, file: Path, waves: Sequence[np.ndarray], found: Sequence[Arrays]
) -> str:
    """What the shadow worker says of requests, counted by state, with the first layer."""
    judge = shadow_judge(run_folder, run_folder, file)
    rows = [
        judge(Request(name=str(i), inputs=feeds_of(wave), outputs=dict(outputs)))
        for i, (wave, outputs) in enumerate(zip(waves, found, strict=True))
    ]
    states = Counter(row.state for row in rows)
    first = next((row.first_layer for row in rows if row.first_layer), None)
    said = ", ".join(f"{count} {state}" for state, count in states.items())
    return f"{said}, first `{first}`" if first else said
