"""YAML, recordings, reports and what a run leaves beside its file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.fuzz.attempt import Attempt, fifo
from tests.fuzz.corpus import AUDIO, GOLDEN, ROOT, RUN, TOY
from tests.fuzz.mutate import TEXTS, as_json, changed_bytes, changed_tree, evil

_SMALL = ("fsmn_vad_tiny", "silero_vad_tiny", "ecapa_mel_tiny", "mimi_decoder_tiny")
_SNIPPETS = (
    "a: &a [x, x]\nb: &b [*a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b]\n"
    "d: &d [*c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d]\nf: [*e, *e, *e, *e, *e, *e]\n",
    "a: " + "[" * 3000 + "]" * 3000 + "\n",
    "a: " + "{a: " * 2000 + "}" * 2000 + "\n",
    "a: &a [*a]\n",
    "&a a: *a\n",
    "model: !!python/object/apply:os.system [id]\n",
    "name: !!int x\n",
    "name: !!timestamp 2001-99-99\n",
    "name: !!binary '***'\n",
    "name: " + "9" * 6000 + "\n",
    "name: 0x" + "f" * 6000 + "\n",
    "? [a, b]\n: c\n",
    "? {a: b}\n: c\n",
    "<<: {a: b}\n",
    "--- a\n--- b\n",
    "\t a: b\n",
    "%YAML 9.9\n---\na: b\n",
    "a: 'unclosed\n",
    "\ufeffname: x\n",
    "extends: pipeline.yaml\n",
    "extends: /dev/zero\n",
    "extends: fifo\n",
    "extends: [a, b]\n",
    "extends: " + "x" * 5000 + ".yaml\n",
    "extends: ~nobody/x.yaml\n",
    'extends: "a\\0b"\n',
)


def _text(draw: Random, tree: Any) -> bytes:
    try:
        text = yaml.safe_dump(tree, allow_unicode=draw.random() < 0.5, sort_keys=False)
    except (yaml.YAMLError, UnicodeError, RecursionError):
        text = as_json(tree)
    return text.encode("utf-8", "surrogatepass")


def _encodes(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _load_all(path: str | Path) -> None:
    """Everything that a command reads of a YAML before it exports."""
    from exporter.cases.at_lengths import sized_cases
    from exporter.cases.load import load_cases
    from exporter.config import load_pipeline
    from exporter.graph.wrap import wrap

    pipeline = load_pipeline(path, trust=True)
    wrapped = wrap(pipeline)
    loaded = load_cases(pipeline, wrapped.inputs, [case.name for case in pipeline.cases])
    sized_cases(pipeline, wrapped.inputs, loaded)


def yaml_file(draw: Random, corpus: Path, work: Path) -> Attempt:
    """A pipeline's YAML: its tree, its text, or a path that is none."""
    shutil.copy(corpus / TOY / "toy_model.py", work)
    shutil.copy(corpus / AUDIO / "mono.wav", work)
    fifo(work)
    path = work / "pipeline.yaml"
    if draw.random() < 0.4:
        tree = yaml.safe_load((corpus / TOY / "toy.yaml").read_text())
        if draw.random() < 0.3:
            tree["contracts"] = {"causality": {"lookahead_samples": {"y": 0}}, "silence": {}}
        if draw.random() < 0.3:
            tree["cases"][0]["inputs"] = {"x": 0.5}
            del tree["cases"][0]["random"]
        if draw.random() < 0.3:
            tree["cases"].append({"name": "rec", "audio": {"file": "mono.wav", "input": "x"}})
    else:
        name = draw.choice(_SMALL)
        source = ROOT / "pipelines" / f"{name}.yaml"
        tree = yaml.safe_load(source.read_text())
        base = yaml.safe_load((source.parent / tree["extends"]).read_text())
        tree["extends"] = str(source.parent / tree["extends"])
        for key in draw.sample(sorted(base), draw.randrange(len(base))):
            tree.setdefault(key, base[key])
        for case in tree.get("cases", []):
            if isinstance(case.get("audio"), str):
                case["audio"] = "mono.wav"
    if draw.random() < 0.75:
        data = _text(draw, changed_tree(draw, tree))
    elif draw.random() < 0.6:
        data = changed_bytes(draw, _text(draw, tree))
    else:
        snippet = draw.choice(_SNIPPETS).encode("utf-8", "surrogatepass")
        data = snippet if draw.random() < 0.5 else _text(draw, tree) + b"\n" + snippet
    path.write_bytes(data)
    if draw.random() < 0.03:
        given = draw.choice((*TEXTS, str(work), str(work / "fifo"), "/dev/zero", "/dev/stdin"))
        if "\0" in given or not _encodes(given):
            # No command line can hold it; the package's own function can be given it.
            return Attempt(argv=[], call=lambda: _load_all(given), folder=work)
        argv = ["explain" if draw.random() < 0.3 else "run", given, "--trust"]
        return Attempt(argv=argv, folder=work)
    argv = ["run", str(path), "--trust", "--output-dir", str(work / "out"), "-q"]
    return Attempt(argv=argv, call=lambda: _load_all(path), folder=work)


