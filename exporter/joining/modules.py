"""Which module of the model a value belongs to, as far as a file says so."""

from __future__ import annotations

from exporter.graph.index import GraphIndex
from exporter.graph.node_origin import origin_of


def modules_of(graph: GraphIndex) -> dict[str, str]:
    """Module path of values, as torch's exporters have written it onto nodes or into names."""
    modules = {}
    for node in graph.nodes:
        origin = origin_of(node)
        for name in filter(None, node.output):
            module = origin.module if origin is not None else legacy_scope(name)
            if module:
                modules[name] = module
    return modules


def legacy_scope(name: str) -> str:
    """``/model/blocks.1/q/Add_output_0`` as ``model.blocks.1.q``; "" of other names."""
    if not name.startswith("/"):
        return ""
    parts = name.split("/")[1:-1]
    scopes: list[str] = []
    for part in parts:
        # Lists of modules are written twice: /blocks/blocks.1
        if scopes and part.startswith(scopes[-1] + "."):
            scopes.pop()
        scopes.append(part)
    return ".".join(scopes)
