"""No string is parsed that this program wrote for people: what code needs is a code or a field.

Rewording a message must not change what a run does. Every file of the package is searched for
string operations on what looks like a sentence:

    reason.startswith("shape")          a method that takes a string apart, on a word for prose
    "exported.onnx" in error.detail     a search in one
    text == "the layer as a whole"      a comparison with a literal that is a phrase
    value.partition(" = ")              a separator that only sentences have
    case.name.endswith("+1")            a name that was put together for people

What others wrote (torch, onnxruntime, onnx, pydantic, YAML, the operating system) may have to be
parsed, as they give no codes: ``FOREIGN`` lists where, each with the source and why.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "exporter"

TAKES_APART = frozenset(
    "startswith endswith split rsplit partition rpartition removeprefix removesuffix find rfind"
    " index rindex count".split()
)
SEARCHES = frozenset("match search fullmatch findall finditer split sub".split())
PROSE = frozenset(
    "reason detail problem why note notes text message said what remedy headline advice error"
    " observed limit shown sentence title words remark summary doubt line".split()
)
"""Last words of a name or an attribute that holds something for people to read."""
NAMED_FOR_PEOPLE = frozenset({("case", "name"), ("link", "name"), ("result", "name")})
RENDERS = frozenset("where label text describe render shown str explain".split())
"""Methods and functions that give something for people to read."""

OF_TORCH = frozenset({"torch."})
"""In front of torch's names of dtypes: ``str(dtype)`` is how they are asked for."""
_USER = "what a user wrote in a YAML or gave as an option"
_TORCH = "torch: its errors have a class for all of it, and the text tells which"
FOREIGN: dict[str, str] = {
    "core/disk.py:size_in_bytes": _USER,
    "config/load.py:_weights": _USER,
    "config/load_system.py:load_graph": _USER,
    "draft/guess.py:_try": "a module that refuses: numbers in what it says are tried, not believed",
    "draft/guess.py:_take_named": "a module that refuses: parameters that it names are tried",
    "models/factory.py:_state": _USER,
    "models/binding.py:_hints": "a user's annotation that Python cannot evaluate",
    "models/weights.py:resolve_weights": _USER,
    "models/weights.py:_download": _USER,
    "models/settings.py:memory_named": "torch: on the CPU its message alone says so",
    "config/error_messages.py:explain": "pydantic: members of a union fail alike, one message each",
    "config/error_messages.py:_words": "pydantic: its message, put into words of the YAML",
    "contracts/dtype/onnx.py:_named_in": "onnx: the checker's message alone names the node",
    "core/disk.py:disk_error": "the operating system's error inside of another library's",
    "execution/onnx_runs.py:stopped_by": "onnxruntime: its message alone names the node",
    "execution/ort_session.py:missing_library": "the dynamic loader: which library it misses",
    "report/environment.py:cpu_flags": "Linux: /proc/cpuinfo",
    "golden/compare_interface.py:_port_differences": "the placeholder of an axis without a name",
    "graph/capture.py:write": "torch: what it prints beside an error",
    "graph/capture.py:capture": "torch: the first paragraph of a refusal is the refusal",
    "commands/_options.py:axis_size": _USER,
    "flows/init_file.py:_identifier": "names of axes in a file of somebody else's",
    "flows/init_yaml.py:_quoted": "names of inputs and outputs in a file of somebody else's",
    "joining/interface_inputs.py:_size": "names of axes in a file of somebody else's",
    "joining/interface_inputs.py:_values": "names of inputs in a file of somebody else's",
    "graph/node_origin.py:_with_classes": "torch's exporter: names and classes, in metadata",
    "graph/torch_refusal.py:refusal_of": _TORCH,
    "graph/torch_refusal.py:freezes_an_axis": _TORCH,
    "graph/torch_refusal.py:lacks_kernel": _TORCH,
    "graph/torch_refusal.py:untranslated_op": _TORCH,
    "graph/torch_refusal.py:line_in": _TORCH,
    "interpret/eager_float64.py:_has_no_kernel": _TORCH,
    "models/weights.py:read_pt": _TORCH,
    "models/checkpoint_funasr.py:_tokens_of_text": "FunASR: a list of tokens, one a line",
    "models/factory_uses.py:_heard": "Python: the event of a file that is opened",
    "models/factory_uses.py:_imports": "Python: a dotted name",
    "report/html.py:_inline": "JavaScript of a library",
}
"""``file:function`` -> whose words they are, and why there is no code to ask for."""


