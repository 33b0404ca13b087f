"""Checkpoints: every file that ``exporter/models`` reads."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.fuzz.attempt import Attempt, fifo
from tests.fuzz.corpus import TENSORS, TOY
from tests.fuzz.mutate import TEXTS, as_json, changed_bytes, changed_tree, evil


def _wrap(path: Path) -> Callable[[], object]:
    def read() -> None:
        from exporter.config import load_pipeline
        from exporter.graph.wrap import wrap

        wrap(load_pipeline(path, trust=True))

    return read


def checkpoint_folder(draw: Random, corpus: Path, work: Path) -> Attempt:
    """One file of a checkpoint's folder is damaged, or is no file."""
    name = draw.choice(("sensevoice", "fsmn", "paraformer", "mimi", "mimi_theirs", "metavoice"))
    folder = work / name
    folder.mkdir()
    for file in (corpus / name).iterdir():
        (folder / file.name).symlink_to(file)  # some are large
    files = sorted(f for f in folder.iterdir() if f.name != "pipeline.yaml")
    text = [f for f in files if f.suffix not in (".pt", ".safetensors")]
    path = draw.choice(text if text and draw.random() < 0.7 else files)
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    kind = draw.random()
    if kind < 0.08:
        path.unlink()
        made = (lambda: fifo(folder, path.name), path.mkdir, lambda: path.symlink_to(path.name))
        draw.choice((*made, lambda: path.symlink_to("/dev/zero")))()
    elif path.suffix == ".yaml" and kind < 0.85:
        tree = changed_tree(draw, yaml.safe_load(path.read_text()))
        path.write_text(_yaml(draw, tree), errors="surrogatepass")
    elif path.suffix == ".json" and kind < 0.85:
        path.write_text(as_json(changed_tree(draw, json.loads(path.read_text()))))
    elif path.suffix == ".mvn" and kind < 0.8:
        path.write_text(_words(draw, path.read_text()), errors="surrogatepass")
    elif path.suffix == ".pt" and kind < 0.8:
        path.write_bytes(_damaged_pt(draw, path.read_bytes()))
    elif path.suffix == ".safetensors" and kind < 0.8:
        path.write_bytes(_safetensors_header(draw, path.read_bytes()))
    else:
        path.write_bytes(changed_bytes(draw, path.read_bytes()))
    yaml_path = folder / "pipeline.yaml"
    argv = ["run", str(yaml_path), "--output-dir", str(work / "out"), "-q"]
    return Attempt(argv=argv, call=_wrap(yaml_path), folder=work)


def _yaml(draw: Random, tree: Any) -> str:
    if draw.random() < 0.1:
        return draw.choice(
            (
                "a: &a [*a]\n",
                "encoder_conf: " + "[" * 3000 + "\n",
                "[" * 3000 + "]" * 3000,
                "x: !!python/object/apply:os.getcwd []\n",
                "model: 2001-99-99\n",
                "? [a]\n: b\n",
                "? {a: b}\n: c\n",
                "model: 1:99:99\nfs: 0b2\n",
                "b: !!binary '***'\n",
            )
        )
    try:
        return yaml.safe_dump(tree, allow_unicode=True)
    except (yaml.YAMLError, UnicodeError, RecursionError):
        return as_json(tree)


def _words(draw: Random, text: str) -> str:
    words = text.split(" ")
    for _ in range(draw.choice((1, 2, 20))):
        at = draw.randrange(len(words))
        new = draw.choice((*TEXTS, "1e400", "0x10", "1_0", "[", "]", "<Rescale>", "٣"))
        words[at] = new if draw.random() < 0.8 else ""
    return " ".join(words)


