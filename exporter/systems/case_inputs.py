"""What the cases of a system give: one array for every input that no graph and no driver gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from exporter.cases.load import load_cases
from exporter.config.driver import Loop, called_graphs
from exporter.config.system import System
from exporter.core.errors import ConfigError
from exporter.core.tensors import Case, TensorSpec
from exporter.systems.opened import OpenedGraph, own_inputs

TOKENS = "tokens"
"""What ``expect_empty`` of a case calls the hypothesis."""


def case_specs(system: System, graphs: Mapping[str, OpenedGraph]) -> dict[str, TensorSpec]:
    """Specs of what a case gives, by name; an input of several graphs is one, and shared.

    Raises:
        ConfigError: graphs take inputs of one name that are not alike.
    """
    own, given = own_inputs(system.driver), set()
    specs: dict[str, TensorSpec] = {}
    for name in called_graphs(system.driver):
        graph = graphs[name]
        for spec in graph.inputs:
            fed = f"{name}.{spec.name}" in system.driver.feed or spec.name in given
            if fed or (name, spec.name) in own or spec.name in graph.states.values():
                continue
            other = specs.setdefault(spec.name, spec)
            if (other.dtype, len(other.shape)) != (spec.dtype, len(spec.shape)):
                raise ConfigError(
                    f"the graphs take different inputs that are called '{spec.name}':"
                    f" {other.dtype} {list(other.shape)} and {spec.dtype} {list(spec.shape)}",
                    where=system.where("graphs"),
                    remedy="say with 'feed' which graph gives one of them",
                )
        given |= {spec.name for spec in graph.outputs}
        if isinstance(system.driver, Loop) and name == system.driver.estimator:
            given |= {graphs[after].inputs[0].name for after in system.driver.after[:1]}
    return specs


def system_cases(
    system: System, graphs: Mapping[str, OpenedGraph], names: Sequence[str]
) -> tuple[Case, ...]:
    """Cases by name, as arrays.

    Raises:
        ConfigError, AudioError: as ``exporter.cases.load.load_cases``.
    """
    specs = case_specs(system, graphs)
    pipelines = [graph.pipeline for graph in graphs.values()]
    # Their own inputs and axes together: what a case leaves out is drawn as those say.
    inputs = {key: item for one in pipelines for key, item in one.inputs.items() if key in specs}
    sizes = {size for item in inputs.values() for size in item.shape}
    axes = {key: item for one in pipelines for key, item in one.axes.items() if key in sizes}
    first = next(
        (one for one in pipelines if set(one.inputs) & set(inputs)),
        graphs[called_graphs(system.driver)[0]].pipeline,
    )
    update = {"inputs": inputs, "axes": axes, "outputs": _outputs(graphs)}
    stand_in = system.on_cases(first.model_copy(update=update))
    return load_cases(stand_in, tuple(specs.values()), names)


def _outputs(graphs: Mapping[str, OpenedGraph]) -> tuple[str, ...]:
    """What ``expect_empty`` may name: the hypothesis, outputs, and ``graph.output``."""
    ports = [(name, spec.name) for name, graph in graphs.items() for spec in graph.outputs]
    return (TOKENS, *(port for _, port in ports), *(f"{name}.{port}" for name, port in ports))
