"""``if size < wanted: x = pad(x, (0, wanted - size))``: padding that a trace keeps, or leaves out.

A trace takes one way of a branch, the example's, and the program is good for sizes that go this
way. Where all that a branch does is to pad, what is padded can be computed instead, and is 0 on the
other way. Two forms are known, in which that is exact:

    if a < b: x = pad(x, (0, b - a))                    x = pad(x, (0, max(b - a, 0)))
    if a % s != 0: x = pad(x, (0, s - a % s))           x = pad(x, (0, (s - a % s) % s))
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from exporter.graph.repairs.frame import Log, Repair
from exporter.graph.repairs.loops import has_loops
from exporter.graph.repairs.model_source import functions_of, recompiled
from exporter.graph.repairs.module_run import ModuleRun

RUNTIME = "_ev_padding"
"""The global name under which a rewritten function finds ``_Padding``."""

Amount = tuple[str, ast.expr, ast.expr]
"""How a test bounds what is padded: "less", a, b; or "rest", a % s, s."""


class _Padding:
    """What a rewritten branch calls."""

    def __init__(self, log: Log):
        self._log = log

    def padded(self, own: Callable[..., Tensor], x: Tensor, pads: Any, *rest: Any) -> Tensor:
        """``own(x, pads, ...)``, the pads of which are 0 where the branch was not taken."""
        if not any(isinstance(each, torch.SymInt) for each in pads):
            return own(x, pads, *rest) if any(pads) else x
        self._log.at("padding in a branch")
        return own(x, pads, *rest)

    @staticmethod
    def less(missing: Any) -> Any:
        """What is missing, if something is."""
        return torch.sym_max(missing, 0)

    @staticmethod
    def rest(missing: Any, step: Any) -> Any:
        """What is missing to a multiple of a step, which is less than the step."""
        return missing % step


def _is_branch(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and _padding_in(node) is not None


def has_branches(source: ast.FunctionDef) -> bool:
    """True for a function with a branch that pads. One with loops is left to their repair."""
    return not has_loops(source) and any(map(_is_branch, ast.walk(source)))


def rewritten(function: ast.FunctionDef) -> ast.FunctionDef | None:
    """A function whose branches that pad are calls; None where it has none."""
    rewriter = _Branches(_remainders(function))
    rewriter.visit(function)
    return ast.fix_missing_locations(function) if rewriter.count else None


def _padding_in(branch: ast.If) -> ast.Call | None:
    """The call of a branch that does nothing but ``x = pad(x, (...))``."""
    if branch.orelse or len(branch.body) != 1 or not isinstance(branch.body[0], ast.Assign):
        return None
    assign = branch.body[0]
    call, (target, *others) = assign.value, assign.targets
    if others or not isinstance(target, ast.Name) or not isinstance(call, ast.Call):
        return None
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name != "pad" or call.keywords or len(call.args) < 2:
        return None
    x, pads = call.args[:2]
    same = isinstance(x, ast.Name) and x.id == target.id
    return call if same and isinstance(pads, (ast.Tuple, ast.List)) else None


def _remainders(function: ast.FunctionDef) -> dict[str, ast.BinOp]:
    """Names that a function sets once, to a remainder."""
    remainders: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            remainders.setdefault(node.targets[0].id, []).append(node.value)
    return {
        name: values[0]
        for name, values in remainders.items()
        if len(values) == 1 and _is_remainder(values[0])  # type: ignore[misc]
    }


def _is_remainder(node: ast.expr) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod)


def _same(a: ast.AST, b: ast.AST) -> bool:
    return ast.dump(a) == ast.dump(b)


class _Branches(ast.NodeTransformer):
    def __init__(self, remainders: dict[str, ast.BinOp]):
        self.remainders = remainders
        self.count = 0

    def visit_If(self, node: ast.If) -> ast.stmt:
        self.generic_visit(node)
        call = _padding_in(node)
        amount = None if call is None else self._amount(node.test)
        if call is None or amount is None:
            return node
        pads: Any = call.args[1]
        known = [self._pad(each, amount) for each in pads.elts]
        made = [each for each in known if each is not None]
        if len(made) != len(known):
            return node
        self.count += 1
        parts = [call.func, call.args[0], ast.Tuple(made, ast.Load()), *call.args[2:]]
        assign: Any = node.body[0]
        assign.value = ast.copy_location(_call("padded", *parts), call)
        return assign

    def _amount(self, test: ast.expr) -> Amount | None:
        """What a test says of sizes, if it is one of the known ones."""
        negated = False
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            negated, test = True, test.operand
        if self._is_rest(test):
            return None if negated else self._rest(test)
        if not isinstance(test, ast.Compare) or len(test.ops) != 1:
            return None
        left, right, op = test.left, test.comparators[0], type(test.ops[0])
        if self._is_rest(left) and isinstance(right, ast.Constant) and right.value == 0:
            known = (ast.Eq,) if negated else (ast.NotEq, ast.Gt)
            return self._rest(left) if op in known else None
        if negated:
            return None
        if op in (ast.Lt, ast.LtE):
            return "less", left, right
        return ("less", right, left) if op in (ast.Gt, ast.GtE) else None

    def _is_rest(self, node: ast.expr) -> bool:
        return _is_remainder(node) or (isinstance(node, ast.Name) and node.id in self.remainders)

    def _rest(self, node: ast.expr) -> Amount:
        whole: Any = self.remainders[node.id] if isinstance(node, ast.Name) else node
        return "rest", node, whole.right

    def _pad(self, pad: ast.expr, amount: Amount) -> ast.expr | None:
        """What is padded at one end, whichever way the branch goes; None: it is not known."""
        if isinstance(pad, ast.Constant) and pad.value == 0:
            return pad
        kind, less, more = amount
        if not isinstance(pad, ast.BinOp) or not isinstance(pad.op, ast.Sub):
            return None
        if not _same(pad.left, more) or not _same(pad.right, less):
            return None
        return _call("less", pad) if kind == "less" else _call("rest", pad, more)


def _call(name: str, *args: ast.expr) -> ast.Call:
    return ast.Call(ast.Attribute(ast.Name(RUNTIME, ast.Load()), name, ast.Load()), list(args), [])


@contextlib.contextmanager
def _apply(run: ModuleRun, log: Log) -> Iterator[None]:
    with recompiled(run, has_branches, rewritten, **{RUNTIME: _Padding(log)}):
        yield


REPAIR = Repair(
    name="padding_branches",
    replaces="what is padded is computed from the sizes, without a branch",
    strategy="padding in branches computed from sizes",
    matches=lambda run: any(True for _ in functions_of(run, has_branches)),
    apply=_apply,
    frees=True,
)
