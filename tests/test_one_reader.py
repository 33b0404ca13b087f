"""ONNX files come in by one door, ``exporter.graph.onnx_file``, where bad ones are refused."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "exporter"
THE_ONE = "graph/onnx_file.py"
ALLOWED = {
    "graph/contents.py": "digests of the bytes, read without loading weights; refuses alike",
    "execution/repro.py": "copied into bundles, runs without this package",
}
_CALLS = ("onnx.load", "onnx.load_model", "onnx.load_from_string", "ir.load", "onnx_ir.load")


def strays(source: str) -> Iterator[int]:
    """Lines that make a model of a file's bytes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            parses = name.endswith((".ParseFromString", "ModelProto.FromString"))
            if name in _CALLS or parses or name.endswith(".MergeFromString"):
                yield node.lineno


def test_nobody_else_parses_a_model():
    found = {}
    for path in PACKAGE.rglob("*.py"):
        if lines := list(strays(path.read_text(encoding="utf-8"))):
            found[path.relative_to(PACKAGE).as_posix()] = lines
    assert found.keys() == {THE_ONE, *ALLOWED}, found


@pytest.mark.parametrize(
    "source",
    [
        "onnx.load(p)",
        "ir.load(p)",
        "onnx.ModelProto.FromString(b)",
        "ModelProto().ParseFromString(b)",
    ],
)
def test_a_stray_is_found(source: str):
    assert list(strays(f"def f(p, b):\n    {source}")) == [2]


def test_other_readers_are_not():
    source = "torch.load(p)\nnp.load(p)\nonnx.TensorProto.FromString(b)\nread_model(p)"
    assert not list(strays(source))