def audio_file(draw: Random, corpus: Path, work: Path) -> Attempt:
    """A recording: damaged, empty, a device, a pipe, a folder."""
    name = draw.choice(("mono.wav", "mono.flac", "float.wav"))
    path = work / name
    data = changed_bytes(draw, (corpus / AUDIO / name).read_bytes())
    if draw.random() < 0.2:
        # Fields of the header, where absurd sizes stand.
        head = bytearray(data)
        for _ in range(2):
            at = draw.randrange(4, 44)
            head[at : at + 4] = draw.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"))
        data = bytes(head)
    path.write_bytes(data)
    if draw.random() < 0.1:
        path = draw.choice((fifo(work), Path("/dev/zero"), work, Path("/proc/self/mem")))
    toy = ROOT / "pipelines" / "silero_vad_tiny.yaml"
    argv = ["run", str(toy), "--audio", str(path), "--output-dir", str(work / "out"), "-q"]

    def read() -> None:
        from exporter.cases.audio import read_waveform

        read_waveform(path, 16000)

    return Attempt(argv=argv, call=read, folder=work)


def report_file(draw: Random, corpus: Path, work: Path) -> Attempt:
    """report.json: judge, report, explain, debug, inspect beside it."""
    run = work / RUN
    shutil.copytree(corpus / TOY / RUN, run)
    path = run / "report.json"
    if draw.random() < 0.85:
        tree = json.loads(path.read_text())
        text = as_json(changed_tree(draw, tree, deep=draw.random() < 0.6))
        path.write_text(text, errors="surrogatepass")
    elif draw.random() < 0.7:
        path.write_bytes(changed_bytes(draw, path.read_bytes()))
    elif draw.random() < 0.5:
        path.write_text(draw.choice(("[" * 100_000, "9" * 10_000, "", "{}", "null", "[]", "NaN")))
    else:
        path.unlink()
        draw.choice((lambda: fifo(run, "report.json"), path.mkdir))()
    toy = ["toy.yaml", "--trust", "--output-dir", str(run), "-q"]
    words = draw.choice(
        (
            ["judge", str(run)],
            ["judge", str(run), "--factor", "3"],
            ["report", str(run), "--junit", str(work / "junit.xml")],
            ["explain", str(run)],
            ["inspect", str(run / "model.onnx")],
            ["debug", *toy],
            ["golden", "check", *toy, "--golden-dir", str(corpus / TOY / GOLDEN)],
        )
    )
    _toy_files(corpus, work)
    return Attempt(argv=words, folder=work)


def _toy_files(corpus: Path, work: Path) -> None:
    for name in ("toy.yaml", "toy_model.py"):
        shutil.copy(corpus / TOY / name, work)


def program_files(draw: Random, corpus: Path, work: Path) -> Attempt:
    """program/ and taps.json of a finished run, which debug and verify begin with."""
    run = work / RUN
    shutil.copytree(corpus / TOY / RUN, run)
    _toy_files(corpus, work)
    name = draw.choice(("program/ops.json",) * 5 + ("program/weights.safetensors", "taps.json"))
    path = run / name
    if name.endswith(".json") and draw.random() < 0.9:
        path.write_text(as_json(changed_tree(draw, json.loads(path.read_text()))))
    elif draw.random() < 0.9:
        path.write_bytes(changed_bytes(draw, path.read_bytes()))
    else:
        path.unlink()
        draw.choice((lambda: fifo(path.parent, path.name), path.mkdir, lambda: None))()
    given = ["--onnx", str(run / "exported.onnx")]
    toy = ["toy.yaml", "--trust", "--output-dir", str(run), "-q"]
    words = draw.choice(
        (
            ["debug", *toy, "--layer", "conv1d"],
            ["debug", *toy, "--layer", "blocks.0.inner", *given],
            ["verify", *toy, *given],
            ["check", *toy, "--contract", "mutation"],
        )
    )
    return Attempt(argv=words, folder=work)


