"""Loops of a function's source as calls: ``for t in range(n): ...`` as a turn that is called.

    for t in range(x.shape[1]):                    over = range(x.shape[1]), not yet run
        h = self.cell(x[:, t], h)                  def turn(t, h): ...; return [h], [h]
        hidden.append(h)                           h, hidden = turns(over, turn, h, hidden)

What a turn reads and changes is handed on from turn to turn; what it appends to a list comes out in
one value with the turns in front. Only the source is read here; ``loops`` says which loops of a
model run this way, and what a turn's calls mean.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Sequence
from typing import Any

RUNTIME = "_ev_turns"
"""The global name under which a rewritten function finds ``loop_turns.Turns``."""
_LOCAL = "_ev_of_turn"
"""The same inside of a turn: torch's ``scan`` knows modules by their names alone, of which a
process may have had several."""


def rewritten(function: ast.FunctionDef) -> ast.FunctionDef | None:
    """A function with its loops as calls; None where it has none that could be.

    The function is changed in place.
    """
    rewriter = _Loops(function)
    rewriter.rewrite(function.body)
    return function if rewriter.count else None


def _names(nodes: Sequence[ast.AST], kind: type) -> Iterator[ast.Name]:
    for node in nodes:
        for each in ast.walk(node):
            if isinstance(each, ast.Name) and isinstance(each.ctx, kind):
                yield each


class _Loops:
    """The loops of one function, the outer ones."""

    def __init__(self, function: ast.FunctionDef):
        self.function = function
        self.count = 0
        self.nested = False

    def rewrite(self, body: list[ast.stmt]) -> None:
        """Rewrite loops in a block, and in the blocks of its branches."""
        for at, statement in enumerate(body):
            if isinstance(statement, ast.For):
                made = self._loop(statement, body[at + 1 :])
                if made is not None:
                    body[at : at + 1] = made
                    self.count += 1
                    self.rewrite(body[at + len(made) :])
                    return
            elif not isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
                nested, self.nested = self.nested, self.nested or isinstance(statement, ast.While)
                for part in ("body", "orelse", "finalbody"):
                    self.rewrite(getattr(statement, part, []))
                self.nested = nested

    def _loop(self, loop: ast.For, behind: Sequence[ast.stmt]) -> list[ast.stmt] | None:
        leaves = (ast.Break, ast.Continue, ast.Return, ast.Yield, ast.YieldFrom, ast.Await)
        inside = [node for part in loop.body for node in ast.walk(part)]
        if loop.orelse or any(isinstance(node, (*leaves, ast.FunctionDef)) for node in inside):
            return None
        appended = _appended(loop.body)
        if appended is None:
            return None
        turn = [_Appends(appended).visit(copy.deepcopy(each)) for each in loop.body]
        turn = [_Items().visit(each) for each in turn]
        targets = {name.id for name in _names([loop.target], ast.Store)}
        stored = {name.id for name in _names(turn, ast.Store)}
        kept = stored - targets - {_value(name) for name in appended}
        own = {id(node) for node in inside}
        read_later = {
            name.id
            for name in _names([self.function], ast.Load)
            if id(name) not in own and (self.nested or name.lineno > loop.lineno)
        } - _set_first(behind)
        before = {each.arg for each in ast.walk(self.function.args) if isinstance(each, ast.arg)}
        before |= {
            name.id
            for name in _names([self.function], ast.Store)
            if id(name) not in own and (self.nested or name.lineno < loop.lineno)
        }
        first_read = _read_first(turn)
        carried = sorted(name for name in kept if name in first_read)
        last = sorted(name for name in kept if name in read_later and name not in first_read)
        if not before.issuperset(carried):
            return None
        return _calls(loop, turn, carried, sorted(appended), last)


def _value(name: str) -> str:
    return f"_ev_to_{name}"


def _appended(body: Sequence[ast.stmt]) -> set[str] | None:
    """Lists that each turn appends one item to; None where one gets items in another way."""
    calls: list[Any] = [statement for statement in body if _is_append(statement)]
    lists = [call.value.func.value.id for call in calls]
    anywhere = [
        node.func.value.id
        for statement in body
        for node in ast.walk(statement)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("append", "extend", "insert", "pop")
        and isinstance(node.func.value, ast.Name)
    ]
    if sorted(anywhere) != sorted(lists) or len(set(lists)) != len(lists):
        return None
    return set(lists)


def _is_append(node: ast.stmt) -> bool:
    call = node.value if isinstance(node, ast.Expr) else None
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "append"
        and isinstance(call.func.value, ast.Name)
        and len(call.args) == 1
        and not call.keywords
    )


def _read_first(body: Sequence[ast.stmt]) -> set[str]:
    """Names that a turn reads before it has surely set them."""
    names: set[str] = set()
    known: set[str] = set()
    for statement in body:
        assigns = isinstance(statement, (ast.Assign, ast.AnnAssign, ast.Expr))
        names |= {name.id for name in _names([statement], ast.Load)} - known
        if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
            names |= {statement.target.id} - known
        if assigns:
            known |= {name.id for name in _names([statement], ast.Store)}
    return names


def _set_first(statements: Sequence[ast.stmt]) -> set[str]:
    """Names that a block sets before it reads them."""
    names: set[str] = set()
    read: set[str] = set()
    for statement in statements:
        read |= {name.id for name in _names([statement], ast.Load)}
        if isinstance(statement, ast.Assign):
            names |= {name.id for name in _names(statement.targets, ast.Store)} - read
    return names


class _Appends(ast.NodeTransformer):
    """``items.append(x)`` as ``to_items = x``; ``out[t] = x`` as a call that returns ``out``."""

    def __init__(self, lists: set[str]):
        self.lists = lists

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        if not _is_append(node):
            return node
        call: ast.Call = node.value  # type: ignore[assignment]
        name = _value(call.func.value.id)  # type: ignore[attr-defined]
        return ast.Assign([ast.Name(name, ast.Store())], call.args[0], lineno=node.lineno)

    def visit_Assign(self, node: ast.Assign) -> ast.stmt:
        target = node.targets[0]
        if len(node.targets) != 1 or not isinstance(target, ast.Subscript):
            return node
        if not isinstance(target.value, ast.Name):
            return node
        name = target.value.id
        call = _call("put", ast.Name(name, ast.Load()), _index(target.slice), node.value)
        return ast.Assign([ast.Name(name, ast.Store())], call, lineno=node.lineno)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
        if not isinstance(node.target, ast.Name):
            return node
        read = ast.Name(node.target.id, ast.Load())
        value = ast.BinOp(read, node.op, node.value)
        return ast.Assign([node.target], value, lineno=node.lineno)


class _Items(ast.NodeTransformer):
    """``x[:, t]`` as a call, in which ``t`` may be a number in a tensor."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        self.generic_visit(node)
        if not isinstance(node.ctx, ast.Load) or isinstance(node.slice, ast.Constant):
            return node
        return _call("pick", node.value, _index(node.slice))


