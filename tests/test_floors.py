"""Who may import whom. A row of the house imports only from rows above it, and from itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "exporter"
MAX_LINES = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """A row: its modules, and the third-party packages that it may import anywhere in a file."""

    name: str
    modules: frozenset[str]
    packages: frozenset[str]


def floor(name: str, modules: str, packages: str) -> Floor:
    return Floor(
        name=name, modules=frozenset(modules.split()), packages=frozenset(packages.split())
    )


ANY = "*"
FLOORS = (
    floor("core", "core", "filelock numpy pydantic"),
    floor("config", "config", "pydantic yaml"),
    floor("cache", "cache", "numpy"),
    floor("parity", "parity", "ml_dtypes numba numpy"),
    floor("cases", "cases", "kaldiio numpy pydantic safetensors soundfile"),
    floor("drivers", "drivers", "numpy"),
    floor("metrics", "metrics", "jiwer numpy"),
    floor("speech", "speech", "numpy torch silero_vad"),
    floor("models", "models", ANY),
    floor("draft", "draft", "numpy torch"),
    floor(
        "graph",
        "graph",
        "google ml_dtypes numpy onnx onnx_ir onnxscript onnxsim pydantic safetensors torch",
    ),
    floor("interpret", "interpret", "numba numpy torch"),
    floor("features", "features", "numpy soundfile torch"),
    floor("execution", "execution", "ml_dtypes numpy onnx onnxruntime safetensors torch"),
    floor("joining", "joining", "numpy onnx"),
    floor("build", "build", "onnx onnx_ir torch"),
    floor(
        "records",
        "report.schema report.safe_text report.environment report.deployments report.digest"
        " report.beside report.overall_verdict report.comparison report.system"
        " report.system_verdict",
        "pandas pydantic",
    ),
    floor("judge", "judge", "numpy onnx onnx_ir torch"),
    floor("contracts", "contracts", "numpy onnx onnx_ir torch pydantic"),
    floor("golden", "golden", "numpy onnx pydantic safetensors torch"),
    floor("report", "report", "bokeh jinja2 markupsafe numpy plotly pydantic rich"),
    floor("debugging", "debugging", "numpy onnx onnx_ir rich safetensors torch"),
    floor("lowering", "lowering", "numpy onnx onnx_ir scipy"),
    floor("systems", "systems", "numpy pydantic sentencepiece tokenizers torch"),
    floor("monitor", "monitor", "jinja2 markupsafe numpy prometheus_client pydantic safetensors"),
    floor("flows", "flows", "numpy onnx onnx_ir torch yaml"),
    floor("matrix", "matrix", "covertable dask distributed jinja2 numpy packaging psutil pydantic"),
    floor(
        "outside",
        "commands cli pytest_plugin runtime __init__ __main__",
        "click numpy onnx onnx_ir pytest rich torch",
    ),
)
"""Top to bottom. Every module has a floor that is named here: there is no "everything else"."""

# `import exporter`, `--help`, YAML errors and judging saved figures must not pay for these.
HEAVY = frozenset(
    {"torch", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "onnxsim", "funasr", "numba"}
)
LIGHT = frozenset(
    {"__init__", "__main__", "core", "config", "parity", "golden"}
    | {"cache", "cases", "cli", "commands", "report"}
)
RUNS_FILES = frozenset(
    f"golden.{name}"
    for name in (
        *("check", "compare_graph", "compare_interface", "judge_file", "observe"),
        *("record", "record_file", "whole"),
    )
)
"""The part of a light floor that opens ONNX files; the rest of it judges what is saved."""
COMPILED = "parity.compiled_loops"
"""Loads numba when it is imported; whoever needs it imports it inside of a function."""
PACKAGE_OF = {"google": "protobuf", "onnxruntime": "onnxruntime-gpu", "yaml": "pyyaml"}
"""Name of an import -> name on the package index, where they differ."""
ONLY_IMPORTERS = {"onnxruntime": "execution", "onnxsim": "graph", "click": "outside"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One import statement: ``module`` is dotted; ``top`` is True outside of functions."""

    module: str
    line: int
    top: bool


