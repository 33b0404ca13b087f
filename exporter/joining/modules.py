"""Which module of the model a value belongs to, as far as a file says so."""

from __future__ import annotations

from exporter.graph.index import GraphIndex
from exporter.graph.node_origin import module_of


def modules_of(graph: GraphIndex) -> dict[str, str]:
    """Module path of values, as exporters have written it onto nodes or into names."""
    modules = {}
    for node in graph.nodes:
        if module := module_of(node):
            modules.update(dict.fromkeys(filter(None, node.output), module))
    return modules