def _sealed(tree: Any) -> bytes:
    """A manifest with the digest of what it says now, as whoever edits it can make it."""
    if not isinstance(tree, dict):
        return as_json(tree).encode()
    body = {key: value for key, value in tree.items() if key != "sha256"}
    text = json.dumps(body, indent=1, sort_keys=True, ensure_ascii=True)
    body["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    return (json.dumps(body, indent=1, sort_keys=True) + "\n").encode()


def golden_files(draw: Random, corpus: Path, work: Path) -> Attempt:
    """A golden: flipped bytes, and wrong types under digests that are right."""
    held = work / GOLDEN
    shutil.copytree(corpus / TOY / GOLDEN, held)
    _toy_files(corpus, work)
    folder = held / "toy"
    manifest = folder / "manifest.json"
    tree = json.loads(manifest.read_text())
    kind = draw.random()
    if kind < 0.5:
        manifest.write_bytes(_sealed(changed_tree(draw, tree)))
    elif kind < 0.85:
        name = draw.choice(sorted(tree["files"]))
        data = (folder / name).read_bytes()
        if name.endswith(".json") and draw.random() < 0.8:
            data = as_json(changed_tree(draw, json.loads(data))).encode()
        elif draw.random() < 0.5 and name.endswith(".safetensors"):
            data = _other_arrays(draw, data)
        else:
            data = changed_bytes(draw, data)
        (folder / name).write_bytes(data)
        tree["files"][name] = hashlib.sha256(data).hexdigest()
        manifest.write_bytes(_sealed(tree))
    else:
        path = draw.choice(sorted(folder.iterdir()))
        if draw.random() < 0.8:
            path.write_bytes(changed_bytes(draw, path.read_bytes()))
        else:
            path.unlink()
            draw.choice((lambda: fifo(folder, path.name), path.mkdir))()
    file = str(corpus / TOY / RUN / draw.choice(("model.onnx", "exported.onnx")))
    toy = ["toy.yaml", "--trust", "--golden-dir", str(held)]
    words = draw.choice(
        (
            ["golden", "check", *toy, "--onnx", file, "-q", "--output-dir", str(work / "o")],
            ["golden", "list", "--golden-dir", str(held)],
            ["golden", "diff", str(folder), str(corpus / TOY / GOLDEN / "toy")],
        )
    )
    return Attempt(argv=words, folder=work)


def _other_arrays(draw: Random, data: bytes) -> bytes:
    """A safetensors file with an array of another dtype, shape or name."""
    import numpy as np
    from safetensors.numpy import load, save

    arrays = load(data)
    name = draw.choice(sorted(arrays))
    old = arrays.pop(name)
    new = draw.choice(
        (
            lambda: old.astype(draw.choice((np.int64, np.float16, np.uint8, np.bool_))),
            lambda: old[:0],
            lambda: old.reshape(-1),
            lambda: np.full(old.shape, np.nan).astype(old.dtype) if old.dtype.kind == "f" else -old,
            lambda: old[None],
            lambda: np.zeros((), old.dtype),
        )
    )
    if draw.random() < 0.9:
        with np.errstate(all="ignore"):
            arrays[name if draw.random() < 0.9 else str(evil(draw))[:40]] = np.ascontiguousarray(
                new()
            )
    return save(arrays)


def manifest_file(draw: Random, corpus: Path, work: Path) -> Attempt:
    """A manifest of recordings: its lines as trees, or its bytes."""
    shutil.copy(corpus / AUDIO / "mono.wav", work)
    lines = [
        {"audio": "mono.wav", "text": "good morning", "speaker": "ann", "noise_db": 10},
        {"audio_filepath": "mono.wav", "duration": 0.1, "id": 3, "tags": {"room": "small"}},
        {"audio": "mono.wav", "inputs": {"language": "zh"}, "expect_empty": True},
    ]
    path = work / "manifest.jsonl"
    if draw.random() < 0.7:
        at = draw.randrange(len(lines))
        texts = [as_json(changed_tree(draw, x) if i == at else x) for i, x in enumerate(lines)]
        path.write_text("\n".join(texts), errors="surrogatepass")
    else:
        path.write_bytes(changed_bytes(draw, "\n".join(map(json.dumps, lines)).encode()))

    def read() -> None:
        from exporter.cases.audio import read_waveform
        from exporter.cases.manifest import read_manifest

        for utterance in read_manifest(path):
            read_waveform(utterance.audio, 16000)

    system = ROOT / "pipelines" / "systems" / "whisper_tiny.yaml"
    argv = ["run", str(system), "--trust", "--manifest", str(path), "-q"]
    return Attempt(argv=[*argv, "--output-dir", str(work / "out")], call=read, folder=work)