def last_word(node: ast.expr) -> str:
    """``reason`` of ``self.verdict.reason``; "" for what has no name."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def is_prose(node: ast.expr) -> bool:
    """True for an expression that, by its name, holds a sentence."""
    if isinstance(node, ast.Subscript):
        return is_prose(node.value)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("lower", "strip", "upper"):
            return is_prose(node.func.value)
        return last_word(node.func) in RENDERS
    if isinstance(node, ast.Attribute):
        owner = last_word(node.value)
        if (owner, node.attr) in NAMED_FOR_PEOPLE:
            return True
    return last_word(node).strip("_") in PROSE


def is_phrase(node: ast.expr) -> bool:
    """True for a literal of several words, or an f-string with blanks between its parts."""
    if isinstance(node, ast.Tuple | ast.Set | ast.List):
        return any(is_phrase(item) for item in node.elts)
    if isinstance(node, ast.JoinedStr):
        return any(is_phrase(item) for item in node.values)
    text = node.value if isinstance(node, ast.Constant) else None
    return isinstance(text, str) and " " in text


def parses_prose(node: ast.AST) -> bool:
    """True for one expression that takes apart, searches or compares a sentence."""
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        if any(isinstance(op, ast.In | ast.NotIn) for op in node.ops):
            empty = isinstance(sides[0], ast.Constant) and not sides[0].value
            return is_phrase(sides[0]) or (is_prose(sides[-1]) and not empty)
        equal = any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops)
        return equal and any(is_phrase(side) for side in sides)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    name, of = node.func.attr, node.func.value
    if isinstance(of, ast.Name) and of.id == "re":
        return name in SEARCHES and any(is_prose(given) for given in node.args[1:])
    if name in ("match", "search", "fullmatch", "findall", "finditer"):
        return any(is_prose(given) for given in node.args)
    if name not in TAKES_APART or isinstance(of, ast.Constant) or not node.args:
        return False
    if isinstance(node.args[0], ast.Constant) and node.args[0].value in OF_TORCH:
        return False
    return is_prose(of) or any(is_phrase(given) for given in node.args)


def found_in(source: str) -> Iterator[tuple[str, int, str]]:
    """(function, line, expression) of what parses a sentence."""

    def visit(node: ast.AST, function: str) -> Iterator[tuple[str, int, str]]:
        if isinstance(node, ast.FunctionDef):
            function = node.name
        if parses_prose(node):
            yield function, node.lineno, ast.unparse(node)  # type: ignore[attr-defined]
            return
        for child in ast.iter_child_nodes(node):
            yield from visit(child, function)

    yield from visit(ast.parse(source), "")


def all_found() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE)
        for function, line, text in found_in(path.read_text(encoding="utf-8")):
            found.setdefault(f"{name}:{function}", []).append(f"line {line}: {text}")
    return found


def test_nothing_that_this_program_wrote_for_people_is_parsed():
    found = {place: texts for place, texts in all_found().items() if place not in FOREIGN}
    assert not found, "carry a code or a field instead:\n" + "\n".join(
        f"{place}: {'; '.join(texts)}" for place, texts in found.items()
    )


def test_every_exception_is_still_needed():
    assert not set(FOREIGN) - set(all_found())


@pytest.mark.parametrize(
    "source",
    [
        # Each of these stood in the package once.
        "def f(error):\n    return 'exported.onnx' in error.detail",
        "m.problem.startswith(('missing in the float64', 'float64 shape'))",
        "self.case.name.endswith(f'{STEP}1')",
        "link.name.startswith('layers: ')",
        "name = result.name.partition('.')[0]",
        "value.partition(' = ')[2]",
        "file = pipeline.where().partition(':')[0]",
        "title = first.text.split(';')[0]",
        "whole = f.node == 'the layer as a whole'",
        "bad = any(item.what == 'missing in ONNX' for item in found)",
        "here = [r for r in results if r.link.endswith(f' -> {label}')]",
        "front = f'{expected} -> {actual}' in names",
        "float(first.rpartition(' ')[2])",
        "baked = '=' not in d.expected and 'is declared dynamic but is' in problem",
        "re.search('node (.*)', error.message)",
        "_NODE.search(message)",
        "str(error).startswith('stage')",
        # And these are other ways to the same.
        "verdict.reason.removeprefix('shape change: ')",
        "'float64' in self.verdict.reason",
        "note.split(' and ')",
        "row.verdict == 'not run'",
        "report.headline.find('stopped')",
    ],
)
def test_a_parsed_sentence_is_found(source: str):
    assert list(found_in(source))


@pytest.mark.parametrize(
    "source",
    [
        "module.startswith(f'{path}.')",
        "op.removeprefix('aten.').removesuffix('.default')",
        "kinds = 'Cast Split Concat'.split()",
        "name in known",
        "verdict.status is Status.FAIL",
        "link.kind == LAYERS",
        "text = ' '.join(str(error).split())",
        "first = str(error).splitlines()[0]",
        "dtype = str(value.dtype).removeprefix('torch.')",
        "path.name.endswith('.onnx')",
    ],
)
def test_an_identifier_may_be_taken_apart(source: str):
    assert not list(found_in(source))
