"""Files are written in one way, ``exporter.core.files``: whole or not at all, under their names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "exporter"
THE_ONE = "core/files.py"
INSIDE = {"replacing", "temporary_folder", "TemporaryDirectory"}
"""What is written in a block of one of these has no name yet, or none that stays."""
ALLOWED = {
    ("cache/copying.py", "_cloned"): "writes the part that its only caller is replacing",
    ("cache/copying.py", "_linked"): "the same",
    ("cache/store.py", "Store._move_in"): "moves a whole folder into place",
    ("cache/store.py", "Store._remove"): "moves a whole folder away",
    ("contracts/onnx_side.py", "exported.make"): "into a temporary folder that is kept open",
    ("core/disk.py", "writable_folder"): "a probe of its own name, taken away again",
    ("execution/trial.py", "_write_job"): "into a temporary folder of its only caller",
    ("execution/releases.py", "_run"): "into a temporary folder of its only caller",
    (
        "graph/copy_with_digest.py",
        "copy_and_digest",
    ): "writes the part that its only caller is replacing",
    (
        "graph/onnx_file_writer.py",
        "_write_beside",
    ): "writes the part that its only caller is replacing",
    ("monitor/kept.py", "Kept.settle"): "a request changes its folder by its name",
    ("monitor/log.py", "RequestLog.add"): "a log that is full becomes the older one",
    ("monitor/spool.py", "Spool.add"): "into memory",
    ("monitor/spool.py", "take"): "a request changes its state by its name",
    ("joining/evaluate.py", "Values._keep"): "into a temporary folder of its caller",
}
_CALLS = {
    *("os.replace", "os.rename", "os.link", "os.symlink", "shutil.move", "shutil.copy"),
    *("shutil.copy2", "shutil.copyfile", "shutil.copytree", "tempfile.mkstemp"),
    *("tempfile.NamedTemporaryFile", "tempfile.mkdtemp", "tempfile.TemporaryDirectory"),
    *("onnx.save", "onnx.save_model", "ir.save", "torch.save", "np.save", "np.savez"),
    *("np.savez_compressed", "save_file"),
}
_METHODS = {"write_text", "write_bytes", "rename", "hardlink_to", "symlink_to"}


def writes(call: ast.Call) -> bool:
    """Whether a call makes or changes a file by itself."""
    name = ast.unparse(call.func)
    if name in _CALLS:
        return True
    method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    # str.replace has two arguments, Path.replace one.
    if method in _METHODS or (method == "replace" and len(call.args) == 1 and not call.keywords):
        return True
    if method != "open" and name != "open":
        return False
    given = [*call.args[0 if method else 1 :], *(k.value for k in call.keywords)]
    modes = [a.value for a in given if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return any(set(mode) & set("wax+") for mode in modes if set(mode) <= set("rwaxbt+"))


def strays(source: str) -> Iterator[tuple[str, int]]:
    """Function and line of every such call that no block guards."""

    def walk(node: ast.AST, names: tuple[str, ...], guarded: bool) -> Iterator[tuple[str, int]]:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = (*names, node.name)
        if isinstance(node, ast.With):
            guards = {ast.unparse(i.context_expr).partition("(")[0] for i in node.items}
            guarded = guarded or bool({g.rpartition(".")[2] for g in guards} & INSIDE)
        if isinstance(node, ast.Call) and writes(node) and not guarded:
            yield ".".join(names), node.lineno
        for child in ast.iter_child_nodes(node):
            yield from walk(child, names, guarded)

    yield from walk(ast.parse(source), (), False)


def found() -> dict[tuple[str, str], list[int]]:
    """File and function -> lines."""
    held: dict[tuple[str, str], list[int]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        file = path.relative_to(PACKAGE).as_posix()
        for name, line in strays(path.read_text(encoding="utf-8")):
            held.setdefault((file, name), []).append(line)
    return {key: lines for key, lines in held.items() if key[0] != THE_ONE}


def test_nobody_writes_a_file_under_its_name():
    assert {key: lines for key, lines in found().items() if key not in ALLOWED} == {}


def test_every_exception_is_still_one():
    assert set(ALLOWED) <= set(found())


@pytest.mark.parametrize(
    "source",
    [
        "def f(path):\n    path.write_text('x')",
        "def f(path):\n    (path / 'a').write_bytes(b'x')",
        "def f(path):\n    path.open('w').write('x')",
        "def f(path):\n    open(path, mode='ab')",
        "def f(a, b):\n    os.replace(a, b)",
        "def f(a, b):\n    a.replace(b)",
        "def f(a, b):\n    onnx.save(a, b)",
        "def f():\n    tempfile.NamedTemporaryFile(delete=False)",
        "def f(path):\n    with path.open('wb') as stream:\n        pass",
    ],
)
def test_a_stray_is_found(source: str):
    assert [name for name, _ in strays(source)] == ["f"]


@pytest.mark.parametrize(
    "source",
    [
        "def f(path):\n    with replacing(path) as part:\n        part.write_text('x')",
        "def f(path):\n    with replacing(path) as part, part.open('wb') as stream:\n        pass",
        "def f():\n    with temporary_folder() as folder:\n        (folder / 'x').write_text('x')",
        "def f(path):\n    write_text(path, 'x')",
        "def f(path):\n    return path.open('rb'), open(path), 'a'.replace('a', 'b')",
        "def f(value):\n    return dataclasses.replace(value, level='x')",
    ],
)
def test_what_is_right_is_not(source: str):
    assert not list(strays(source))