def tensors_file(draw: Random, corpus: Path, work: Path) -> Attempt:
    """One file of tensors for a user's own model."""
    for name in ("toy.yaml", "toy_model.py"):
        shutil.copy(corpus / TOY / name, work)
    source = draw.choice(sorted((corpus / TENSORS).iterdir()))
    path = work / source.name
    data = source.read_bytes()
    if draw.random() < 0.3:
        data = changed_bytes(draw, data)
    elif path.suffix == ".safetensors":
        data = _safetensors_header(draw, data)
    else:
        data = _damaged_pt(draw, data)
    path.write_bytes(data)
    if draw.random() < 0.04:
        path.unlink()
        draw.choice((lambda: fifo(work, path.name), path.mkdir, lambda: None))()
    argv = ["run", "toy.yaml", "--trust", "--weights", str(path), "-q"]
    argv += ["--output-dir", str(work / "out")]

    def read() -> None:
        from exporter.config import load_pipeline
        from exporter.graph.wrap import wrap

        wrap(load_pipeline(work / "toy.yaml", trust=True).with_weights(str(path)))

    return Attempt(argv=argv, call=read, folder=work)


def _damaged_pt(draw: Random, data: bytes) -> bytes:
    """A ``.pt`` with another pickle, a storage that is short, or a zip that is none."""
    if draw.random() < 0.25 or not zipfile.is_zipfile(io.BytesIO(data)):
        return changed_bytes(draw, data) if draw.random() < 0.6 else _pickled(draw)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        names = old.namelist()
        pkl = next(name for name in names if name.endswith("data.pkl"))
        target = draw.choice((pkl, pkl, *names))
        for name in names:
            content = old.read(name)
            if name == target:
                if draw.random() < 0.15:
                    continue
                if name == pkl and draw.random() < 0.6:
                    content = _sizes_in_pickle(draw, content)
                elif draw.random() < 0.2:
                    content = _pickled(draw)
                else:
                    content = changed_bytes(draw, content)
            new.writestr(name, content)
    return out.getvalue()


def _pickled(draw: Random) -> bytes:
    import torch

    value = draw.choice(
        (
            evil(draw),
            {"model": evil(draw)},
            {"state_dict": {"a": evil(draw)}},
            {1: torch.ones(1)},
            {"conv.weight": torch.ones(2).to_sparse()},
            {"conv.weight": torch.ones(2, dtype=torch.complex64)},
            {"conv.weight": torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8)},
            torch.nn.Parameter(torch.ones(3)),
            {"conv.weight": torch.empty(16, 16, 3, device="meta")},
            [torch.ones(1)],
        )
    )
    out = io.BytesIO()
    try:
        torch.save(value, out)
    except (UnicodeError, pickle.PicklingError, RecursionError, OverflowError):
        return pickle.dumps(0)
    return out.getvalue()


def _sizes_in_pickle(draw: Random, data: bytes) -> bytes:
    """Numbers of a pickle (offsets, sizes, strides, counts of storages) become others."""
    import pickletools

    places = [
        (at, op.name)
        for op, _, at in pickletools.genops(data)
        if op.name in ("BININT", "BININT1", "BININT2", "BINUNICODE") and at is not None
    ]
    if not places:
        return data
    found = bytearray(data)
    at, name = draw.choice(places)
    size = {"BININT": 4, "BININT1": 1, "BININT2": 2, "BINUNICODE": 4}[name]
    if name == "BININT1" and draw.random() < 0.6:
        number = draw.choice((2**31 - 1, -1, -(2**31), 10**6, 1 << 20))
        found[at : at + 2] = b"J" + struct.pack("<i", number)
    elif name == "BINUNICODE":
        found[at + 5] ^= 1 << draw.randrange(7)
    else:
        found[at + 1 : at + 1 + size] = draw.choice((b"\xff", b"\x7f", b"\0")) * size
    return bytes(found)


def _safetensors_header(draw: Random, data: bytes) -> bytes:
    """Another header in front of the same bytes."""
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    if draw.random() < 0.4:
        entry = header[draw.choice(sorted(k for k in header if k != "__metadata__"))]
        entry["dtype"] = draw.choice(("F64", "BF16", "F8_E4M3", "U64", "BOOL", "X", "C64", "F4"))
        if draw.random() < 0.5:
            entry["shape"] = draw.choice(([], [0], [2**40, 2**40], [-1], [1] * 70, [1e3]))
    else:
        header = changed_tree(draw, header)
    text = as_json(header).encode()
    length = (
        len(text) if draw.random() < 0.85 else draw.choice((0, 2**63, 2**31, len(text) + 10**6))
    )
    return struct.pack("<Q", length) + text + data[8 + size :]
