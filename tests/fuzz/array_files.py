"""Files of arrays, which a case's input may come from."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np

from tests.fuzz.attempt import Attempt, fifo
from tests.fuzz.corpus import ARRAYS, TOY
from tests.fuzz.mutate import TEXTS, changed_bytes

_NAMES = ("x.npy", "x.npz", "x.safetensors", "x.ark", "text.ark", "packed.ark")
_HEADS = (
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4000000000, 4000000000), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
    "{'descr': [('a', '<f4')], 'fortran_order': 1, 'shape': (1,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1.5,), }",
    "__import__('os').system('id')",
    "{" * 5000,
)


def array_file(draw: Random, corpus: Path, work: Path) -> Attempt:
    """A file of arrays: damaged, of another ending, with a head that lies, or no file at all."""
    name = draw.choice(_NAMES)
    data = (corpus / ARRAYS / name).read_bytes()
    path = work / (name if draw.random() < 0.9 else draw.choice(_NAMES))
    kind = draw.random()
    if kind < 0.6:
        data = changed_bytes(draw, data)
    elif kind < 0.75:
        head = (draw.choice(_HEADS) + "\n").encode()
        data = b"\x93NUMPY\x01\x00" + np.uint16(len(head)).tobytes() + head + data[-64:]
    elif kind < 0.9:
        # Fields of a binary head, where absurd sizes stand.
        edited = bytearray(data)
        at = draw.randrange(min(len(data) - 4, 64))
        edited[at : at + 4] = draw.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"))
        data = bytes(edited)
    path.write_bytes(data)
    if draw.random() < 0.05:
        path = draw.choice((fifo(work, "fifo.npy"), work, Path("/dev/zero")))
    key = draw.choice((None, "x", "other", "", "absent", *TEXTS[:3]))
    held = {"file": str(path)} | ({} if key is None else {"key": key})
    tree = {"name": "held", "inputs": {"x": held}}
    text = (corpus / TOY / "toy.yaml").read_text()
    start = text.index("cases:")
    text = f"{text[:start]}cases: [{json.dumps(tree)}]\n"
    pipeline = work / "pipeline.yaml"
    pipeline.write_text(text, errors="surrogatepass")
    (work / "toy_model.py").write_bytes((corpus / TOY / "toy_model.py").read_bytes())
    argv = ["run", str(pipeline), "--trust", "--output-dir", str(work / "out"), "-q"]

    def read() -> None:
        from exporter.cases.array_file import read_array

        read_array(path, key)

    return Attempt(argv=argv, call=read, folder=work)