def _index(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.Tuple):
        return ast.Tuple([_index(each) for each in node.elts], ast.Load())
    if not isinstance(node, ast.Slice):
        return node
    low, high = node.lower, node.upper
    if (
        low is not None
        and node.step is None
        and isinstance(high, ast.BinOp)
        and isinstance(high.op, ast.Add)
        and ast.dump(high.left) == ast.dump(low)
    ):
        return _call("Span", low, high.right)
    parts = [each or ast.Constant(None) for each in (low, high, node.step)]
    return ast.Call(ast.Name("slice", ast.Load()), parts, [])


def _call(name: str, *args: ast.expr) -> ast.Call:
    return ast.Call(ast.Attribute(ast.Name(_LOCAL, ast.Load()), name, ast.Load()), list(args), [])


def _runtime(name: str) -> ast.Attribute:
    return ast.Attribute(ast.Name(RUNTIME, ast.Load()), name, ast.Load())


class _Ranges(ast.NodeTransformer):
    """``range(n)`` and ``x.unbind(0)`` in the head of a loop as calls that do not yet count."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in ("range", "enumerate", "zip"):
            # As the model's own code finds it: another repair may have its own there.
            node.args = [node.func, *node.args]
            node.func = _runtime(f"over_{node.func.id}")
        elif isinstance(node.func, ast.Attribute) and node.func.attr == "unbind":
            base = node.func.value
            if isinstance(base, ast.Name) and base.id == "torch":
                return ast.Call(_runtime("over_unbind"), node.args, node.keywords)
            return ast.Call(_runtime("over_unbind"), [base, *node.args], node.keywords)
        return node


def _calls(
    loop: ast.For,
    turn: list[ast.stmt],
    carried: Sequence[str],
    appended: Sequence[str],
    last: Sequence[str],
) -> list[ast.stmt]:
    """The statements that stand in the place of a loop."""
    number = loop.lineno
    over, name, items = f"_ev_over_{number}", f"_ev_turn_{number}", f"_ev_items_{number}"
    outputs = [*(_value(each) for each in appended), *last]
    text = f"""
{over} = None
if {RUNTIME}.follows({over}, {number}):
    {_LOCAL} = {RUNTIME}.of_turn
    def {name}({items}, {", ".join(carried)}):
        pass
        return [{", ".join(carried)}], [{", ".join(outputs)}]
    [{", ".join(carried)}], [{", ".join(outputs)}] = {RUNTIME}.run(
        {over}, {name}, [{", ".join(carried)}], {[*carried]!r}, {len(outputs)})
else:
    pass
"""
    made: Any = _at(number, text)
    assign, branch = made
    assign.value = _Ranges().visit(copy.deepcopy(loop.iter))
    inner = branch.body[1]
    taken = ast.Assign([loop.target], ast.Name(items, ast.Load()), lineno=number)
    inner.body[0:1] = [taken, *turn]
    for each in appended:
        branch.body += _at(number, f"{each} = {RUNTIME}.joined({each}, {_value(each)})")
    for each in last:
        branch.body += _at(number, f"{each} = {each}[-1]")
    loop.iter = ast.Name(over, ast.Load())
    branch.orelse = [loop]
    return [_placed(statement) for statement in (assign, branch)]


def _placed(statement: ast.stmt) -> ast.stmt:
    """A statement in which every node has a line, and ends no earlier than it begins."""
    ast.fix_missing_locations(statement)
    for node in ast.walk(statement):
        parent: Any = node
        if not hasattr(node, "lineno"):
            continue
        if (parent.end_lineno or 0, parent.end_col_offset or 0) < (
            parent.lineno,
            parent.col_offset,
        ):
            parent.end_lineno, parent.end_col_offset = parent.lineno, parent.col_offset
    return statement


def _at(number: int, text: str) -> list[ast.stmt]:
    """Statements that stand in one line of the model's file."""
    made = ast.parse(text).body
    for node in (node for statement in made for node in ast.walk(statement)):
        if hasattr(node, "lineno"):
            node.lineno = node.end_lineno = number  # type: ignore[attr-defined]
    return made