def imports_of(source: str) -> Iterator[Import]:
    """Yield what a file imports, except under ``if TYPE_CHECKING``."""
    waiting: list[tuple[ast.AST, bool]] = [(ast.parse(source), True)]
    while waiting:
        node, top = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module=alias.name, line=node.lineno, top=top)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write the import out in full"
            for alias in node.names:
                # `from exporter import graph` imports a floor as well.
                parent = str(node.module)
                # `from exporter.parity import compiled_loops` imports a file.
                is_file = parent.startswith("exporter.") and (
                    PACKAGE.parent.joinpath(*parent.split("."), f"{alias.name}.py").is_file()
                )
                whole = node.module == "exporter" or is_file
                module = f"{parent}.{alias.name}" if whole else parent
                yield Import(module=module, line=node.lineno, top=top)
        inside = top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        waiting += [(child, inside) for child in ast.iter_child_nodes(node)]


def floor_of(module: str) -> int:
    """Index of the row of ``exporter.<module>``; a file that a row names goes before its folder."""
    dotted = module.split(".")
    for end in range(len(dotted), 0, -1):
        for index, row in enumerate(FLOORS):
            if ".".join(dotted[:end]) in row.modules:
                return index
    raise AssertionError(f"name the floor of exporter.{module} in tests/test_floors.py")


def problems_of(module: str, source: str) -> Iterator[str]:
    """Yield what is wrong with the imports of a file of ``exporter.<module>``."""
    index = floor_of(module)
    row = FLOORS[index]
    light = module.partition(".")[0] in LIGHT and module not in {COMPILED, *RUNS_FILES}
    for item in imports_of(source):
        first, _, rest = item.module.partition(".")
        if first == "exporter":
            if not rest or rest.startswith("_"):
                continue
            if item.top and light and rest.startswith(COMPILED):
                yield f"line {item.line}: {COMPILED} at import time; import it inside the function"
            target = floor_of(rest)
            if target > index:
                yield (
                    f"line {item.line}: {row.name} must not import {item.module} "
                    f"({FLOORS[target].name} is below it)"
                )
        elif first not in sys.stdlib_module_names and first != "__future__":
            if ANY not in row.packages and first not in row.packages:
                yield f"line {item.line}: {row.name} must not import {first}"
            if ONLY_IMPORTERS.get(first, row.name) != row.name:
                yield f"line {item.line}: only {ONLY_IMPORTERS[first]} may import {first}"
            if item.top and first in HEAVY and light:
                yield f"line {item.line}: {first} at import time; import it inside the function"


def files() -> list[Path]:
    found = sorted(PACKAGE.rglob("*.py"))
    assert len(found) > 20
    return found


