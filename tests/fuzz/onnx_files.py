"""ONNX files that somebody has damaged, and the commands that take them."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import onnx

from tests.fuzz.attempt import Attempt, fifo
from tests.fuzz.corpus import GOLDEN, RUN, TOY
from tests.fuzz.mutate import changed_bytes
from tests.fuzz.onnx_edits import EDITS
from tests.fuzz.raw_edits import RAW
from tests.fuzz.strange_edits import STRANGE


def edited(draw: Random, corpus: Path, work: Path) -> Path:
    """Write a damaged file, and what lies beside it, into a folder of its own."""
    folder = work / "given"
    folder.mkdir()
    source = corpus / TOY / RUN / draw.choice(("model.onnx", "exported.onnx"))
    path = folder / "model.onnx"
    if draw.random() < 0.12:
        path.write_bytes(changed_bytes(draw, source.read_bytes()))
        return path
    model = onnx.load(str(source))
    if draw.random() < 0.3:
        # A file of somebody else's: nothing says where it comes from.
        del model.metadata_props[:]
    for _ in range(draw.choice((1, 1, 1, 2))):
        if not model.graph.node or not model.graph.initializer or not model.graph.output:
            break
        draw.choice(EDITS)(draw, model, folder)
    try:
        path.write_bytes(model.SerializeToString())
    except ValueError:
        path.write_bytes(b"")
    if draw.random() < 0.01:
        path.unlink()
        draw.choice((lambda: fifo(folder, path.name), path.mkdir, lambda: path.symlink_to(path)))()
    return path


def _strange(draw: Random, corpus: Path, work: Path) -> Path:
    """As ``edited``, of what is lawful and rare; half of them with no word of who made them."""
    folder = work / "given"
    folder.mkdir()
    path = folder / "model.onnx"
    source = corpus / TOY / RUN / draw.choice(("model.onnx", "exported.onnx"))
    if draw.random() < 0.1:
        draw.choice(RAW)(draw, source.read_bytes(), path)
        return path
    model = onnx.load(str(source))
    if draw.random() < 0.5:
        del model.metadata_props[:]
    for _ in range(draw.choice((1, 1, 2))):
        draw.choice(STRANGE)(draw, model, folder)
    path.write_bytes(model.SerializeToString())
    return path


def _toy(corpus: Path, work: Path) -> list[str]:
    for name in ("toy.yaml", "toy_model.py"):
        shutil.copy(corpus / TOY / name, work)
    shutil.copytree(corpus / TOY / RUN, work / RUN)
    return ["toy.yaml", "--trust", "--output-dir", str(work / RUN), "-q"]


def inspect(draw: Random, corpus: Path, work: Path) -> Attempt:
    """``inspect``: the structure alone."""
    path = edited(draw, corpus, work)
    form = draw.choice(("text", "json"))
    return Attempt(argv=["inspect", str(path), "--format", form], folder=work)


def verify(draw: Random, corpus: Path, work: Path) -> Attempt:
    """``verify``: every value is compared."""
    path = edited(draw, corpus, work)
    more = ["--changed-on-purpose"] if draw.random() < 0.3 else []
    return Attempt(argv=["verify", *_toy(corpus, work), "--onnx", str(path), *more], folder=work)


def golden_check(draw: Random, corpus: Path, work: Path) -> Attempt:
    """``golden check``."""
    path = edited(draw, corpus, work)
    words = ["golden", "check", *_toy(corpus, work), "--onnx", str(path)]
    return Attempt(argv=[*words, "--golden-dir", str(corpus / TOY / GOLDEN)], folder=work)


def debug(draw: Random, corpus: Path, work: Path) -> Attempt:
    """``debug --onnx``: layers are cut out and run."""
    path = edited(draw, corpus, work)
    layer = draw.choice((["--layer", "blocks.0.inner"], ["--layer", "conv"], ["--all"], []))
    words = ["debug", *_toy(corpus, work), "--onnx", str(path), *layer]
    return Attempt(argv=[*words, "--bundles", str(work / "bundles")], folder=work)


def alone(draw: Random, corpus: Path, work: Path) -> Attempt:
    """``init FILE.onnx`` and ``check --onnx``: nothing but the file is known."""
    path = edited(draw, corpus, work)
    words = draw.choice(
        (["init", str(path), "-o", str(work / "x.yaml")], ["check", "--onnx", str(path)])
    )
    return Attempt(argv=[*words, "-q"], folder=work)


def compare(draw: Random, corpus: Path, work: Path) -> Attempt:
    """``compare`` with a healthy file, as the truth or as the other one, or with itself."""
    return Attempt(argv=_compared(draw, edited(draw, corpus, work), corpus), folder=work)


def _compared(draw: Random, path: Path, corpus: Path) -> list[str]:
    healthy = str(corpus / TOY / RUN / "model.onnx")
    files = draw.choice(((healthy, str(path)), (str(path), healthy), (str(path), str(path))))
    return ["compare", *files, "-q"]


def strange(draw: Random, corpus: Path, work: Path) -> Attempt:
    """A strange file, given to any of the commands that take one."""
    path = _strange(draw, corpus, work)
    toy = [*_toy(corpus, work), "--onnx", str(path)]
    golden = ["--golden-dir", str(corpus / TOY / GOLDEN)]
    words = draw.choice(
        (
            ["inspect", str(path)],
            ["inspect", str(path), "--format", "json"],
            ["lint", str(path)],
            ["init", str(path), "-o", str(work / "x.yaml"), "-q"],
            ["check", "--onnx", str(path), "-q"],
            ["verify", *toy],
            ["golden", "check", *toy, *golden],
            ["debug", *toy, "--layer", "conv", "--bundles", str(work / "bundles")],
            _compared(draw, path, corpus),
        )
    )
    return Attempt(argv=words, folder=work)
