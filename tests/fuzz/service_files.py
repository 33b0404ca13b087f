"""What stands around a file in service, and YAML of several pipelines: systems, matrices."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import yaml

from tests.fuzz.attempt import Attempt, fifo
from tests.fuzz.corpus import GOLDEN, MONITOR, ROOT, RUN, TOY
from tests.fuzz.mutate import as_json, changed_bytes, changed_tree

_ROWS = (
    {"time": 1.7e9, "kind": "replay", "state": "same", "strain": 0.5, "exit_code": 0},
    {"time": 1.7e9, "kind": "replay", "state": "moved", "seal_changes": ["the graph"]},
    {"time": 1.7e9, "kind": "drift", "evalues": {"a": 3.0}, "threshold": 9.0, "alarms": ["a"]},
    {"time": 1.7e9, "kind": "shadow", "seq": 1, "id": "a", "state": "same", "strain": 0.1},
)
_LABELS = (
    {"id": "a", "stratum": "random", "hypothesis": "a b d", "reference": "a b c"},
    {"id": "b", "stratum": "low margin", "hypothesis": "", "reference": "a"},
)
_COUNTS = dict.fromkeys(("same", "rounding", "ambiguous", "moved", "not_run"), 0)
_STATE = {"seq": 0, "counts": _COUNTS, "strain": None, "seen": 1.0, "pid": 1}


def _lines(draw: Random, path: Path, rows: Any) -> Path:
    """Lines of JSON, one of them changed, or the bytes."""
    if draw.random() < 0.8:
        at = draw.randrange(len(rows))
        held = [changed_tree(draw, row) if i == at else row for i, row in enumerate(rows)]
        path.write_text("\n".join(map(as_json, held)), errors="surrogatepass")
    else:
        path.write_bytes(changed_bytes(draw, "\n".join(map(json.dumps, rows)).encode()))
    return path


def _tree(draw: Random, path: Path, tree: Any) -> None:
    if draw.random() < 0.8:
        path.write_text(as_json(changed_tree(draw, tree)), errors="surrogatepass")
    else:
        path.write_bytes(changed_bytes(draw, json.dumps(tree).encode()))


def monitor(draw: Random, corpus: Path, work: Path) -> Attempt:
    """A log, labels, what is kept beside a golden, or a spool."""
    made = draw.choice((_log, _log, _labels, _kept, _kept, _spool))
    return made(draw, corpus, work)


def _log(draw: Random, corpus: Path, work: Path) -> Attempt:
    log = _lines(draw, work / "log.jsonl", _ROWS)
    if draw.random() < 0.1:
        log = draw.choice((fifo(work), work, Path("/dev/zero")))
    words = ["monitor", "report", str(log), "--output", str(work / "page.html")]
    return Attempt(argv=words, folder=work)


def _labels(draw: Random, corpus: Path, work: Path) -> Attempt:
    log = work / "log.jsonl"
    log.write_text(json.dumps(_ROWS[0]))
    labels = _lines(draw, work / "labels.jsonl", _LABELS)
    words = ["monitor", "report", str(log), "--output", str(work / "page.html")]
    return Attempt(argv=[*words, "--labels", str(labels)], folder=work)


def _kept(draw: Random, corpus: Path, work: Path) -> Attempt:
    """``monitor/`` beside a golden; half of the references have the digest of what they say."""
    folder = work / GOLDEN
    shutil.copytree(corpus / MONITOR / "toy", folder)
    manifest, inputs = (
        folder / "monitor" / "manifest.json",
        folder / "monitor" / "replay.safetensors",
    )
    if draw.random() < 0.75:
        tree = changed_tree(draw, json.loads(manifest.read_text()), deep=draw.random() < 0.5)
        if isinstance(tree, dict) and draw.random() < 0.5:
            text = json.dumps(tree.get("reference"), sort_keys=True)
            tree["sha256"] = hashlib.sha256(text.encode()).hexdigest()
        manifest.write_text(as_json(tree), errors="surrogatepass")
    else:
        inputs.write_bytes(changed_bytes(draw, inputs.read_bytes()))
    file = corpus / TOY / RUN / "model.onnx"
    return Attempt(argv=["monitor", "replay", str(file), "--golden", str(folder)], folder=work)


def _spool(draw: Random, corpus: Path, work: Path) -> Attempt:
    """Counts, results, requests; the command also makes all that judges them."""
    folder = work / "spool"
    folder.mkdir()
    _tree(draw, folder / "worker.json", _STATE) if draw.random() < 0.6 else None
    _lines(draw, folder / "results.jsonl", _ROWS[3:]) if draw.random() < 0.6 else None
    buffer = io.BytesIO()
    np.savez(buffer, **{"in.x": np.zeros((1, 4, 16), np.float32), "out.y": np.zeros(3)})
    for number in range(2):
        data = buffer.getvalue()
        data = changed_bytes(draw, data) if draw.random() < 0.7 else data
        suffix = draw.choice((".npz", ".npz.taken", ".npz.again"))
        (folder / f"0000{number}-1-000000{suffix}").write_bytes(data)
    (folder / "service.json").write_text(
        json.dumps({"model": str(corpus / TOY / RUN / "model.onnx")})
    )

    def judged() -> None:
        from exporter.monitor.shadow import SAME, JudgedRequest, Worker

        Worker(folder, lambda request: JudgedRequest(state=SAME)).work(once=True)

    argv = ["monitor", "shadow", str(folder), "--once"]
    return Attempt(argv=argv, call=judged, folder=work)


def several(draw: Random, corpus: Path, work: Path) -> Attempt:
    """The YAML of a system, or of a matrix; nothing of it is run."""
    if draw.random() < 0.5:
        source = (
            ROOT / "pipelines" / "systems" / draw.choice(("whisper_tiny.yaml", "rnnt_tiny.yaml"))
        )
        words = ["lint"]
    else:
        source, words = ROOT / "matrices" / "speech_releases.yaml", ["matrix"]
    text = source.read_text()
    for parent in ("../../", "../", "./"):
        text = text.replace(f" {parent}", f" {(source.parent / parent).resolve()}/")
    tree = yaml.safe_load(text)
    path = work / "several.yaml"
    if draw.random() < 0.75:
        tree = changed_tree(draw, tree)
        try:
            held = yaml.safe_dump(tree, allow_unicode=True, sort_keys=False)
        except (yaml.YAMLError, UnicodeError, RecursionError):
            held = as_json(tree)
        path.write_bytes(held.encode("utf-8", "surrogatepass"))
    else:
        path.write_bytes(changed_bytes(draw, text.encode()))
    more = ["--github"] if words == ["matrix"] else []
    return Attempt(argv=[*words, str(path), *more], folder=work)