def test_every_file_imports_only_from_floors_above():
    problems = []
    for path in files():
        relative = path.relative_to(PACKAGE)
        module = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
        problems += [
            f"exporter/{relative}: {problem}"
            for problem in problems_of(module, path.read_text(encoding="utf-8"))
        ]
    assert not problems, "\n".join(problems)


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Modules that reach themselves by imports, each group once (Tarjan, 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in sorted(edges.get(name, ())):
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            group = stack[stack.index(name) :]
            del stack[-len(group) :]
            if len(group) > 1 or name in edges.get(name, ()):
                found.append(sorted(group))

    for name in sorted(edges):
        if name not in order:
            visit(name)
    return found


def edges_of(sources: dict[str, str]) -> dict[str, set[str]]:
    """Who imports whom, inside functions and for type checkers too."""
    edges: dict[str, set[str]] = {name: set() for name in sources}
    for name, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            parents: list[str] = []
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("exporter"):
                base = str(node.module).removeprefix("exporter").removeprefix(".")
                inside = [f"{base}.{alias.name}".removeprefix(".") for alias in node.names]
                parents = [held if held in sources else base for held in inside]
            elif isinstance(node, ast.Import):
                parents = [alias.name.removeprefix("exporter.") for alias in node.names]
            edges[name] |= {held for held in parents if held in sources and held != name}
    return edges


def test_no_module_reaches_itself_by_imports():
    found = circles(edges_of({module_of(p): p.read_text(encoding="utf-8") for p in files()}))
    assert not found, f"import one another: {found}"


@pytest.mark.parametrize(
    ("sources", "found"),
    [
        (
            {"a": "from exporter import b", "b": "def f():\n    from exporter.a import x"},
            ["a", "b"],
        ),
        (
            {
                "a": "if TYPE_CHECKING:\n    from exporter.b import x",
                "b": "import exporter.c",
                "c": "from exporter.a import y",
            },
            ["a", "b", "c"],
        ),
        ({"a": "from exporter import b", "b": "import torch"}, None),
    ],
)
def test_a_circle_is_found_wherever_it_hides(sources, found):
    assert circles(edges_of(sources)) == ([found] if found else [])


def test_a_module_without_a_floor_is_found():
    with pytest.raises(AssertionError, match="name the floor of exporter"):
        floor_of("loose")


@pytest.mark.parametrize(
    ("module", "source", "said"),
    [
        ("parity", "import torch", "parity must not import torch"),
        ("config", "from exporter.parity import compare", "is below it"),
        ("config", "from exporter import graph", "is below it"),
        ("graph", "def f():\n    import onnxruntime", "only execution may import onnxruntime"),
        ("models", "import onnxruntime as ort", "only execution may import onnxruntime"),
        ("flows.run", "import onnxruntime", "only execution may import onnxruntime"),
        ("commands", "import torch", "import it inside the function"),
        ("cli", "class A:\n    import onnx", "import it inside the function"),
        ("report.html", "from exporter.flows.run import run", "is below it"),
        ("report.schema", "from exporter.report.html import render", "is below it"),
        ("report.markdown", "import torch", "import it inside the function"),
        ("parity", "import numba", "import it inside the function"),
        ("parity", "from exporter.parity import compiled_loops", "import it inside the function"),
        ("speech", "import funasr", "speech must not import funasr"),
    ],
)
def test_a_wrong_import_is_found(module, source, said):
    assert any(said in problem for problem in problems_of(module, source))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("execution", "import onnxruntime"),
        ("commands", "def f():\n    import torch"),
        ("core.errors", "if TYPE_CHECKING:\n    import torch"),
        ("parity", "from exporter.core.errors import EXIT_PASS\nimport numpy as np"),
    ],
)
def test_a_right_import_is_not(module, source):
    assert list(problems_of(module, source)) == []


def test_every_imported_package_is_declared():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    declared = project["project"]["dependencies"]
    declared += sum(project["project"]["optional-dependencies"].values(), [])
    names = {re.split(r"[\[<>=~! ]", line)[0].lower().replace("_", "-") for line in declared}
    # What cannot be declared, because its pins contradict ours, is installed by name.
    script = (PACKAGE.parent / "scripts" / "install-upstream").read_text(encoding="utf-8")
    by_name = set(re.findall(r"^(\w+)=\(", script, re.MULTILINE))
    assert by_name == {"moshi", "transformers", "speechbrain"}
    names |= by_name
    imported = {
        item.module.partition(".")[0] for path in files() for item in imports_of(path.read_text())
    }
    third = imported - sys.stdlib_module_names - {"exporter", "__future__"}
    missing = {
        package
        for package in third
        if not names & {PACKAGE_OF.get(package, package).lower().replace("_", "-")}
    }
    assert not missing


def test_no_file_is_longer_than_400_lines():
    long = {
        str(path.relative_to(PACKAGE)): count
        for path in files()
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }
    assert not long


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "misc"])
def test_no_file_is_named_for_nothing(name):
    assert not [path for path in files() if path.stem == name]


def test_light_modules_really_load_nothing_heavy():
    light = sorted(LIGHT - {"__main__", "__init__"})
    heavy = sorted({COMPILED, *RUNS_FILES})
    code = (
        "import importlib, pkgutil, sys, exporter\n"
        f"for name in {light!r}:\n"
        "    module = importlib.import_module(f'exporter.{name}')\n"
        "    folder = getattr(module, '__path__', [])\n"
        "    for file in pkgutil.walk_packages(folder, f'exporter.{name}.'):\n"
        f"        if file.name.removeprefix('exporter.') not in {heavy!r}:\n"
        "            importlib.import_module(file.name)\n"
        f"print(sorted(set(sys.modules) & {set(HEAVY)!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_plain_onnxruntime_is_not_installed_beside_the_gpu_one():
    from importlib.metadata import PackageNotFoundError, version

    assert version("onnxruntime-gpu")
    with pytest.raises(PackageNotFoundError):
        version("onnxruntime")
