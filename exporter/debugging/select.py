"""What the user calls a layer -> the module paths and taps that are meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from exporter.core.errors import UserInputError
from exporter.core.tensors import PlannedTap
from exporter.debugging.pair import Pair

_WILD = frozenset("*?[")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTaps:
    """A part of the model: what it is called, and its taps in program order."""

    name: str
    taps: tuple[PlannedTap, ...]


def find_layer(pair: Pair, text: str) -> LayerTaps:
    """Resolve a module path, a tap name, an ONNX node or value name, or a glob of any of these.

    A module path stands for all that is below it. Exact names go before globs.

    Raises:
        UserInputError: nothing is called so; the nearest names are listed.
    """
    planned = pair.planned
    text = text.strip()
    root = [t for t in planned if _inside(t.tap.module, text)] if text else []
    if root:
        return LayerTaps(name=text, taps=tuple(root))
    tap = [t for t in planned if text in (t.tap.name, t.onnx_name)]
    if tap:
        return LayerTaps(name=text, taps=tuple(tap))
    names = onnx_names(pair)
    if text in names:
        return LayerTaps(name=text, taps=_by_onnx_name(planned, names[text]))
    if _WILD & set(text):
        tap_names = {
            t.tap.name
            for t in planned
            if any(fnmatchcase(name, text) for name in (*_paths(t), t.tap.name, t.onnx_name))
        }
        values = {v for name, vs in names.items() if fnmatchcase(name, text) for v in vs}
        tap_names |= {t.tap.name for t in _by_onnx_name(planned, values)}
        if tap_names:
            return LayerTaps(name=text, taps=tuple(t for t in planned if t.tap.name in tap_names))
    raise UserInputError(
        f"no layer is called '{text}'",
        where="--layer",
        remedy=_nearest(text, planned, names),
    )


def layer_of_module(pair: Pair, module: str) -> LayerTaps:
    """All taps of exactly one module (not of what is below it)."""
    taps = tuple(t for t in pair.planned if t.tap.module == module)
    return LayerTaps(name=module, taps=taps)


def onnx_names(pair: Pair) -> dict[str, tuple[str, ...]]:
    """ONNX node and value names of the file -> taps of the pieces that hold them."""
    graph, cut = pair.actual, pair.cut
    reached: dict[int, dict[str, None]] = {}
    for index in range(len(graph.nodes) - 1, -1, -1):
        ends: dict[str, None] = {}
        for value in graph.nodes[index].output:
            if value in cut:
                ends[value] = None
                continue
            for user in graph.consumers.get(value, ()):
                ends.update(reached.get(user, {}))
        reached[index] = ends
    names: dict[str, tuple[str, ...]] = {}
    for index, node in enumerate(graph.nodes):
        for name in (node.name, *node.output):
            if name and reached[index]:
                names.setdefault(name, tuple(reached[index]))
    return names


def _inside(module: str, path: str) -> bool:
    return module == path or module.startswith(f"{path}.")


def _paths(tap: PlannedTap) -> Iterable[str]:
    """The module path of a tap and all paths above it."""
    parts = tap.tap.module.split(".")
    return (".".join(parts[: end + 1]) for end in range(len(parts)))


def _by_onnx_name(planned: tuple[PlannedTap, ...], names: Iterable[str]) -> tuple[PlannedTap, ...]:
    wanted = set(names)
    return tuple(t for t in planned if t.onnx_name in wanted)


def _nearest(text: str, planned: tuple[PlannedTap, ...], names: dict[str, tuple[str, ...]]) -> str:
    modules = list(dict.fromkeys(path for tap in planned for path in _paths(tap) if path))
    near = difflib.get_close_matches(text, modules, 3, 0.6)
    others = [*dict.fromkeys(t.tap.name for t in planned), *names]
    near += [n for n in difflib.get_close_matches(text, others, 3, 0.6) if n not in near]
    if near:
        return f"did you mean: {', '.join(near[:4])}"
    top = dict.fromkeys(path for path in modules if path.count(".") < 2)
    return f"layers begin with: {', '.join(list(top)[:12])}"
